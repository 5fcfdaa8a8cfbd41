"""Two hosts on one machine: network namespaces that a cable joins, and that are gone when the test is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

_HOLD = "import sys; print('here', flush=True); sys.stdin.read()"


class Host:
    """One host. It has its own loopback and one interface, and reaches the other host alone."""

    def __init__(self, stack: ExitStack, name: str, address: str) -> None:
        self.name, self.address = name, address
        held = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        stack.callback(held.wait)
        stack.enter_context(held.stdout)  # type: ignore[arg-type] - it is a pipe
        stack.enter_context(held.stdin)  # type: ignore[arg-type] - closed first: then it ends
        assert held.stdout is not None
        if held.stdout.readline() != b"here\n":
            pytest.skip("this kernel gives no network of its own")
        self.pid = held.pid

    def program(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` on this host; it has the same process id."""
        return ["nsenter", "--target", str(self.pid), "--net", "--", *argv]

    def ip(self, *words: str) -> None:
        done = subprocess.run(self.program(["ip", *words]), capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this kernel has no such network: ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Give two hosts with a cable between them; skip where that can't be had."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs root, unshare(1), nsenter(1) and iproute2, for hosts of its own")
    with ExitStack() as stack:
        near, far = Host(stack, "near0", "10.77.0.1"), Host(stack, "far0", "10.77.0.2")
        near.ip("link", "add", near.name, "type", "veth", "peer", "name", far.name, "netns", str(far.pid))
        for host in (near, far):
            host.ip("address", "add", f"{host.address}/24", "dev", host.name)
            host.ip("link", "set", host.name, "up")
            host.ip("link", "set", "lo", "up")
        yield near, far
