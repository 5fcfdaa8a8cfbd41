"""Programs under test: real processes that a test starts, waits for, kills, and never leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import pytest
import zmq

from orchestra import aio, wire
from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.keys import KeyPair
from orchestra.state import HubCard, StateFolder

T = TypeVar("T")

BOUND_S = 30.0  # far above what anything here takes; only a test that fails waits so long
_LOOK_S = 0.02

# -P: the package that is installed (or in PYTHONPATH), never what lies in the current folder.
PYTHON = (sys.executable, "-P")
ORCHESTRA = (*PYTHON, "-m", "orchestra")
HUB = (*PYTHON, "-m", "orchestra.hub.cli")
AGENT = (*PYTHON, "-m", "orchestra.agents.cli")
LEASH = ("--stop-with-stdin",)  # when the tests themselves are killed, what they started ends too

# Tells who runs it. The first attempt goes on until it is told to end; a later one first looks whether that still runs.
TASK = """
[ "$ORCHESTRA_TASK_ATTEMPT" = 1 ] || case "$(cat "/proc/$(cut -d ' ' -f 2 "$0")/stat" 2>/dev/null)" in
    "" | *") Z "*) ;;
    *) echo "both at once" ;;
esac
echo "$ORCHESTRA_AGENT $$" >> "$0"
[ "$ORCHESTRA_TASK_ATTEMPT" = 1 ] && while [ ! -e "$0.go" ]; do sleep 0.05; done
echo "attempt $ORCHESTRA_TASK_ATTEMPT"
"""


def words(told: Path) -> list[list[str]]:
    """Return the words of each whole line that tasks wrote."""
    lines = told.read_text().splitlines(keepends=True) if told.exists() else []
    return [line.split() for line in lines if line.endswith("\n")]


def wait_until(look: Callable[[], T], what: str, *, bound_s: float = BOUND_S) -> T:
    """Return what `look` gives once that is true; the one place that polls, for what tells nobody when it happens."""
    deadline = time.monotonic() + bound_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {bound_s:.0f} s for {what}"
        time.sleep(_LOOK_S)
    return found


def free_port() -> int:
    """Return a port that is free now, for a hub that has to come back at the same place."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and only waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return stat.parent.parent.exists() is False  # no /proc here: the signal's word is all there is


def environment(state: Path, **more: str) -> dict[str, str]:
    """Return the environment of a user who has set nothing but where the state is."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRA_")}
    clean.pop("COLUMNS", None)
    clean["ORCHESTRA_EMBED"] = "none"  # a memory starts no indexer, whatever model this user has
    own = {"ORCHESTRA_STATE": str(state), "ORCHESTRA_CONFIG": str(state.parent / "no-config.toml")}
    return {**clean, **own, "ORCHESTRA_NO_GATEWAY": "1", **more}  # port 8080 is one, and tests run side by side


async def peer(place: Place, address: str, **options: Any) -> aio.Client:
    """Let `address` in, and connect as it."""
    key = await enrol_here(StateFolder(place.state), parse_peer(address))
    return await aio.connect(state=place.state, address=address, key=key, **options)


async def peer_facts(client: aio.Client, address: str) -> dict[str, Any]:
    """Return what the hub tells of one peer."""
    (found,) = [each for each in (await client.call("peers"))["peers"] if each["address"] == address]
    return dict(found)


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    folder = Path(f"/proc/{pid}/fd")
    if not folder.exists():
        pytest.skip("the files of another process are counted in /proc")
    return len(list(folder.iterdir()))


@contextmanager
def may_open(files: int) -> Iterator[None]:
    """Let this process have as many files as its clients need, or skip the test where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        pytest.skip(f"this process may have {hard} files; its clients need {files}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class RawPeer:
    """A DEALER of a peer whose key the hub knows, that keeps no rules."""

    def __init__(self, card: HubCard, key: KeyPair, **options: int) -> None:
        self._card, self._key, self._options = card, key, options
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._heard: deque[list[Any]] = deque()
        self.socket = self._connect()

    def _connect(self) -> zmq.Socket[bytes]:
        made = self._context.socket(zmq.DEALER)
        made.linger = 0
        made.sndtimeo = made.rcvtimeo = int(BOUND_S * 1000)
        made.set(zmq.ROUTING_ID, os.urandom(15) + b"\x01")
        made.set(zmq.CURVE_SERVERKEY, self._card.public_key.encode())
        made.set(zmq.CURVE_PUBLICKEY, self._key.public.encode())
        made.set(zmq.CURVE_SECRETKEY, self._key.secret.encode())
        for name, value in self._options.items():
            made.set(getattr(zmq, name), value)
        made.connect(self._card.endpoints[-1])
        return made

    def again(self) -> None:
        """Go away without a word, and come back."""
        self.socket.close(0)
        self._heard.clear()
        self.socket = self._connect()

    def say(self, *records: list[Any]) -> None:
        self.socket.send(msgpack.packb(list(records)))

    def hears(self, verb: int) -> Any:
        """Return the next record of this verb; others are passed over."""
        while True:
            while self._heard:
                record = self._heard.popleft()
                if record[0] == verb:
                    return record
            self._heard.extend(msgpack.unpackb(self.socket.recv(), strict_map_key=False))

    def wait_hung_up(self, *, after: bytes) -> None:
        """Send something that makes the hub end the connection, and wait until it has."""
        monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        monitor.rcvtimeo = int(BOUND_S * 1000)
        self.socket.send(after)
        monitor.recv_multipart()
        self.socket.disable_monitor()
        monitor.close(0)

    def code(self) -> str:
        """Return the code of the next ERROR."""
        return str(self.hears(wire.ERROR)[3])

    def close(self) -> None:
        self.socket.close(0)
        self._context.term()


class Reader:
    """A peer that reads everything, and tells when it has seen enough."""

    def __init__(self, client: aio.Client) -> None:
        self.bodies: dict[str, list[int]] = {}
        self._client = client
        self._arrived = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def wait_for(self, what: str, is_enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(3 * BOUND_S), self._arrived:
            await self._arrived.wait_for(lambda: is_enough() or self._reading.done())
        assert is_enough(), f"reading ended before {what}"

    async def stop(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for batch in self._client.batches():
            for message in batch:
                self.bodies.setdefault(message.sender, []).append(int(message.body))
            async with self._arrived:
                self._arrived.notify_all()


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the memory of another process is read from /proc")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


@dataclass
class Ended:
    """A program that is over."""

    code: int
    stdout_bytes: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="replace")

    @property
    def data(self) -> Any:
        """What it says with `--json`: one document on standard output, and no talk."""
        assert self.stderr == "", self.stderr
        document = json.loads(self.stdout_bytes)
        assert document.keys() == {"schema_version", "data"}
        assert document["schema_version"] == 1
        return document["data"]

    def assert_is_one_sentence(self, code: int) -> str:
        """Check that it failed as people like it: an exit code, one line on standard error, no traceback."""
        assert "Traceback" not in self.stderr, self.stderr
        lines = self.stderr.strip().splitlines()
        assert self.code == code, (self.code, self.stderr)
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: "), self.stderr
        assert self.stdout == ""
        return lines[0].removeprefix("error: ")


class Program:
    """A running program. Its standard input is a pipe that we hold, its standard error a file."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        name: str = "",
        before: Callable[[], None] | None = None,
    ) -> None:
        """Start it in `folder`; `before` runs in the new process ahead of it."""
        self.argv = list(argv)
        self.log = folder / f"{name or 'program'}-{time.monotonic_ns()}.log"
        self._stdout = b""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.argv,
                cwd=folder,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=before,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def stdout(self) -> str:
        return self._stdout.decode(errors="replace")

    def wait_output(self, text: str, *, bound_s: float = BOUND_S) -> str:
        """Wait until standard output holds `text`; return all of it."""
        deadline = time.monotonic() + bound_s
        while text.encode() not in self._stdout:
            assert self._read(deadline), f"it ended without {text!r}; output: {self.stdout!r}; log: {self.stderr}"
        return self.stdout

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_end(self, *, bound_s: float = BOUND_S) -> Ended:
        """Wait until it has ended by itself; its standard input stays open."""
        deadline = time.monotonic() + bound_s
        while self._read(deadline):
            pass
        code = self.process.wait(max(0.1, deadline - time.monotonic()))
        return Ended(code, self._stdout, self.stderr)

    def _read(self, deadline: float) -> bool:
        """Read what it prints next; False at the end."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            is_ready = selector.select(max(0.0, deadline - time.monotonic()))
        assert is_ready, f"waited in vain; output: {self.stdout!r}; log: {self.stderr}"
        data = os.read(self.process.stdout.fileno(), 65_536)
        self._stdout += data
        return bool(data)

    def kill(self) -> None:
        """End it with SIGKILL and collect it."""
        self.process.kill()
        self.process.wait(BOUND_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()


@dataclass
class Place:
    """A folder with a state folder in it, and every program that was started here."""

    folder: Path
    programs: list[Program] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    """Processes that a test came to know and that must not outlive it."""

    @property
    def state(self) -> Path:
        return self.folder / "s"  # short: the path of a Unix socket may have 107 bytes

    def below(self, name: str) -> Place:
        """Return a second place inside this one, which is closed with it."""
        folder = self.folder / name
        folder.mkdir()
        return Place(folder, self.programs, self.pids)

    def env(self, **more: str) -> dict[str, str]:
        return environment(self.state, **more)

    def start(
        self,
        argv: Sequence[str],
        *,
        name: str = "",
        before: Callable[[], None] | None = None,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Program:
        program = Program(argv, folder=folder or self.folder, env=env or self.env(), name=name, before=before)
        self.programs.append(program)
        return program

    def hub(
        self, *options: str, port: int = 0, before: Callable[[], None] | None = None, log_level: str = "info"
    ) -> Program:
        """Start a hub and wait until peers can connect."""
        program = self.start((*HUB, "--port", str(port), "--log-level", log_level, *options), name="hub", before=before)
        program.wait_output("hub ready")
        return program

    def agent(self, name: str, *options: str, command: Sequence[str] = ()) -> Program:
        """Start an agent and wait until it takes tasks; without `command` it runs those of the tasks."""
        runner = ("--", *command) if command else ("--runner", "exec")
        program = self.start((*AGENT, name, *LEASH, *options, *runner), name=name)
        program.wait_output("agent ready")
        return program

    def up(self, *options: str, env: Mapping[str, str] | None = None) -> Program:
        """Start `orchestra up` and wait for its summary."""
        program = self.start((*ORCHESTRA, "up", "--port", "0", *options), name="up", env=env)
        program.wait_output("Ctrl-C stops everything.\n")
        return program

    def run(
        self,
        *words: str,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        program: Sequence[str] = ORCHESTRA,
        bound_s: float = BOUND_S,
    ) -> Ended:
        """Run a command line to its end."""
        done: subprocess.CompletedProcess[Any] = subprocess.run(
            [*program, *words],
            cwd=folder or self.folder,
            env=dict(env or self.env()),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=bound_s,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def run_on_terminal(self, *words: str, program: Sequence[str] = ORCHESTRA, bound_s: float = BOUND_S) -> Ended:
        """Run a command line on a terminal of its own; `stdout_bytes` is all that the terminal was sent."""
        ours, theirs = pty.openpty()
        shown = bytearray()
        try:
            process = subprocess.Popen(
                [*program, *words],
                cwd=self.folder,
                env={**self.env(), "TERM": "xterm", "COLUMNS": "120"},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        deadline = time.monotonic() + bound_s
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(ours, selectors.EVENT_READ)
                while selector.select(max(0.0, deadline - time.monotonic())):
                    try:
                        data = os.read(ours, 65_536)
                    except OSError:  # how Linux says that nobody has the terminal open any more
                        break
                    if not data:
                        break
                    shown += data
            code = process.wait(max(0.1, deadline - time.monotonic()))
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        return Ended(code, bytes(shown), "")

    def close(self) -> None:
        """End everything that is left, the youngest first."""
        for program in reversed(self.programs):
            program.kill()
        for pid in self.pids:
            if is_alive(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
