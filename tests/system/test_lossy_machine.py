"""The tests of a bad network once more, where the kernel itself drops and delays packets. Only in `tox -e faults`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import BOUND_S

# The first needs a kernel module that many machines lack; the second drops what does not fit through a thin line.
LINES = {
    "loss": "netem delay 5ms 5ms loss 2% duplicate 1% reorder 10%",
    "thin": "tbf rate 8mbit burst 20kb limit 40kb",
}
TESTS = Path(__file__).with_name("test_bad_network.py")
REPOSITORY = TESTS.parent.parent.parent


@pytest.mark.timeout(20 * BOUND_S)
@pytest.mark.parametrize("line", LINES)
def test_all_holds_where_the_kernel_drops_packets(pytestconfig: pytest.Config, tmp_path: Path, line: str) -> None:
    if pytestconfig.getoption("faults") < 2:
        pytest.skip("only with more faults than usual: tox -e faults")
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "tc"))):
        pytest.skip("needs root, unshare(1) and iproute2, for a network of its own")
    prepare = f"ip link set lo up mtu 1500 && tc qdisc add dev lo root {LINES[line]}"
    tried = subprocess.run(["unshare", "-n", "sh", "-c", prepare], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this kernel has no such line: {tried.stderr.strip()}")
    pytest_here = [sys.executable, "-m", "pytest", str(TESTS), "-q", "-c", str(REPOSITORY / "pyproject.toml")]
    ran = subprocess.run(
        ["unshare", "-n", "sh", "-c", f'{prepare} && exec "$@"', "sh", *pytest_here, "--basetemp", str(tmp_path / "t")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
