"""`orchestra mcp`: the memory and the hub as tools of a model."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from orchestra.mcp.clients import FILES, config_for

from . import logs
from .desk import author_option, desk_at, memory_option, project_option
from .meet import matrix_options
from .shared import FAILED, fail, say


@click.command()
@click.option(
    "--print-config",
    "client",
    type=click.Choice(list(FILES)),
    default=None,
    help="Print what to add to the configuration of this program, and end.",
)
@click.option(
    "--log-level",
    envvar="ORCHESTRA_LOG_LEVEL",
    type=click.Choice(logs.LEVELS),
    default="warning",
    show_default=True,
    help="What is logged on standard error.  [env: ORCHESTRA_LOG_LEVEL]",
)
@matrix_options
@project_option
@author_option
@memory_option
def mcp(
    client: str | None,
    log_level: str,
    name: str | None,
    state: Path | None,
    project: str | None,
    author: str,
    memory: Path | None,
) -> None:
    """Serve the memory of this clone and the hub to a model, by MCP on standard input and output.

    A program such as Claude Code starts it: `orchestra mcp --print-config claude` prints what to add. It works without
    a hub, and meets it when it comes.
    """
    if client is not None:
        click.echo(config_for(client, [*_program(), "mcp", *_chosen(memory=memory, state=state, matrix=name)]))
        say(f"add this to {FILES[client]}; it holds nothing secret")
        return
    if find_spec("mcp") is None:
        fail("the extra for MCP is not installed; run: pip install 'agent-orchestra[mcp]'", FAILED)
    from orchestra.mcp.server import serve

    logs.set_up(log_level)
    with desk_at(memory, project=project) as desk:
        path, project, semantics = desk.store.path, desk.project, desk.semantics
    asyncio.run(serve(path, semantics=semantics, project=project, author=author, name=name, state=state))


def _program() -> list[str]:
    """Return how to start this program from anywhere: a program that starts the server may have another PATH."""
    typed = Path(sys.argv[0])
    return [str(typed.absolute())] if typed.name == "orchestra" else [sys.executable, "-m", "orchestra"]


def _chosen(**options: Path | str | None) -> list[str]:
    """Return the options that were chosen, with paths that hold in any folder."""
    found = []
    for name, value in options.items():
        if value is not None:
            found += [f"--{name}", str(value.absolute()) if isinstance(value, Path) else value]
    return found
