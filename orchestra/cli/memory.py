"""`orchestra memory`: what outlives a session, in one SQLite file of the clone. Needs no hub; messages wait for one."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from .shared import Program

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "learn": ("jot:learn", "Keep something that was learned."),
    "issue": ("issue:issue", "Report something that is broken; list, promote and close issues."),
    "message": ("message:message", "Send a message to other matrices, and read what came."),
    "save": ("jot:save", "Keep what this session did, with branch, commits and files."),
    "recall": ("recall:recall", "Find memories again; without a question, where you left off."),
    "list": ("recall:list_", "List memories, the newest first."),
    "stats": ("recall:stats", "Show what the memory holds."),
    "validate": ("tend:validate", "Say that learnings proved true; their confidence rises."),
    "forget": ("tend:forget", "Hide memories from every answer."),
    "distill": ("tend:distill", "Draw learnings out of sessions."),
    "consolidate": ("tend:consolidate", "Find learnings that say the same, and make them one."),
    "export": ("keep:export", "Write the whole memory as JSON Lines."),
    "import": ("keep:import_", "Take in an export, Beads' issues.jsonl, or an agents.db."),
    "purge": ("keep:purge", "Remove memories for good."),
    "doctor": ("keep:doctor", "See whether the memory is whole, and repair it."),
    "reindex": ("keep:reindex", "Make the index anew from what is stored."),
}


class _Lazy(Program):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command = getattr(import_module(f".{module}", __package__), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy)
def memory() -> None:
    """Learnings, issues, messages and sessions of this clone: kept, found again, and yours.

    All of it is in `.orchestra/memory.db` of the clone you are in, made when you first save something. What a command
    says it stored is on the disk.
    """
