"""For what an agent runs as a task: `orchestra task ask`, `orchestra task checkpoint`, and whose inbox is shown."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import click

from orchestra.errors import ConnectionLost, HubUnreachable, TooLarge, error_of
from orchestra.limits import CHECKPOINT_BYTES_MAX

from .shared import print_json, say


@click.command()
@click.argument("question")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def ask(question: str, as_json: bool) -> None:
    """Ask QUESTION from inside a task; wait for the answer and print it.

    The task is input-required until somebody answers: orchestra task answer ID "TEXT"
    """
    answer = _say({"ask": question})["answer"]
    if as_json:
        print_json({"answer": answer})
    else:
        click.echo(answer)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
def checkpoint(file: str) -> None:
    """Leave FILE (- is standard input) for the next attempt, from inside a task.

    The next attempt finds it in the file that ORCHESTRA_CHECKPOINT names.
    """
    try:
        data = sys.stdin.buffer.read(CHECKPOINT_BYTES_MAX + 1) if file == "-" else Path(file).read_bytes()
    except OSError as exc:
        raise click.UsageError(f"{file} can't be read: {exc.strerror}") from exc
    if len(data) > CHECKPOINT_BYTES_MAX:
        raise TooLarge(f"a checkpoint may have {CHECKPOINT_BYTES_MAX} bytes; leave a path, and the rest in a file")
    _say({"checkpoint": base64.b64encode(data).decode()})


def tell_agent_s_inbox(shown: str) -> None:
    """Inside a task, say how its agent's inbox is seen, where that of another is `shown`."""
    agent = os.environ.get("ORCHESTRA_AGENT", "")
    if agent and agent != shown and os.environ.get("ORCHESTRA_TASK_ID"):
        say(f"this is the inbox of {shown}; that of the agent which runs this task: orchestra inbox --as {agent}")


def _say(what: dict[str, str]) -> dict[str, Any]:
    """Say one thing to the desk of the agent that runs this task; return what it says."""
    path, task = os.environ.get("ORCHESTRA_TASK_SOCKET", ""), os.environ.get("ORCHESTRA_TASK_ID", "")
    if not path or not task:
        raise click.UsageError("this works inside a task, in a program that an agent runs")
    said = {"task": int(task), "attempt": int(os.environ.get("ORCHESTRA_TASK_ATTEMPT", "0")), **what}
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(json.dumps(said).encode() + b"\n")
            line = connection.makefile("rb").readline()
    except OSError as exc:
        raise HubUnreachable(f"the agent of task {task} is not there: {exc.strerror or exc}") from exc
    if not line:
        raise ConnectionLost(f"the agent of task {task} went away before it answered")
    found: dict[str, Any] = json.loads(line)
    if "error" in found:
        raise error_of(found["error"], found["text"])
    return found
