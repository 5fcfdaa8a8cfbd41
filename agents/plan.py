"""From a job to what is run: the rules of the runners. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestra.errors import BadOption, NotAllowed
from orchestra.job import Job


class Runner(StrEnum):
    """How an agent runs a task.

    `command` gives the prompt to the program the agent was started with. `exec` runs the task's own argv; whoever may
    submit to such an agent may run anything as its user, so it has to be asked for by name.
    """

    COMMAND = "command"
    EXEC = "exec"


class PromptBy(StrEnum):
    """How the program gets the prompt: as its last argument, or on standard input."""

    ARGUMENT = "argument"
    STDIN = "stdin"


@dataclass(frozen=True, slots=True)
class Plan:
    """One process to run; `stdin` None is an empty standard input."""

    argv: tuple[str, ...]
    stdin: bytes | None
    cwd: str


def make_plan(job: Job, *, runner: Runner, command: Sequence[str], prompt_by: PromptBy) -> Plan:
    """Return what to run for `job`.

    Raises:
        NotAllowed: if this agent does not take such tasks.
    """
    if runner is Runner.EXEC:
        if not job.argv:
            raise NotAllowed("this agent runs commands, not prompts; submit one as: orchestra task submit -- COMMAND")
        return Plan(job.argv, None, job.cwd)
    if not job.prompt:
        raise NotAllowed("this agent takes prompts, not commands; start one with --runner exec to run commands")
    if prompt_by is PromptBy.STDIN:
        return Plan(tuple(command), job.prompt.encode(), job.cwd)
    if "\0" in job.prompt:
        raise BadOption(
            "the prompt holds a NUL character and can't be an argument; start the agent with --prompt-by stdin"
        )
    return Plan((*command, job.prompt), None, job.cwd)


def check_sender(sender: str, *, accepted: frozenset[str]) -> None:
    """Refuse tasks of strangers; an empty set accepts everyone the hub lets submit.

    Raises:
        NotAllowed: if `sender` is not accepted.
    """
    if accepted and sender not in accepted:
        raise NotAllowed(f"this agent takes tasks from {', '.join(sorted(accepted))} only, not from {sender}")
