"""Commands that belong together: how they are listed, found, and loaded on use."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from .shared import Program

_SENTENCE_CHARS_MAX = 200  # one sentence of a list; it is wrapped, not cut


class Group(Program):
    """A group that lists each command with a whole sentence, and names the nearest where a name is wrong."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name[:1].isalnum() and self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.sentence(ctx, name)) for name in self.list_commands(ctx)])

    def sentence(self, ctx: click.Context, name: str) -> str:
        """Return what the command `name` does, in one sentence."""
        command = self.get_command(ctx, name)
        assert command is not None
        return command.get_short_help_str(_SENTENCE_CHARS_MAX)


class LazyGroup(Group):
    """A group that imports a command when it is used.

    `table` says for each name where it is (`module:attribute`, beside this file) and its sentence.
    """

    def __init__(self, *, table: Mapping[str, tuple[str, str]], **rest: Any) -> None:
        super().__init__(**rest)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._table:
            return None
        module, attribute = self._table[name][0].split(":")
        command = getattr(import_module(f".{module}", __package__), attribute)
        assert isinstance(command, click.Command)
        return command

    def sentence(self, ctx: click.Context, name: str) -> str:
        return self._table[name][1]
