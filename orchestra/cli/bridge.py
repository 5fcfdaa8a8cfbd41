"""`orchestra bridge`: the way over from what came before."""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from pathlib import Path

import click

from orchestra.address import parse_peer
from orchestra.state import StateFolder, default_folder, this_operator

from . import logs
from .group import Group
from .shared import FAILED, fail, service_options, state_option

_FOLDER = click.Path(path_type=Path, file_okay=False)
_PROGRAM = "orchestra.agents.ferry"  # a string, because nothing here may import an upper floor


@click.group(cls=Group)
def bridge() -> None:
    """Let old programs and new ones work together while you move."""


@bridge.command()
@click.option("--inbox", type=_FOLDER, required=True, help="Folder with a folder of task files for each old agent.")
@click.option("--outbox", type=_FOLDER, required=True, help="Folder with a folder of result files for each old agent.")
@click.option(
    "--agent-map",
    default="",
    show_default="agent/N for each folder N",
    help="Who does the tasks of which folder: 1=coder-1,2=queue/review. Other folders are left alone.",
)
@click.option(
    "--serve",
    multiple=True,
    help="An old agent that does tasks of the hub: 3=old-3 or 3=old-3+queue/review; may be repeated.",
)
@click.option("--owner", default=None, show_default="who runs the bridge", help="The user whose files are taken.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    default=None,
    help="The bridge's last day: it warns daily from two weeks before, and refuses to start after.",
)
@click.option(
    "--as",
    "address",
    envvar="ORCHESTRA_ADDRESS",
    default=None,
    show_default="your operator address",
    help="Peer that submits the tasks.  [env: ORCHESTRA_ADDRESS]",
)
@service_options
@state_option
def files(
    inbox: Path,
    outbox: Path,
    agent_map: str,
    serve: tuple[str, ...],
    owner: str | None,
    until: datetime | None,
    address: str | None,
    log_level: str,
    stop_with_stdin: bool,
    state: Path | None,
) -> None:
    """Take the task files of old orchestrators into the hub, and answer with result files.

    \b
    orchestra bridge files --inbox INBOX --outbox OUTBOX --agent-map 1=coder-1,2=queue/review
    orchestra bridge files --inbox INBOX --outbox OUTBOX --serve 3=old-3
    """
    logs.set_up(log_level)
    try:
        program = import_module(_PROGRAM)
    except ModuleNotFoundError as exc:
        if exc.name != "watchfiles":
            raise
        fail("the bridge needs the package watchfiles; run: pip install 'agent-orchestra[files]'", FAILED)
    program.run(
        state=StateFolder(state or default_folder()),
        address=parse_peer(address) if address else this_operator(),
        inbox=inbox,
        outbox=outbox,
        agent_map=agent_map,
        serve=serve,
        owner=owner,
        until=None if until is None else until.date(),
        stop_with_stdin=stop_with_stdin,
    )
