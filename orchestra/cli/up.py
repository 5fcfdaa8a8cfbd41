"""`orchestra up`: a hub and two agents on this machine, with one command."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import click

from orchestra.address import Address, Kind
from orchestra.ending import how_ended
from orchestra.state import StateFolder, default_folder, this_operator

from .shared import FAILED, fail, say, state_option, with_client

_AGENTS: Final = ("exec-1", "exec-2")
_QUEUE: Final = "default"
_START_S: Final = 30.0
_TAKEN: Final = "none: its port is another program's (see above); choose one with --gateway-port"
_STOP_S: Final = 45.0  # longer than an agent drains


@click.command()
@state_option
@click.option(
    "--host",
    envvar="ORCHESTRA_HOST",
    default=None,
    help="Address to listen on; 0.0.0.0 lets other machines in.  [env: ORCHESTRA_HOST]  [default: 127.0.0.1]",
)
@click.option(
    "--port",
    envvar="ORCHESTRA_PORT",
    default=None,
    help="TCP port; 0 takes a free one.  [env: ORCHESTRA_PORT]  [default: 7420]",
)
@click.option(
    "--durability",
    envvar="ORCHESTRA_DURABILITY",
    type=click.Choice(["full", "fast"]),
    default=None,
    help="full survives a power cut, fast any crash of a process.  [env: ORCHESTRA_DURABILITY]  [default: full]",
)
@click.option(
    "--gateway-port",
    envvar="ORCHESTRA_GATEWAY_PORT",
    default=None,
    help="Port for browsers and WebSockets; 0 takes a free one.  [env: ORCHESTRA_GATEWAY_PORT]  [default: 8080]",
)
@click.option(
    "--no-gateway",
    is_flag=True,
    envvar="ORCHESTRA_NO_GATEWAY",
    help="Serve neither browsers nor WebSockets.  [env: ORCHESTRA_NO_GATEWAY]",
)
@click.option("-v", "--verbose", is_flag=True, help="Show what the hub and the agents log.")
def up(
    state: Path | None,
    host: str | None,
    port: str | None,
    durability: str | None,
    gateway_port: str | None,
    no_gateway: bool,
    verbose: bool,
) -> None:
    """Start a hub and two agents here, until Ctrl-C.

    The agents run the commands that you submit, in your name: they take tasks from your key alone.
    """
    folder = StateFolder((state or default_folder()).absolute())
    common = ["--state", str(folder.path), "--stop-with-stdin", "--log-level", "info" if verbose else "warning"]
    chosen = {"--host": host, "--port": port, "--durability": durability, "--gateway-port": gateway_port}
    hub_options = [word for name, value in chosen.items() if value is not None for word in (name, value)]
    hub_options += ["--no-gateway"] if no_gateway else []
    operator = this_operator()
    with ExitStack() as stack:
        # SIGTERM ends it as Ctrl-C does: through the stack, which stops what was started.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        hub = stack.enter_context(_Child("the hub", "orchestra.hub.cli", [*common, *hub_options]))
        served = hub.wait_ready().removeprefix("hub ready: ").split()
        endpoints = [each for each in served if not each.startswith("http")]
        agents = [
            stack.enter_context(
                _Child(
                    f"agent/{name}",
                    "orchestra.agents.cli",
                    [name, "--queue", _QUEUE, "--runner", "exec", "--accept-from", str(operator), *common],
                )
            )
            for name in _AGENTS
        ]
        for agent in agents:
            agent.wait_ready()
        try:
            page = "off" if no_gateway else _page(folder, operator) if len(served) > len(endpoints) else _TAKEN
            _print_summary(folder, endpoints, page, operator)
            ended = _wait_for_an_end([hub, *agents])
        except KeyboardInterrupt:
            say("\nstopping; running tasks may finish")
            return
        say(f"{ended.name} has ended ({how_ended(ended.status)}); stopping the rest")
        sys.exit(FAILED)


class _Child(ExitStack):
    """A program of ours that ends with us: its standard input is a pipe that we hold."""

    def __init__(self, name: str, module: str, options: Sequence[str]) -> None:
        super().__init__()
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *options],  # -P: no file of the current folder is a module
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; we tell the children in order
            text=True,
        )
        self.callback(self._stop)

    @property
    def status(self) -> int:
        """Its exit code, below 0 a signal; waits until it has ended."""
        return self._process.wait()

    @property
    def descriptor(self) -> int:
        """Readable once the child has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def wait_ready(self) -> str:
        """Return the line the child prints when it is ready; if it ends instead, end as it did."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START_S)
        line = self._process.stdout.readline().strip() if readable else ""
        if not line:
            if readable:
                sys.exit(self._process.wait())  # it has said why
            fail(f"{self.name} is not ready after {_START_S:.0f} s; see what it logs with -v", FAILED)
        return line

    def _stop(self) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
        process.stdout.close()


def _wait_for_an_end(children: Sequence[_Child]) -> _Child:
    by_descriptor = {child.descriptor: child for child in children}
    readable, _, _ = select.select(list(by_descriptor), [], [])
    child = by_descriptor[readable[0]]
    os.read(child.descriptor, 1)
    return child


def _as_typed() -> str:
    """Return how this program is called: by its name where the PATH finds it, otherwise as it was typed."""
    typed = Path(sys.argv[0])
    found = shutil.which("orchestra")
    if typed.name != "orchestra" or (found and Path(found).samefile(typed)):
        return "orchestra"
    return sys.argv[0]


def _page(folder: StateFolder, operator: Address) -> str:
    """Return the link that signs this user in at the live page, once."""
    made = with_client(folder.path, str(operator), lambda client: client.call("token.code"))
    return f"{made['url']}\n          (signs you in, once; for another: {_as_typed()} page)"


def _print_summary(folder: StateFolder, endpoints: Sequence[str], page: str, operator: Address) -> None:
    name = click.style
    agents = " and ".join(str(Address(Kind.AGENT, each)) for each in _AGENTS)
    is_found = folder.path == Path(os.environ.get("ORCHESTRA_STATE") or default_folder()).absolute()
    with_state = "" if is_found else f" --state {folder.path}"
    program = _as_typed()
    click.echo(f"""
{name("The orchestra is up.", bold=True)}

  {name("hub", fg="cyan")}     {endpoints[-1]}  (encrypted; on this machine also {endpoints[0].split(":")[0]})
  {name("agents", fg="cyan")}  {agents} serve queue/{_QUEUE}
          (they run commands from {operator} alone)
  {name("state", fg="cyan")}   {folder.path}
  {name("page", fg="cyan")}    {page}

Now, in another terminal:

  {program} task submit --wait{with_state} -- git log --oneline -3
  {program} status{with_state}
  {program} send {operator} "hello"{with_state}

Ctrl-C stops everything.""")
