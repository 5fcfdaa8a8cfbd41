"""`orchestra task`: submit, list, show, watch, answer, cancel, retry."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from orchestra.batch import read_batch
from orchestra.limits import TASK_ATTEMPTS_MAX
from orchestra.task import Priority, TaskState
from orchestra.terms import PLAIN, Terms

from . import inside
from .batch import read_lines, submit_all
from .group import Group
from .shared import (
    DONE,
    FAILED,
    INTERRUPTED,
    Duration,
    Moment,
    ago,
    clean,
    client_options,
    console,
    day_and_time,
    print_json,
    say,
    table,
    with_client,
)

if TYPE_CHECKING:
    from orchestra.aio import Client, SubmittedTask, TaskResult

_IS_COMMAND = "orchestra.is_command"
_OF_A_LINE = (
    "timeout_s", "cwd", "context", "priority", "depends_on", "in_s", "not_before", "expires_s", "max_attempts",
    "backoff_s", "key", "budget",
)  # fmt: skip
_COLOURS = {
    "completed": "green",
    "working": "cyan",
    "input-required": "bright_yellow",
    "blocked": "yellow",
    "scheduled": "yellow",
    "queued": "yellow",
    "failed": "red",
    "dead": "red",
    "canceled": "magenta",
}


@click.group(cls=Group)
def task() -> None:
    """Submit tasks to agents and follow them."""


class _Submit(click.Command):
    """Tells a COMMAND from a PROMPT by the `--` before it, which click itself forgets."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_IS_COMMAND] = "--" in args
        return super().parse_args(ctx, args)


@task.command(cls=_Submit)
@click.argument("words", metavar="PROMPT | -- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--to",
    default="queue/default",
    show_default=True,
    envvar="ORCHESTRA_TO",
    help="agent/NAME or queue/NAME.  [env: ORCHESTRA_TO]",
)
@click.option("--wait", is_flag=True, help="Show the output as it comes, and end with the task.")
@click.option(
    "--timeout", "timeout_s", type=float, default=3600.0, show_default=True, help="Seconds an attempt may take."
)
@click.option(
    "--cwd", default=None, show_default="here for a COMMAND, the agent's for a PROMPT", help="Working directory."
)
@click.option("--context", default="", help="What the program finds in ORCHESTRA_TASK_CONTEXT.")
@click.option(
    "--priority",
    type=click.Choice([each.value for each in Priority]),
    default=None,
    show_default="normal",
    help="What is more urgent is taken first.",
)
@click.option(
    "--depends-on",
    multiple=True,
    type=click.IntRange(1),
    metavar="ID",
    help="A task that must be completed first; may be repeated.",
)
@click.option(
    "--in", "in_s", type=Duration(), default=None, help="Begin after this time at the earliest, such as 90s or 2h."
)
@click.option(
    "--not-before", type=Moment(), default=None, help="Begin then at the earliest: 14:05, or 2026-01-31T14:05."
)
@click.option(
    "--expires", "expires_s", type=Duration(), default=None, help="Give it up when no agent has it after this time."
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1, TASK_ATTEMPTS_MAX),
    default=1,
    show_default=True,
    help="How many attempts may fail.",
)
@click.option(
    "--backoff",
    "backoff_s",
    type=Duration(),
    default=None,
    show_default="1s",
    help="The longest pause after the first failed attempt; it doubles with each, up to a minute or to this.",
)
@click.option("--key", default=None, help="Store it once, also when this is run again with the same KEY.")
@click.option("--budget", default="", help="What it may cost; the program finds it in ORCHESTRA_TASK_BUDGET.")
@click.option(
    "--parent",
    type=click.IntRange(0),
    metavar="ID",
    default=0,
    show_default="the task this runs in",
    envvar="ORCHESTRA_TASK_ID",
    help="The task that this is done for; who cancels that one cancels this too. 0 is none.",
)
@click.option(
    "--from",
    "file",
    type=click.File(encoding="utf-8"),
    default=None,
    help="Submit every line of this file (- is standard input): one JSON object each (docs/operations.md).",
)
@client_options
@click.pass_context
def submit(
    ctx: click.Context,
    words: tuple[str, ...],
    to: str,
    wait: bool,
    timeout_s: float,
    cwd: str | None,
    context: str,
    priority: str | None,
    depends_on: tuple[int, ...],
    in_s: float | None,
    not_before: float | None,
    expires_s: float | None,
    max_attempts: int,
    backoff_s: float | None,
    key: str | None,
    budget: str,
    parent: int,
    file: IO[str] | None,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Give an agent a PROMPT (one text) or, after --, a COMMAND to run.

    \b
    orchestra task submit "Review the open pull requests" --to agent/reviewer
    orchestra task submit --wait -- git log --oneline -3
    orchestra task submit --depends-on 17 --max-attempts 3 -- make deploy
    orchestra task submit --from tasks.jsonl --wait
    """
    is_command = bool(ctx.meta[_IS_COMMAND])
    if ctx.get_parameter_source("parent") is ParameterSource.ENVIRONMENT and not _is_hub_of_this_task(state):
        parent = 0
    if file is not None:
        if words:
            raise click.UsageError("the tasks are in the file of --from; leave the words away")
        for name in _OF_A_LINE:
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = next(each.opts[0] for each in ctx.command.params if each.name == name)
                raise click.UsageError(f"{option} is for one task; with --from say it in the lines of the file")
        lines = read_batch(read_lines(file), to=to, cwd=str(Path.cwd()), parent=parent)
        ctx.exit(with_client(state, address, lambda client: submit_all(client, lines, wait=wait, as_json=as_json)))
    if not words:
        raise click.UsageError('give a prompt ("Review …") or, after --, a command to run')
    if not is_command and len(words) > 1:
        raise click.UsageError(f"a prompt is one text; quote it, or write a command after --: -- {' '.join(words)}")

    if in_s is not None and not_before is not None:
        raise click.UsageError("--in and --not-before say the same thing; give one of them")
    begin = time.time() + in_s if in_s is not None else not_before
    terms = Terms(
        depends_on=tuple(dict.fromkeys(depends_on)),
        max_attempts=max_attempts,
        expires_ms=_ms(expires_s),
        not_before_ms=_ms(begin),
        budget=budget,
        parent=parent,
        **({} if backoff_s is None else _backoff(backoff_s)),
    )

    async def submitting(client: Client) -> int:
        submitted = await client.submit(
            to,
            prompt="" if is_command else words[0],
            argv=words if is_command else (),
            cwd=cwd if cwd is not None else str(Path.cwd()) if is_command else "",
            timeout_s=timeout_s,
            context=context,
            priority=priority,
            terms=terms,
            key=key,
        )
        if wait:
            return await _see_through(submitted, to, as_json)
        if as_json:
            print_json({"seq": submitted.seq, "to": to})
        else:
            click.echo(f"task {submitted.seq} to {to} is stored; follow it with: orchestra task watch {submitted.seq}")
            await _warn_if_nobody_serves(client, to)
        return DONE

    ctx.exit(with_client(state, address, submitting))


@task.command("list")
@click.option("--only", type=click.Choice([each.value for each in TaskState]), default=None, help="Only these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@client_options
@click.pass_context
def list_(
    ctx: click.Context, only: str | None, limit: int, state: Path | None, address: str | None, as_json: bool
) -> None:
    """Show the newest tasks first."""

    async def listing(client: Client) -> list[dict[str, Any]]:
        found = (await client.call("task.list", count=limit, **({"state": only} if only else {})))["tasks"]
        return [_with_job(each) for each in found]

    found = with_client(state, address, listing)
    if as_json:
        print_json(found)
        return
    if not found:
        say("no tasks")
        ctx.exit(FAILED)
    now_ms = time.time_ns() // 1_000_000
    rows = [
        [
            str(each["seq"]),
            each["state"] + (f" {_clock(each['due_ms'])}" if each["state"] == TaskState.SCHEDULED else ""),
            each["to"],
            each["agent"],
            ago(each["sent_ms"], now_ms=now_ms),
            each["title"][:80],
        ]
        for each in found
    ]
    table(["ID", "STATE", "TO", "AGENT", "SENT", "WHAT"], rows)


@task.command()
@click.argument("seq", metavar="ID", type=click.IntRange(1))
@client_options
@click.pass_context
def show(ctx: click.Context, seq: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """Show one task with its output."""

    async def showing(client: Client) -> dict[str, Any]:
        return _with_job(await client.call("task.get", seq=seq))

    found = with_client(state, address, showing)
    if as_json:
        print_json(found)
        return
    report = found["report"]
    when = day_and_time(found["sent_ms"])
    lines = [
        ("task", f"{found['seq']}  {clean(found['title'])}"),
        ("state", click.style(found["state"], fg=_COLOURS.get(found["state"]), bold=True) + _why(report)),
        ("from", f"{found['from']}  at {when}"),
        ("to", found["to"]),
        ("agent", f"{found['agent'] or '-'}  attempt {found['attempt']}" + _of_many(found)),
        *_waits(found),
    ]
    if "exit_code" in report:
        lines.append(("exit code", str(report["exit_code"])))
    if "duration_ms" in report:
        lines.append(("took", f"{report['duration_ms'] / 1000:.2f} s"))
    if report.get("output_file"):
        lines.append(("whole output", f"{report['output_file']} on the agent's machine"))
    for name, value in lines:
        click.echo(f"{name:<13}{value}")
    _print_attempts(found["attempts"])
    if found["output"]:
        click.echo()
        _print_output(found["output"])


@task.command()
@click.argument("seq", metavar="ID", type=click.IntRange(1))
@client_options
@click.pass_context
def watch(ctx: click.Context, seq: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """Follow a task to its end; ends as the task does."""

    async def watching(client: Client) -> int:
        return await _see_through(await client.follow(seq), "", as_json)

    ctx.exit(with_client(state, address, watching))


@task.command()
@click.argument("seq", metavar="ID", type=click.IntRange(1))
@click.argument("text")
@client_options
def answer(seq: int, text: str, state: Path | None, address: str | None, as_json: bool) -> None:
    """Answer what a task asks that is input-required; it goes on with TEXT."""
    found = with_client(state, address, lambda client: client.call("task.answer", seq=seq, text=text))
    if as_json:
        print_json(found)
    else:
        click.echo(f"task {seq} is {found['state']} again; follow it with: orchestra task watch {seq}")


task.add_command(inside.ask)
task.add_command(inside.checkpoint)


@task.command()
@click.argument("seq", metavar="ID", type=click.IntRange(1))
@client_options
def retry(seq: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """Try a task again that failed, was canceled or is dead."""
    found = with_client(state, address, lambda client: client.call("task.retry", seq=seq))
    if as_json:
        print_json(found)
    else:
        click.echo(f"task {seq} is {found['state']} again; follow it with: orchestra task watch {seq}")


@task.command()
@click.argument("seq", metavar="ID", type=click.IntRange(1))
@client_options
def cancel(seq: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """End a task and all that was submitted for it: what waits at once, what runs by stopping its processes."""
    found = with_client(state, address, lambda client: client.call("task.cancel", seq=seq))
    below = f", with {found['below']} below it" if found.get("below") else ""
    if as_json:
        print_json(found)
    elif found["state"] == TaskState.CANCELED:
        click.echo(f"task {seq} is canceled{below}")
    else:
        click.echo(f"task {seq} is being stopped{below}; its end shows in: orchestra task show {seq}")


def _is_hub_of_this_task(state: Path | None) -> bool:
    """Whether this runs in a task of the hub that `state` belongs to: numbers of tasks mean nothing elsewhere."""
    own = os.environ.get("ORCHESTRA_STATE")
    return own is not None and (state is None or state.resolve() == Path(own).resolve())


def _ms(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _backoff(seconds: float) -> dict[str, int]:
    return {"backoff_ms": _ms(seconds), "backoff_max_ms": max(_ms(seconds), PLAIN.backoff_max_ms)}


def _clock(ms: int) -> str:
    """Return a time of day, with the day where it is not today."""
    when, today = time.localtime(ms / 1000), time.localtime()
    is_today = when[:3] == today[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M", when)


def _of_many(found: dict[str, Any]) -> str:
    failures, most = found.get("failures", 0), found.get("max_attempts", 1)
    return f"  {failures} of {most} failed" if failures or most > 1 else ""


def _waits(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What stands between a task and its end, and what was agreed about it."""
    lines = []
    if "due_ms" in found and found["state"] == TaskState.SCHEDULED:
        lines.append(("scheduled", f"for {_clock(found['due_ms'])}"))
    elif found["why"]:
        lines.append(("waits", clean(found["why"])))
    if found["state"] == TaskState.INPUT_REQUIRED:
        lines.append(("question", clean(found["question"])))
        lines.append(("answer with", f'orchestra task answer {found["seq"]} "…"'))
    if "depends_on" in found:
        lines.append(("depends on", ", ".join(map(str, found["depends_on"]))))
    if "parent" in found:
        lines.append(("for", f"task {found['parent']}"))
    if found.get("children"):
        lines.append(("below it", ", ".join(map(str, found["children"]))))
    if "expires_ms" in found:
        lines.append(("expires", f"when no agent has it after {found['expires_ms'] / 1000:g} s"))
    if "checkpoint" in found:
        left = found["checkpoint"]
        lines.append(
            ("checkpoint", f"{left['bytes']} bytes, left at {_clock(left['at_ms'])} by attempt {left['attempt']}")
        )
    if "budget" in found:
        lines.append(("budget", clean(str(found["budget"]))))
    return lines


def _print_attempts(attempts: list[dict[str, Any]]) -> None:
    if len(attempts) < 2 and not any("late_ms" in each for each in attempts):
        return
    click.echo()
    rows = [
        [
            str(each["attempt"]),
            f"{each['agent'] or '-'} (life {each['generation']})",
            _clock(each["began_ms"]),
            f"{(each['ended_ms'] - each['began_ms']) / 1000:.1f} s" if each["ended_ms"] else "-",
            each["outcome"],
            each["text"] + (f"; a late result ({each['late_outcome']}) was refused" if "late_ms" in each else ""),
        ]
        for each in attempts
    ]
    table(["ATTEMPT", "AGENT", "BEGAN", "TOOK", "OUTCOME", "WHY"], rows)


async def _see_through(submitted: SubmittedTask, to: str, as_json: bool) -> int:
    """Show a task until it is over; return the exit code."""
    is_live = sys.stdout.isatty() and not as_json
    shown = 0
    try:
        with _Waiting(submitted.seq, to, is_shown=is_live) as waiting:
            if not as_json:
                shown = await _stream(submitted, waiting, is_live)
            result = await submitted.result()
    except asyncio.CancelledError:
        say(f"\ntask {submitted.seq} goes on; stop it with: orchestra task cancel {submitted.seq}")
        sys.exit(INTERRUPTED)
    if as_json:
        print_json(_result_facts(result))
    else:
        if shown != result.report.get("output_bytes", 0):
            _print_output(result.output)
        _print_ending(result)
    return DONE if result.is_ok else FAILED


async def _stream(submitted: SubmittedTask, waiting: _Waiting, is_live: bool) -> int:
    """Show what the task prints as it comes; return how many bytes of the last attempt were shown."""
    from orchestra.conversation import Progressed

    shown, attempt = 0, 0
    async for news in submitted.follow():
        if not isinstance(news, Progressed):
            waiting.tell(news.facts)
            if news.facts.get("question"):
                waiting.stop()
                say(f"task {news.seq} asks: {clean(news.facts['question'])}")
                say(f'answer with: orchestra task answer {news.seq} "…"')
        elif is_live:
            waiting.stop()
            if news.attempt != attempt:
                shown, attempt = 0, news.attempt
            shown += len(news.data)
            sys.stdout.buffer.write(news.data)
            sys.stdout.buffer.flush()
    return shown


class _Waiting(contextlib.AbstractContextManager["_Waiting"]):
    """A spinner on standard error until the first output comes."""

    def __init__(self, seq: int, to: str, *, is_shown: bool) -> None:
        self._seq = seq
        self._status = (
            console(stderr=True).status(f"task {seq} waits for {to or 'an agent'}")
            if is_shown and sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> _Waiting:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def tell(self, facts: dict[str, Any]) -> None:
        if self._status is not None:
            agent = f" at {facts['agent']}" if facts.get("agent") else ""
            self._status.update(f"task {self._seq} is {facts['state']}{agent}")

    def stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


async def _warn_if_nobody_serves(client: Client, to: str) -> None:
    sessions = [
        (peer["address"], session) for peer in (await client.call("peers"))["peers"] for session in peer["sessions"]
    ]
    if not any(to == address or to in session["queues"] for address, session in sessions):
        say(f"no agent serves {to} now; the task waits until one does")


def _print_output(output: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(output)
    if output and not output.endswith(b"\n") and sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _print_ending(result: TaskResult) -> None:
    took = f" after {result.report['duration_ms'] / 1000:.1f} s" if "duration_ms" in result.report else ""
    state = click.style(result.state.value, fg=_COLOURS.get(result.state.value), bold=True)
    say(f"task {result.seq} {state}{took}{_why(result.report)}")


def _why(report: dict[str, Any]) -> str:
    return f": {clean(str(report['text']))}" if report.get("text") else ""


def _result_facts(result: TaskResult) -> dict[str, Any]:
    return {
        "seq": result.seq,
        "state": result.state.value,
        "attempt": result.attempt,
        "report": result.report,
        "output": result.text,
    }


def _with_job(facts: dict[str, Any]) -> dict[str, Any]:
    """Replace the packed body of a task by what it asks for."""
    from orchestra.errors import BadOption
    from orchestra.job import decode_job, title_of

    body = facts.pop("body")
    try:
        job = decode_job(body)
    except BadOption:  # in a list, long ones are cut
        return {**facts, "title": title_of(body) or "(not a job of this library)"}
    return {**facts, "title": job.title, "prompt": job.prompt, "argv": list(job.argv), "cwd": job.cwd}
