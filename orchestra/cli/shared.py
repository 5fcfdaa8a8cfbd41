"""What all three programs share: the state folder, errors as sentences and exit codes, JSON for machines."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from orchestra import limits
from orchestra.errors import (
    BadAddress,
    BadOption,
    Conflict,
    HubUnreachable,
    InvitationOver,
    KeyFault,
    KeyRefused,
    KeyRevoked,
    NotAllowed,
    NotAsked,
    NotCancelable,
    NotRetryable,
    OrchestraError,
    PortInUse,
    Replaced,
    StateFault,
    TooLarge,
    WrongName,
)

from .logs import LEVELS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from orchestra.aio import Client

T = TypeVar("T")

DONE: Final = 0
FAILED: Final = 1  # nothing found, or the task failed
USAGE: Final = 2
NOT_ALLOWED: Final = 3
UNREACHABLE: Final = 4
CONFLICT: Final = 5
TRY_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h
INTERRUPTED: Final = 130

_EXIT_CODES: Final[tuple[tuple[tuple[type[OrchestraError], ...], int], ...]] = (
    ((KeyRefused, KeyRevoked, InvitationOver, NotAllowed, WrongName, KeyFault), NOT_ALLOWED),
    ((HubUnreachable,), UNREACHABLE),
    ((Replaced, NotCancelable, NotRetryable, NotAsked, Conflict, PortInUse, StateFault), CONFLICT),
    ((BadAddress, BadOption, TooLarge), USAGE),
)


class Duration(click.ParamType[float]):
    """A length of time such as `500ms`, `90s`, `15m`, `8h` or `2d`; a bare number is seconds. Gives seconds."""

    name = "duration"
    _UNITS: Final = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}

    def __init__(self, *, max_s: float = 366 * 86_400.0) -> None:
        self._max_s = max_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            value = str(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|[smhd]?)", value.strip())
        if found is None:
            self.fail(f"{value!r} is not a length of time; write 500ms, 90s, 15m, 8h or 2d", param, ctx)
        seconds = float(found[1]) * self._UNITS[found[2]]
        if not 0 < seconds <= self._max_s:
            self.fail(f"{value} must be more than 0 and at most {self._max_s / 86_400:g} days", param, ctx)
        return seconds


class Moment(click.ParamType[float]):
    """A time of day (today, or tomorrow where it has passed) or a date with a time. Gives seconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        now = datetime.now().astimezone()
        try:
            if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", value):
                hour, minute, *rest = map(int, value.split(":"))
                found = now.replace(hour=hour, minute=minute, second=sum(rest), microsecond=0)
                return (found if found > now else found + timedelta(days=1)).timestamp()
            return datetime.fromisoformat(value).astimezone().timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; write 14:05, or 2026-01-31T14:05", param, ctx)


def exit_code_of(error: OrchestraError) -> int:
    for kinds, code in _EXIT_CODES:
        if isinstance(error, kinds):
            return code
    return TRY_AGAIN if error.is_temporary else FAILED


class Program(click.Group):
    """A group whose errors are one sentence on standard error and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        return _guarded(lambda: super(Program, self).invoke(ctx))


class SingleProgram(click.Command):
    """Like `Program`, for a program without sub-commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return _guarded(lambda: super(SingleProgram, self).parse_args(ctx, args))

    def invoke(self, ctx: click.Context) -> Any:
        return _guarded(lambda: super(SingleProgram, self).invoke(ctx))


def _guarded(run: Callable[[], T]) -> T:
    try:
        return run()
    except OrchestraError as error:
        fail(str(error), exit_code_of(error))
    except click.BadParameter as error:
        raise _range_in_words(error) from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _range_in_words(error: click.BadParameter) -> click.BadParameter:
    """Say what a number must be: click writes `0 is not in the range 1<=x<=9`, or `a valid integer range`."""
    kind = error.param.type if error.param is not None else None
    said = re.match(r"(.+) is not (?:in the range|a valid) ", error.message)
    if said is None or not isinstance(kind, click.IntRange | click.FloatRange):
        return error
    what = "a whole number" if isinstance(kind, click.IntRange) else "a number"
    low = f"more than {kind.min}" if kind.min_open else f"at least {kind.min}"
    high = "" if kind.max is None else f" and at most {kind.max}"
    return click.BadParameter(
        f"{said[1]} must be {what}, {low}{high}", ctx=error.ctx, param=error.param, param_hint=error.param_hint
    )


def enter(program: click.Command, section: str) -> None:
    """Run a program, with the defaults of its table in the configuration file."""
    from .config import load_defaults

    program.main(prog_name=f"orchestra-{section}", default_map=_guarded(lambda: load_defaults(program, section)))


def fail(text: str, code: int) -> NoReturn:
    """End the program with one sentence."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {text}", err=True)
    sys.exit(code)


def text_or_stdin(text: str | None) -> bytes:
    """Return what the user wrote as an argument; without it (or with -) what is piped in."""
    if text not in (None, "-"):
        return text.encode() if text else b""
    if text is None and sys.stdin.isatty():
        raise click.UsageError("write the text as the second argument, or pipe it in")
    return sys.stdin.buffer.read(limits.BODY_BYTES_MAX + 1)  # one more than allowed, so that it is refused and not cut


def say(text: str) -> None:
    """Talk to the person: on standard error, so that standard output holds data only."""
    click.echo(text, err=True)


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="ORCHESTRA_STATE",
        default=None,
        show_default="the user's state folder",
        help="Folder of the hub's database, the keys and the local socket.  [env: ORCHESTRA_STATE]",
    )(command)


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what the long-running programs share: `--log-level` and `--stop-with-stdin`."""
    command = click.option(
        "--stop-with-stdin", is_flag=True, help="Stop when standard input is closed: ends with its parent."
    )(command)
    return click.option(
        "--log-level",
        envvar="ORCHESTRA_LOG_LEVEL",
        type=click.Choice(LEVELS),
        default="info",
        show_default=True,
        help="What is logged on standard error.  [env: ORCHESTRA_LOG_LEVEL]",
    )(command)


def client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--state`, `--as` and `--json`."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)
    command = click.option(
        "--as",
        "address",
        envvar="ORCHESTRA_ADDRESS",
        default=None,
        show_default="your operator, or who this machine joined as",
        help="Peer to act as; its key must be in the state folder.  [env: ORCHESTRA_ADDRESS]",
    )(command)
    return state_option(command)


def with_client(state: Path | None, address: str | None, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Connect, run `work`, and disconnect. Who acts as the matrix of a clone, in it, lets its memory meet the hub."""
    from orchestra import aio

    async def session() -> T:
        async with aio.connect(state=state, address=address) as client:
            if address is not None and address.startswith("matrix/"):
                from .meet import meet_as

                await meet_as(client, state)
            return await work(client)

    return asyncio.run(session())


def print_json(data: Any) -> None:
    """Print one JSON document: `{"schema_version": 1, "data": …}`; bytes become text."""
    click.echo(json.dumps({"schema_version": 1, "data": data}, default=_jsonable, ensure_ascii=False, indent=2))


def print_json_line(data: Any) -> None:
    """Print one of many JSON documents, each on a line of its own."""
    click.echo(json.dumps({"schema_version": 1, "data": data}, default=_jsonable, ensure_ascii=False))


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} can't be shown as JSON")


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not (sys.stderr if stderr else sys.stdout).isatty())


def table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table: drawn on a terminal, tab-separated with a header line where it is piped."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(clean(" ".join(cell.split())) for cell in row))
        return
    console().print(draw(columns, rows))


def draw(columns: list[str], rows: list[list[str]]) -> Table:
    """Return a table as it is drawn on a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(clean(cell)) for cell in row))
    return drawn


def clean(text: str) -> str:
    """Return text of others without the control characters that could drive a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def preview(text: str, chars: int) -> str:
    """Return a text as one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 3] + "..."


def day_and_time(ms: int) -> str:
    """Return when something was, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


def time_and_day(ms: int) -> str:
    """Return when something ends, to the minute."""
    return time.strftime("%H:%M on %d %b", time.localtime(ms / 1000))


def ago(ms: int, *, now_ms: int) -> str:
    """Return how long ago `ms` was, in the largest fitting unit."""
    seconds = max(0, now_ms - ms) / 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
