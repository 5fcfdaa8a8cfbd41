"""What the measurements share: processes that end with their parent, temporary folders, and how figures are told.

A *role* is a function that runs in a process of its own. Its first argument is a pipe to the measurement; it sends
something once it is ready. Leaving a `Rig` ends every process and removes every folder, also after Ctrl-C, SIGTERM or
an error; and a role whose parent was killed outright ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import math
import multiprocessing
import os
import platform
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Literal, Self, TypeVar, get_args

import msgpack
import zmq
from rich.console import Console

from orchestra.address import parse_peer
from orchestra.aio import Client
from orchestra.hub.service import serve
from orchestra.hub.settings import GatewaySettings, HubSettings
from orchestra.keys import KeyPair, load_key, make_key_pair
from orchestra.state import HubCard, StateFolder, this_operator

T = TypeVar("T")

Durability = Literal["full", "fast"]
Transport = Literal["tcp", "ipc"]
DURABILITIES: Final[tuple[Durability, ...]] = get_args(Durability)
TRANSPORTS: Final[tuple[Transport, ...]] = get_args(Transport)

BODY_BYTES: Final = 256  # of every message, task and result, ours and the floor's
_READY_S: Final = 30.0  # a loaded machine may take seconds to start an interpreter
_STOP_S: Final = 5.0  # from SIGTERM to SIGKILL
_STOP_TRIES: Final = 50


class RigFault(Exception):
    """A measurement can't go on: a process failed, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a role says before it ends with an exception."""

    text: str


@dataclass(slots=True, eq=False)
class Child:
    """One running role."""

    name: str
    process: SpawnProcess
    pipe: Connection

    def hear(self, *, within_s: float = _READY_S) -> Any:
        """Return what the role says next.

        Raises:
            RigFault: if it failed, ended, or said nothing for `within_s`.
        """
        try:
            if not self.pipe.poll(within_s):
                raise RigFault(f"{self.name} said nothing for {within_s:.0f} s")
            said = self.pipe.recv()
        except (EOFError, OSError) as exc:
            raise RigFault(f"{self.name} ended before it was done") from exc
        if isinstance(said, Failure):
            raise RigFault(f"{self.name} failed:\n{said.text}")
        return said

    def cpu_s(self) -> float:
        """Return the CPU seconds of the process so far, all its threads; to 10 ms, and 0 where there is no /proc."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime: proc(5)


@dataclass(frozen=True, slots=True, eq=False)
class RunningHub:
    """A hub in a process of its own, with an empty state folder."""

    child: Child
    state: StateFolder
    card: HubCard

    def over(self, transport: Transport) -> HubCard:
        """Return the hub's card with the one endpoint of `transport`, so that a client has no choice."""
        return one_endpoint(self.card, transport)

    async def register(self, *addresses: str) -> dict[str, KeyPair]:
        """Make a key for each address and let the hub accept it; return the keys by address."""
        keys = {address: make_key_pair() for address in addresses}
        operator = this_operator()
        async with await Client(
            card=self.state.read_card, key=load_key(self.state.key_of(operator)), address=operator
        ).open() as client:
            for address, key in keys.items():
                await client.call("keys.accept", address=address, public_key=key.public)
        return keys


class Rig:
    """Everything one run started. Use it as a context."""

    def __init__(self, *, folder: Path | None = None, profiles: Path | None = None) -> None:
        """Args:
        folder: where the databases are put; the system's temporary folder without it.
        profiles: where each role leaves a cProfile when it ends; none is made without it.
        """
        self._folder = folder
        self._profiles = profiles
        self._children: list[Child] = []
        self._folders: list[Path] = []
        self._context = multiprocessing.get_context("spawn")
        self._sigterm: Any = None

    def __enter__(self) -> Self:
        self._sigterm = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        sigint = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave anything behind
        try:
            self.stop(*self._children)
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            signal.signal(signal.SIGINT, sigint)
            signal.signal(signal.SIGTERM, self._sigterm)

    def make_folder(self) -> Path:
        """Make an empty folder that goes away with the rig. Its name is short: a Unix socket's path may be too."""
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=self._folder))
        self._folders.append(folder)
        return folder

    def make_counter(self) -> Synchronized[int]:
        """Make a number that one role writes and another reads, without a lock."""
        counter: Synchronized[int] = self._context.Value("Q", 0, lock=False)
        return counter

    def start(self, name: str, role: Callable[..., None], *args: object) -> Child:
        """Start `role(pipe, *args)`; `hear` tells when it is ready."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_play, args=(name, role, theirs, self._profiles, args), name=name, daemon=True
        )
        process.start()
        theirs.close()
        child = Child(name, process, ours)
        self._children.append(child)
        return child

    def start_hub(self, durability: Durability, *, has_gateway: bool = False) -> RunningHub:
        """Start a hub with a new state folder, and wait until it listens."""
        state = StateFolder(self.make_folder() / "s")
        if state.ipc_endpoint() is None:
            raise RigFault(f"{state.path} is too long for a Unix socket; choose a shorter one with --folder")
        child = self.start(f"hub-{durability}", run_hub, state.path, durability, has_gateway)
        child.hear()
        return RunningHub(child, state, state.read_card())

    def stop(self, *children: Child) -> None:
        """End these processes and wait until they are gone."""
        for child in children:
            child.process.terminate()
        for child in children:
            for _ in range(_STOP_TRIES):
                child.process.join(_STOP_S / _STOP_TRIES)
                # Again: a signal that comes while libzmq is busy, just before it blocks, does not wake it.
                child.process.terminate()
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
            child.pipe.close()
        self._children = [child for child in self._children if child not in children]

    def stop_hub(self, hub: RunningHub) -> None:
        """End a hub and remove its folder, which may be large."""
        self.stop(hub.child)
        shutil.rmtree(hub.state.path, ignore_errors=True)


def run_hub(pipe: Connection, folder: Path, durability: Durability, has_gateway: bool = False) -> None:
    """Role: a hub, as `orchestra up` runs it."""
    gateway = GatewaySettings(port=0) if has_gateway else None
    settings = HubSettings(StateFolder(folder), port=0, durability=durability, gateway=gateway)
    asyncio.run(serve(settings, ready=lambda hub: pipe.send("ready")))


def stand_apart() -> None:
    """Stand for programs of other machines: take only what nobody else wants of this machine's cores.

    The lowest priority is not enough: who has it and runs goes on for milliseconds before others get the core.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def one_endpoint(card: HubCard, transport: Transport) -> HubCard:
    """Return `card` with only its endpoint of `transport`."""
    return HubCard(tuple(each for each in card.endpoints if each.startswith(f"{transport}://")), card.public_key)


async def open_client(
    card: HubCard, address: str, key: KeyPair, *, slots: int = 0, queues: Sequence[str] = ()
) -> Client:
    """Connect as `address`, without a state folder of its own."""
    return await Client(card=lambda: card, key=key, address=parse_peer(address), slots=slots, queues=queues).open()


def _play(
    name: str, role: Callable[..., None], pipe: Connection, profiles: Path | None, args: tuple[object, ...]
) -> None:
    """Be a role: the first function of a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    profile = cProfile.Profile() if profiles is not None else contextlib.nullcontext()
    try:
        with profile:
            role(pipe, *args)
    except SystemExit:
        pass
    except Exception:  # noqa: BLE001 - told to the parent, which raises it
        pipe.send(Failure(traceback.format_exc()))
    finally:
        if profiles is not None and isinstance(profile, cProfile.Profile):
            profiles.mkdir(parents=True, exist_ok=True)
            profile.dump_stats(profiles / f"{name}-{os.getpid()}.prof")
        sys.stderr.flush()
        os._exit(0)  # what is left would be collected in any order, and a ZeroMQ context waits for its sockets


def _end_with_parent() -> None:
    # A signal that this thread took would not wake the other one from a blocking receive.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # one is enough: leaving must not be interrupted
    raise SystemExit(128 + number)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of values in ascending order; always one of them."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def timed(work: Callable[[T], object], things: list[T]) -> list[float]:
    """Return the microseconds that `work` takes for each of the things, in ascending order."""
    taken = []
    for thing in things:
        begin = time.perf_counter_ns()
        work(thing)
        taken.append((time.perf_counter_ns() - begin) / 1000)
    return sorted(taken)


def median(values: Sequence[float]) -> float:
    return percentile(sorted(values), 50)


def machine() -> dict[str, Any]:
    """Say in general what was measured on."""
    return {
        "cores": os.cpu_count(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.pyzmq_version(),
        "msgpack": ".".join(map(str, msgpack.version)),
    }


def machine_line() -> str:
    facts = machine()
    return (
        f"{facts['cores']} cores, {facts['system']} {facts['machine']}, Python {facts['python']}, "
        f"SQLite {facts['sqlite']}, libzmq {facts['libzmq']}"
    )


def wide_console() -> Console:
    """Return a console that the tables fit on; what is no terminal, such as a log, has no width of its own."""
    console = Console()
    return console if console.is_terminal else Console(width=120)
