"""What an agent or a bridge is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from orchestra.address import Address
from orchestra.limits import DRAIN_S
from orchestra.state import StateFolder

from .agentmap import AgentMap
from .plan import PromptBy, Runner
from .trust import Trust


@dataclass(frozen=True, slots=True)
class FileSettings:
    """The folder of tasks, and that of results, of one old agent whose work a new one does."""

    inbox: Path
    outbox: Path
    trust: Trust


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Attributes:
    queues: the queues it serves beside its own address, as `queue/NAME`.
    concurrency: how many tasks it runs at once.
    command: the program that gets the prompts; for the runner `command`.
    accept_from: the senders whose tasks it runs; empty is everyone the hub lets submit.
    permanent_exit_codes: those after which another attempt would fail too.
    drain_s: after SIGTERM, how many seconds running tasks may take before they are given back.
    files: where its tasks come as files too.
    """

    address: Address
    state: StateFolder
    queues: tuple[str, ...] = ()
    concurrency: int = 1
    runner: Runner = Runner.COMMAND
    command: tuple[str, ...] = ()
    prompt_by: PromptBy = PromptBy.ARGUMENT
    accept_from: frozenset[str] = frozenset()
    permanent_exit_codes: frozenset[int] = frozenset()
    drain_s: float = DRAIN_S
    files: FileSettings | None = None


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """Attributes:
    address: who submits the tasks of the old orchestrators at the hub.
    inbox, outbox: the folders that hold a folder for each old agent.
    until: the last day of the bridge, if it has one.
    """

    address: Address
    state: StateFolder
    inbox: Path
    outbox: Path
    agents: AgentMap
    trust: Trust
    until: date | None = None
