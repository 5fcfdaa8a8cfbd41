"""`orchestra task submit --from FILE`: many tasks at once."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Final

import click

from orchestra.batch import Line
from orchestra.errors import OrchestraError

from .shared import DONE, FAILED, INTERRUPTED, clean, console, print_json, say, table

if TYPE_CHECKING:
    from orchestra.aio import Client, SubmittedTask, TaskResult

_AT_ONCE: Final = 500  # sends on their way: enough that batches are full


async def submit_all(client: Client, lines: list[Line], *, wait: bool, as_json: bool) -> int:
    """Submit the tasks in their order; return the exit code."""
    seqs: dict[str, int] = {}
    following: list[tuple[Line, SubmittedTask]] = []
    try:
        with _progress("sent", len(lines)) as advance:
            async for line, task in _sent(client, lines, seqs, is_followed=wait):
                if task is not None:
                    following.append((line, task))
                advance()
    except OrchestraError:
        say(f"{len(seqs)} of {len(lines)} tasks are stored; the first refusal ended it")
        raise
    if not wait:
        _tell_stored(lines, seqs, as_json)
        return DONE
    return await _see_all_through(following, as_json)


async def _sent(
    client: Client, lines: list[Line], seqs: dict[str, int], *, is_followed: bool
) -> AsyncIterator[tuple[Line, SubmittedTask | None]]:
    """Send what may be sent together, and give each task as it is stored; `seqs` gets their numbers by id."""
    todo = list(lines)
    while todo:
        count = next((i for i, line in enumerate(todo) if i == _AT_ONCE or any(a not in seqs for a in line.after)), 0)
        ready, todo = todo[: count or len(todo)], todo[count or len(todo) :]
        sending = (_send(client, line, seqs, is_followed) for line in ready)
        answers = await asyncio.gather(*sending, return_exceptions=True)
        for line, answer in zip(ready, answers, strict=True):
            if not isinstance(answer, BaseException):
                seqs[line.id] = answer[0]
                yield line, answer[1]
        refusal = next((each for each in answers if isinstance(each, BaseException)), None)
        if refusal is not None:
            raise refusal


async def _send(
    client: Client, line: Line, seqs: dict[str, int], is_followed: bool
) -> tuple[int, SubmittedTask | None]:
    depends_on = (*line.terms.depends_on, *(seqs[name] for name in line.after))
    terms = replace(line.terms, depends_on=depends_on)
    if not is_followed:
        return await client.store_job(line.to, line.job, priority=line.priority, terms=terms, key=line.key), None
    task = await client.submit_job(line.to, line.job, priority=line.priority, terms=terms, key=line.key)
    return task.seq, task


def _tell_stored(lines: list[Line], seqs: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json([{"id": line.id, "seq": seqs[line.id], "to": line.to} for line in lines])
        return
    first, last = min(seqs.values()), max(seqs.values())
    numbers = f"{first} to {last}" if first != last else f"{first}"
    say(f"{len(lines)} task{'' if len(lines) == 1 else 's'} stored: {numbers}; see: orchestra task list")
    if not sys.stdout.isatty():
        for line in lines:
            click.echo(f"{seqs[line.id]}\t{line.id}")


async def _see_all_through(following: list[tuple[Line, SubmittedTask]], as_json: bool) -> int:
    """Wait until all are over, and show how they ended; return the exit code."""
    try:
        with _progress("done", len(following)) as advance:

            async def end_of(task: SubmittedTask) -> TaskResult:
                result = await task.result()
                advance()
                return result

            results = await asyncio.gather(*(end_of(task) for _, task in following))
    except asyncio.CancelledError:
        say("\nthe tasks go on; see: orchestra task list")
        sys.exit(INTERRUPTED)
    lines = [line for line, _ in following]
    if as_json:
        print_json([_facts(line, result) for line, result in zip(lines, results, strict=True)])
    else:
        rows = [
            [str(result.seq), line.id, result.state.value, clean(str(result.report.get("text", "")))]
            for line, result in zip(lines, results, strict=True)
        ]
        table(["ID", "LINE", "STATE", "WHY"], rows)
        good = sum(1 for result in results if result.is_ok)
        say(f"{good} of {len(results)} task{'' if len(results) == 1 else 's'} completed")
    return DONE if all(result.is_ok for result in results) else FAILED


def _facts(line: Line, result: TaskResult) -> dict[str, Any]:
    return {
        "id": line.id,
        "seq": result.seq,
        "state": result.state.value,
        "attempt": result.attempt,
        "report": result.report,
        "output": result.text,
    }


@contextlib.contextmanager
def _progress(what: str, count: int) -> Iterator[Any]:
    """A bar on standard error where that is a terminal; give what moves it by one."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        job = bar.add_task(what, total=count)
        yield lambda: bar.advance(job)


def read_lines(file: IO[str]) -> list[str]:
    """Read the file of `--from`; text that is no UTF-8 is a usage error."""
    try:
        return file.read().splitlines()
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"{file.name} is not UTF-8: {exc}") from exc
