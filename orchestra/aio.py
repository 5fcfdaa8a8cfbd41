"""The client for asyncio: `async with orchestra.aio.connect() as client: …`.

A shell around `Conversation`: it owns the connection, reconnects by itself (back-off with jitter, every address the hub
has), and turns what happens into futures and streams. All methods belong to the loop that the client was made in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import zmq

from . import wire
from .address import Address, Kind, parse_address, parse_peer
from .conversation import (
    Answered,
    AnswerGiven,
    Assigned,
    Canceled,
    Changed,
    Conversation,
    Ended,
    Finished,
    Happening,
    HubKeyAnnounced,
    Message,
    Missed,
    Presence,
    Progressed,
    Receipted,
    Refused,
    Replied,
    Requested,
    Slowed,
    Stored,
    Unfollowed,
    Welcomed,
)
from .dealer import Dealer, no_answer
from .errors import (
    BadOption,
    CannotOpen,
    ConnectionLost,
    DeadLetter,
    DeadlinePassed,
    HubUnreachable,
    KeyFault,
    KeyRefused,
    KeyRevoked,
    OrchestraError,
    PeerError,
    RateLimited,
    TooLarge,
    WorldFault,
)
from .job import TIMEOUT_S_DEFAULT, Job
from .keys import KeyPair, load_key
from .limits import (
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    BODY_BYTES_MAX,
    CALL_PATIENCE_S,
    CONNECT_S,
    CREDIT_DEFAULT,
    EPOCH_BYTES,
    HEARTBEAT_S,
    LEASE_S,
    LIST_ROWS_MAX,
    PROGRESS_BYTES_MAX,
)
from .stage import ACKED, DEAD, DELIVERED, STAGES, has_reached
from .state import HubCard, StateFolder, default_folder
from .subscription import Line, Subscription
from .task import Priority, TaskState
from .terms import PLAIN, Terms
from .version import VERSION

logger = logging.getLogger(__name__)

CONTEXT = "channel/context"

FOR_NOBODY = (
    "nobody gets it, since the hub knows no other matrix; run `orchestra memory message --inbox` in a clone, "
    "or let one in: orchestra invite matrix/NAME"
)

_decode = wire.Decoder(wire.FROM_HUB).decode


_CALL_PAUSE_S = 0.02, 0.1  # chance, or all that were refused at once would come at once again
_NEWS_KEPT = 4096  # of one task, for a reader that is late; the result holds the whole output


def _program() -> str:
    """Return what runs here: the name of the program, or of the module that Python was told to run."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return str(spec.name if spec is not None else Path(sys.argv[0]).name)[:64]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ended.

    Attributes:
        report: what the agent tells: exit_code, duration_ms, output_bytes, is_cut, output_file, code, text.
        output: the output, or its head and tail where it was too long.
    """

    seq: int
    state: TaskState
    attempt: int
    report: dict[str, Any]
    output: bytes

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")

    @property
    def is_ok(self) -> bool:
        return self.state is TaskState.COMPLETED


@dataclass(frozen=True, slots=True)
class ContextValue:
    """What `channel/context` holds under a name. `version` is the seq of the entry that set it."""

    name: str
    value: bytes
    version: int
    sender: str
    set_ms: int

    @property
    def text(self) -> str:
        return self.value.decode("utf-8", "replace")


class SubmittedTask:
    """A task this client submitted or follows. `seq` is its number at the hub."""

    def __init__(self, client: Client, seq: int) -> None:
        self.seq = seq
        self._client = client
        self._result: TaskResult | OrchestraError | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._news: deque[Progressed | Changed] = deque(maxlen=_NEWS_KEPT)
        self._is_followed = False

    async def result(self) -> TaskResult:
        """Wait until the task is over. Safe to cancel, and to call more than once."""
        while self._result is None:
            await self._something()
        if isinstance(self._result, OrchestraError):
            raise self._result
        return self._result

    async def follow(self) -> AsyncIterator[Progressed | Changed]:
        """Give output and changes of state as they happen, until the task is over. For one reader."""
        self._is_followed = True
        while True:
            while self._news:
                yield self._news.popleft()
            if self._result is not None:
                return
            await self._something()

    async def cancel(self) -> None:
        """Ask for its end; `result` tells when it came."""
        await self._client.call("task.cancel", seq=self.seq)

    async def answer(self, text: str) -> None:
        """Answer what it asks while it is `input-required`.

        Raises:
            NotAsked: if it asks nothing now.
        """
        await self._client.call("task.answer", seq=self.seq, text=text)

    async def _something(self) -> None:
        happened: asyncio.Future[None] = self._client.loop.create_future()
        self._waiting.append(happened)
        await happened

    def _wake(self) -> None:
        for happened in self._waiting:
            if not happened.done():
                happened.set_result(None)
        self._waiting.clear()

    def _tell(self, news: Progressed | Changed) -> None:
        """Keep news for who follows; of a task that nobody follows only the newest are kept."""
        if self._result is None:
            self._news.append(news)
            if self._is_followed:
                self._wake()

    def _finish(self, result: TaskResult | OrchestraError) -> None:
        if self._result is None:
            self._result = result
            self._wake()


class SentMessage:
    """A message whose receipts this client watches. `seq` is its number at the hub.

    `receipts` holds the latest one of each recipient; there is none before something is known.
    """

    def __init__(self, client: Client, seq: int, to: str) -> None:
        self.seq = seq
        self.to = to
        self.receipts: dict[str, Receipted] = {}
        self._client = client
        self._error: OrchestraError | None = None
        self._news = asyncio.Event()

    @property
    def stage(self) -> str:
        """How far it has come for every recipient."""
        stages = [each.stage for each in self.receipts.values()]
        if DEAD in stages:
            return DEAD
        return min(stages, key=STAGES.index, default=STAGES[0])

    async def reached(self, stage: str, *, timeout_s: float | None = None) -> None:
        """Wait until every recipient's receipt says `stage` or a later one. Safe to cancel and to call again.

        Raises:
            DeadLetter: if it is dead for one of them, with the reason, or was sent to every matrix and there is none.
            DeadlinePassed: if that does not happen within `timeout_s`.
        """
        if stage not in STAGES:
            raise BadOption(f"{stage!r} is no stage; wait for one of {', '.join(STAGES)}")
        try:
            async with asyncio.timeout(timeout_s):
                await self._reached(stage)
        except TimeoutError as exc:
            raise DeadlinePassed(
                f"message {self.seq} to {self.to} is {self.stage}, and not {stage} after {timeout_s:g} s; "
                f"it is kept: orchestra trace {self.seq}"
            ) from exc

    async def follow(self, until: str = STAGES[ACKED]) -> AsyncIterator[Receipted]:
        """Give each receipt as it comes, until the message is at `until`, or dead, for every recipient."""
        if until not in STAGES:
            raise BadOption(f"{until!r} is no stage; follow it until one of {', '.join(STAGES)}")
        told: dict[str, str] = {}
        while True:
            self._news.clear()
            for receipt in list(self.receipts.values()):
                if told.get(receipt.recipient) != receipt.stage:
                    told[receipt.recipient] = receipt.stage
                    yield receipt
            if told and all(stage == DEAD or has_reached(stage, until) for stage in told.values()):
                return
            if self._error is not None:
                raise self._error
            await self._news.wait()

    def forget(self) -> None:
        """Watch it no more."""
        self._client._forget_message(self.seq)

    async def _reached(self, stage: str) -> None:
        while True:
            dead = next((each for each in self.receipts.values() if each.stage == DEAD), None)
            if dead is not None:
                told = f"message {self.seq} to {dead.recipient} is dead: {dead.reason}"
                raise DeadLetter(f"{told}; see: orchestra trace {self.seq}")
            if has_reached(self.stage, stage):
                return
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()

    def _tell(self, receipt: Receipted) -> None:
        known = self.receipts.get(receipt.recipient)
        if known is None or receipt.stage == DEAD or has_reached(receipt.stage, known.stage):
            self.receipts[receipt.recipient] = receipt
            self._news.set()

    def _fail(self, error: OrchestraError) -> None:
        self._error = error
        self._news.set()


class _Stream:
    """Messages on their way to one reader."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.arrived = asyncio.Event()

    def put(self, message: Message) -> None:
        self.messages.append(message)
        self.arrived.set()


class _PresenceStream:
    """Where peers stand, on its way to one reader: of each peer the newest, so that a late reader costs no more."""

    def __init__(self) -> None:
        self.newest: dict[str, Presence] = {}
        self.arrived = asyncio.Event()

    def put(self, presence: Presence) -> None:
        self.newest[presence.address] = presence
        self.arrived.set()


RequestHandler = Callable[[Requested], Coroutine[Any, Any, bytes]]


class Client:
    """A connection to the hub that mends itself. Make it with `connect`."""

    def __init__(
        self,
        *,
        card: Callable[[], HubCard],
        keep_next_key: Callable[[str], None] = lambda public_key: None,
        keep_key: Callable[[str], None] = lambda public_key: None,
        key: KeyPair,
        read_key: Callable[[], KeyPair] | None = None,
        address: Address | None = None,
        slots: int = 0,
        queues: Sequence[str] = (),
        on_request: RequestHandler | None = None,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.address = str(address or "")
        self.generation = 0
        self.on_connected: Callable[[Welcomed], None] = lambda welcomed: None
        self.on_lost: Callable[[OrchestraError], None] = lambda reason: None
        self.on_canceled: Callable[[Canceled], None] = lambda canceled: None
        self.on_answered: Callable[[AnswerGiven], None] = lambda answered: None
        self._card = card
        self._keep_next_key = keep_next_key
        self._keep_key = keep_key
        self._key = key
        self._read_key = read_key or (lambda: key)
        self._on_request = on_request
        said = {"host": socket.gethostname()[:64], "pid": str(os.getpid()), "program": _program(), "version": VERSION}
        if on_request is not None:
            said["answers"] = "yes"
        self._talk = Conversation(
            os.urandom(EPOCH_BYTES), address=self.address, slots=slots, queues=queues, about={**said, **about}
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer: Dealer | None = None
        self._sends: dict[int, asyncio.Future[int]] = {}
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._tasks: dict[int, SubmittedTask] = {}
        self._submitting: dict[int, asyncio.Future[SubmittedTask]] = {}
        self._messages: dict[int, SentMessage] = {}
        self._watching: dict[int, str] = {}
        self._inbox = _Stream()
        self._line = Line(
            loop=self.loop,
            talk=self._talk,
            expect=self._expect,
            flush=self._flush_soon,
            check=self._check,
        )
        self._presence: _PresenceStream | None = None
        self._assignments: asyncio.Queue[Assigned] = asyncio.Queue()
        self.on_assigned: Callable[[Assigned], object] = self._assignments.put_nowait
        self._handlers: dict[type, Callable[[Any], object]] = {
            Message: self._put,
            Presence: self._stands,
            Stored: self._was_stored,
            Welcomed: self._was_welcomed,
            Refused: self._was_refused,
            Replied: self._replied,
            Assigned: lambda assigned: self.on_assigned(assigned),
            Canceled: lambda canceled: self.on_canceled(canceled),
            AnswerGiven: lambda given: self.on_answered(given),
            HubKeyAnnounced: lambda announced: _keep(self._keep_next_key, announced.public_key),
            Progressed: self._has_news,
            Changed: self._has_news,
            Receipted: self._has_receipt,
            Finished: self._finished,
            Requested: self._was_requested,
            Answered: self._was_answered,
            Missed: self._has_missed,
            Slowed: lambda _: self.loop.call_later(random.uniform(*_CALL_PAUSE_S), self._watch_again),
            Unfollowed: self._was_unfollowed,
            Ended: self._has_ended,
        }
        self._room = asyncio.Event()
        self._room.set()
        self._welcomed: asyncio.Event = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._is_flushing = False
        self._refusals = 0  # of sends, by the hub
        self._heard_at = 0.0
        self._greeted_at = 0.0
        self._proved_at = 0.0
        """When that was said which the hub answered last: at that time or later it has heard us."""
        self._error: OrchestraError | None = None
        self._ended: OrchestraError | None = None
        self._over: asyncio.Future[OrchestraError] = self.loop.create_future()

    # The connection.

    async def open(self, *, patience_s: float | None = 0.0) -> Self:
        """Connect. `patience_s` is how long to try a hub that does not answer; None tries for ever.

        Raises:
            HubUnreachable: if no hub answered in that time.
            KeyRefused: if the hub does not know this key.
        """
        first = self.loop.create_future()
        self._keeper = self.loop.create_task(self._keep_connected(patience_s, first))
        try:
            await first
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Say goodbye and let go of everything. Sends without an answer fail with ConnectionLost."""
        if self._context.closed:
            return
        for place in self._line.places.values():
            place.tell()
        self._talk.bye()
        self._flush()
        if self._keeper is not None:
            self._keeper.cancel()  # which lets go of the connection
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for task in list(self._answering):
            task.cancel()
        self._fail_all(self._error or ConnectionLost("the client was closed"))
        await self.loop.run_in_executor(None, self._context.term)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_closed(self) -> bool:
        return self._context.closed

    @property
    def is_connected(self) -> bool:
        return self._talk.is_open

    def lease_left_s(self, lease_s: float) -> float:
        """Return how much is left of a lease of `lease_s` seconds; not below 0.

        It runs from when that was said which the hub answered last, not from when its answer came: the hub counts from
        when it heard us, and what travels may be late by any time.
        """
        return max(0.0, self._proved_at + lease_s - self.loop.time())

    def ping(self) -> None:
        """Ask the hub for a sign of life, earlier than with the next heartbeat; the answer renews the lease."""
        self._talk.ping(round(self.loop.time() * 1000))
        self._flush_soon()

    async def wait_over(self) -> OrchestraError:
        """Wait until the hub ended the conversation for good, and say why. Safe to cancel."""
        return await asyncio.shield(self._over)

    async def _keep_connected(self, patience_s: float | None, first: asyncio.Future[None]) -> None:
        started = self.loop.time()
        delay_s = BACKOFF_S_MIN
        while True:
            reason: OrchestraError = HubUnreachable("the hub has no address")
            try:
                card = self._card()
            except OrchestraError as error:
                card, reason = HubCard((), ""), error
            for endpoint, public_key in product(card.endpoints, card.public_keys):
                was_open, reason = await self._one_connection(endpoint, public_key, first)
                if reason.is_fatal and not self._has_new_key(reason):
                    self._give_up(reason, first)
                    return
                if was_open:
                    delay_s = BACKOFF_S_MIN
                    self.on_lost(reason)
                    break
            if not first.done() and patience_s is not None and self.loop.time() - started >= patience_s:
                first.set_exception(reason)
                return
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, BACKOFF_S_MAX)

    def _has_new_key(self, reason: OrchestraError) -> bool:
        """Whether the key was replaced in its file since it was read: the old one is refused sooner or later."""
        if not isinstance(reason, KeyRefused | KeyRevoked):
            return False
        try:
            key = self._read_key()
        except KeyFault:
            return False
        if key == self._key:
            return False
        self._key = key
        return True

    async def _one_connection(
        self, endpoint: str, public_key: str, first: asyncio.Future[None]
    ) -> tuple[bool, OrchestraError]:
        """Connect once and stay until it ends; return whether it got as far as WELCOME, and why it ended."""
        try:
            dealer = Dealer(self._context, endpoint, hub_public_key=public_key, key=self._key, received=self._received)
        except HubUnreachable as error:
            return False, error
        self._welcomed.clear()
        self._error = None
        self._dealer = dealer
        was_open = False
        try:
            await _first(dealer.up, dealer.down)
            if dealer.down.done():
                return False, dealer.down.result()
            if not dealer.up.done():
                return False, no_answer(endpoint)
            self._greeted_at = self.loop.time()
            dealer.send([wire.pack([self._talk.hello()])])
            waiting = self.loop.create_task(self._welcomed.wait())
            await _first(waiting, dealer.down)
            waiting.cancel()
            if not self._welcomed.is_set():
                ended = dealer.down.result() if dealer.down.done() else HubUnreachable(f"{endpoint} does not answer")
                return False, self._error or ended
            was_open = True
            _keep(self._keep_key, public_key)
            if not first.done():
                first.set_result(None)
            return True, await self._stay(dealer)
        finally:
            self._dealer = None
            dealer.close(linger_ms=0 if not was_open or dealer.down.done() else 1000)
            for happening in self._talk.lost():
                self._happened(happening)
            for place in self._line.places.values():
                place.throw_away()

    async def _stay(self, dealer: Dealer) -> OrchestraError:
        """Keep a connection alive; return why it ended."""
        while True:
            await asyncio.wait({dealer.down}, timeout=HEARTBEAT_S)
            if self._error is not None:
                return self._error
            if dealer.down.done():
                return dealer.down.result()
            if self.loop.time() - self._heard_at > LEASE_S:
                return ConnectionLost(f"the hub at {dealer.endpoint} was silent for {LEASE_S:.0f} s")
            self.ping()
            self._flush()
            dealer.look()

    def _give_up(self, reason: OrchestraError, first: asyncio.Future[None]) -> None:
        self._error = reason
        self._fail_all(reason)
        if not first.done():
            first.set_exception(reason)
        if not self._over.done():
            self._over.set_result(reason)

    def _fail_all(self, error: OrchestraError) -> None:
        self._ended = error
        events = [self._room, self._inbox.arrived, *(stream.arrived for stream in self._line.places.values())]
        if self._presence is not None:
            events.append(self._presence.arrived)
        for event in events:
            event.set()  # whoever waits for room or for messages looks again, and is told
        waiting: list[asyncio.Future[Any]] = [*self._sends.values(), *self._calls.values(), *self._submitting.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # marked as seen: nobody may be waiting
        for task in self._tasks.values():
            task._finish(error)
        for message in self._messages.values():
            message._fail(error)
        self._sends.clear()
        self._calls.clear()
        self._submitting.clear()
        self._tasks.clear()

    # Sending.

    async def send(
        self,
        to: str,
        body: str | bytes,
        *,
        priority: str | None = None,
        reply_to: int | None = None,
        expires_s: float | None = None,
        key: str | None = None,
        seal: bool = False,
        wait: str | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Send a message; return its seq once the hub has it on disk. Sent again by itself after a reconnect.

        Args:
            reply_to: the seq of a message to or from this peer, which this one answers.
            expires_s: after so long it is dead, unless it was delivered.
            key: the same key again, in any life of this peer, is answered with the first seq and stores nothing.
            seal: encrypt it for the recipient's keys, so that the hub cannot read it.
            wait: return only when its recipient has come to this stage: delivered, read or acked.
            timeout_s: how long to wait for that; for ever without it.

        Raises:
            PeerError: what the hub says against it (unknown_recipient, mailbox_full, too_large, …).
            DeadLetter, DeadlinePassed: as `SentMessage.reached`; the message stays stored.
        """
        options = _message_options(priority, reply_to, expires_s, key)
        if seal:
            body, options = await self._sealed(to, body, options)
        if wait is None:
            n = await self._next_send(to, _bytes(body), wire.MESSAGE, options)
            return await self._sends[n]
        sent = await self._send_watched(to, body, options)
        try:
            await sent.reached(wait, timeout_s=timeout_s)
        finally:
            sent.forget()
        return sent.seq

    async def send_watched(
        self,
        to: str,
        body: str | bytes,
        *,
        priority: str | None = None,
        reply_to: int | None = None,
        expires_s: float | None = None,
        key: str | None = None,
        seal: bool = False,
    ) -> SentMessage:
        """Send a message and watch its receipts; returns once the hub has it on disk. `forget` it when done."""
        options = _message_options(priority, reply_to, expires_s, key)
        if seal:
            body, options = await self._sealed(to, body, options)
        return await self._send_watched(to, body, options)

    async def _sealed(self, to: str, body: str | bytes, options: dict[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
        """Return `body` sealed for the keys that the hub says `to` has, and the options that say so."""
        from .envelope import close_envelope

        keys = (await self.call("peer.keys", address=to))["keys"]
        return close_envelope(_bytes(body), sender=self._key, recipients=keys), {**(options or {}), "sealed": True}

    def _opened(self, message: Message) -> Message:
        """Open a sealed message; one that can't be opened stays as it is, and says so (`is_sealed`)."""
        if not message.options.get("sealed"):
            return message
        from .envelope import open_envelope

        try:
            body, by = open_envelope(message.body, key=self._key)
        except CannotOpen:
            return message
        return message._replace(body=body, options={**message.options, "sealed_by": by})

    async def _send_watched(self, to: str, body: str | bytes, options: dict[str, Any] | None) -> SentMessage:
        n = await self._next_send(to, _bytes(body), wire.MESSAGE, {**(options or {}), "watch": True})
        self._watching[n] = to
        try:
            seq = await self._sends[n]
        finally:
            self._watching.pop(n, None)
        if parse_address(to).kind is Kind.EVERYONE:  # only the hub knows who that is
            return await self.watch_message(seq)
        return self._messages[seq]

    async def reply(
        self,
        message: Message,
        body: str | bytes,
        *,
        priority: str | None = None,
        expires_s: float | None = None,
        key: str | None = None,
    ) -> int:
        """Answer a message to whoever sent it, in the same thread; return the seq of the answer."""
        return await self.send(
            message.sender, body, priority=priority, reply_to=message.seq, expires_s=expires_s, key=key
        )

    async def watch_message(self, seq: int) -> SentMessage:
        """Watch the receipts of a message that was sent earlier.

        Raises:
            NotAllowed: if it is another's.
            NotFound: if there is none.
        """
        found = await self.call("message.get", seq=seq)
        message = self._messages.setdefault(seq, SentMessage(self, seq, found["to"]))
        if not found["recipients"] and parse_address(found["to"]).kind is Kind.EVERYONE:
            message._fail(DeadLetter(f"message {seq}: {FOR_NOBODY}"))
        [ref] = self._talk.watch_messages([seq])
        await self._expect(ref)
        return message

    async def send_all(self, to: str, bodies: Iterable[str | bytes]) -> list[int]:
        """Send many messages to one address, in their order and in batches; return their seqs.

        At the first refusal no more are sent. Those already on their way may be stored or refused in their turn;
        the error's note says how many are stored.

        Raises:
            PeerError: the first refusal.
        """
        sent: list[asyncio.Future[int]] = []
        refusals = self._refusals
        for body in bodies:
            n = await self._next_send(to, _bytes(body), wire.MESSAGE, None)
            sent.append(self._sends[n])
            if self._refusals > refusals:
                break
        answers = await asyncio.gather(*sent, return_exceptions=True)
        refusal = next((each for each in answers if isinstance(each, BaseException)), None)
        if refusal is not None:
            stored = sum(1 for each in answers if isinstance(each, int))
            refusal.add_note(f"{stored} of the {len(sent)} messages that were sent are stored")
            raise refusal
        return [each for each in answers if isinstance(each, int)]

    async def submit(
        self,
        to: str = "queue/default",
        *,
        prompt: str = "",
        argv: Sequence[str] = (),
        cwd: str | Path = "",
        timeout_s: float = TIMEOUT_S_DEFAULT,
        context: str = "",
        priority: str | None = None,
        terms: Terms = PLAIN,
        key: str | None = None,
    ) -> SubmittedTask:
        """Submit a task and follow it; returns once the hub has it on disk.

        `terms` say what it depends on, when it may begin, how often it is tried and how long it may wait. What was
        submitted under a `key` before is not submitted again, but followed.
        """
        job = Job(prompt=prompt, argv=tuple(argv), cwd=str(cwd), timeout_s=timeout_s, context=context)
        return await self.submit_job(to, job, priority=priority, terms=terms, key=key)

    async def submit_job(
        self, to: str, job: Job, *, priority: str | None = None, terms: Terms = PLAIN, key: str | None = None
    ) -> SubmittedTask:
        """Submit a job and follow it; as `submit`."""
        if key is not None:  # it may be stored, and over, already
            return await self.follow(await self.store_job(to, job, priority=priority, terms=terms, key=key))
        n = await self._next_send(to, job.encode(), wire.TASK, {**_task_options(priority, terms, None), "watch": True})
        made: asyncio.Future[SubmittedTask] = self.loop.create_future()
        self._submitting[n] = made
        try:
            return await made
        finally:
            self._submitting.pop(n, None)

    async def store_job(
        self, to: str, job: Job, *, priority: str | None = None, terms: Terms = PLAIN, key: str | None = None
    ) -> int:
        """Submit a job without following it; return its seq once the hub has it on disk."""
        n = await self._next_send(to, job.encode(), wire.TASK, _task_options(priority, terms, key))
        stored: asyncio.Future[int] = self.loop.create_future()
        self._sends[n] = stored
        return await stored

    async def follow(self, seq: int) -> SubmittedTask:
        """Follow a task that was submitted earlier.

        Raises:
            NotAllowed: if it is another's.
            NotFound: if there is none.
        """
        await self.call("task.get", seq=seq)
        task = self._tasks.setdefault(seq, SubmittedTask(self, seq))
        [ref] = self._talk.watch([seq])
        await self._expect(ref)
        return task

    async def request(self, to: str, body: str | bytes, *, timeout_s: float = 5.0) -> bytes:
        """Ask another peer and wait for its answer. Nothing is stored.

        Raises:
            Offline: at once, if it is not connected.
            DeadlinePassed: if it does not answer within `timeout_s`.
            ConnectionLost: if the hub went away meanwhile; ask again.
        """
        self._check()
        parse_address(to)
        ref = self._talk.request(to, int(timeout_s * 1000), _bytes(body))
        try:
            return bytes(await asyncio.wait_for(self._expect(ref), timeout_s + 2))
        except TimeoutError as exc:
            raise DeadlinePassed(f"{to} did not answer in time") from exc

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the hub itself; `docs/protocol.md` lists the methods.

        Who asks more often than the hub answers is slowed down.
        """
        until = math.inf  # the time that a hub was away, or others of ours were before it, is none of this call's
        while True:
            self._check()
            try:
                result: dict[str, Any] = await self._expect(self._talk.call(method, params))
                return result
            except RateLimited:  # safe to repeat: nothing was done
                now = self.loop.time()
                if now >= until:
                    raise
                until = min(until, now + CALL_PATIENCE_S)
            await asyncio.sleep(random.uniform(*_CALL_PAUSE_S))

    async def _next_send(self, to: str, body: bytes, kind: int, options: dict[str, Any] | None) -> int:
        while self._talk.is_full:
            self._check()
            self._room.clear()
            await self._room.wait()
        self._check()
        parse_address(to)  # checked here, because a frame with a text of any length would be refused as a whole
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge(f"body is {len(body)} bytes; the limit is {BODY_BYTES_MAX}")
        n = self._talk.send(to, body, kind, options)
        if kind == wire.MESSAGE:
            self._sends[n] = self.loop.create_future()
        self._flush_soon()
        return n

    def _expect(self, ref: int) -> asyncio.Future[Any]:
        """Return what the reply to a CALL or REQUEST will be."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self._calls[ref] = future
        future.add_done_callback(lambda done: self._calls.pop(ref, None))
        self._flush_soon()
        return future

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended

    # Receiving.

    async def messages(self, *, credit: int = CREDIT_DEFAULT, peek: bool = False) -> AsyncIterator[Message]:
        """Give the messages to this peer as they are pushed, each once; asking for the next acknowledges the one
        before.

        `credit` is how many may be on their way at once. With `peek` a message counts as delivered when it is given,
        and stays in the inbox until `mark_read`. One reader per client.
        """
        self._talk.credit = credit
        self._talk.allow(credit)
        self._flush_soon()
        async for message in self._read(self._inbox):
            if peek:
                self._done([message], DELIVERED)
            yield message
            if not peek:
                self._done([message], ACKED)

    async def batches(self, *, credit: int = CREDIT_DEFAULT, peek: bool = False) -> AsyncIterator[list[Message]]:
        """Like `messages`, but gives all that are there at once; asking for more acknowledges the whole batch."""
        self._talk.credit = credit
        self._talk.allow(credit)
        self._flush_soon()
        stream = self._inbox
        while True:
            while not stream.messages:
                self._check()
                stream.arrived.clear()
                await stream.arrived.wait()
            batch = list(stream.messages)
            stream.messages.clear()
            if peek:
                self._done(batch, DELIVERED)
            yield batch
            if not peek:
                self._done(batch, ACKED)

    def _done(self, messages: list[Message], stage: int) -> None:
        """Say how far messages have come, and make room for as many."""
        self._talk.ack([message.seq for message in messages], stage)
        self._talk.allow(len(messages))
        self._flush_soon()

    def subscribe(self, channel: str, *, after: int | None = None, cursor: str | None = None) -> Subscription:
        """Follow `channel`: give its entries after seq `after`; 0 is from the start.

        None is from now on; in a channel that overwrites, from what it holds. A `cursor` is a name under which the hub
        keeps how far this peer has read: the next subscription with it goes on there, and `after` only says where a new
        one begins. Of a name that was overwritten, who comes late gets the newest entry only.

        Raises (when it begins):
            UnknownRecipient: if there is no such channel.
            HubFull: if there are too many subscriptions or cursors.
        """
        return Subscription(self._line, channel, after, cursor)

    async def publish(
        self,
        channel: str,
        body: str | bytes,
        *,
        entry: str | None = None,
        if_version: int | None = None,
        key: str | None = None,
    ) -> int:
        """Publish to a channel; return the entry's seq once the hub has it on disk.

        An `entry` has a name, and overwrites the earlier one of that name. With `if_version` only if that was the seq
        `if_version`; 0 says that there must be none. What was published under a `key` before is not published again.

        Raises:
            Conflict: if the newest entry of that name is another; the sentence says which, and who wrote it.
            UnknownRecipient: if there is no such channel.
        """
        options = {"entry": entry, "if_version": if_version, "key": key}
        chosen = {name: value for name, value in options.items() if value is not None}
        n = await self._next_send(channel, _bytes(body), wire.MESSAGE, chosen or None)
        return await self._sends[n]

    async def remove_entry(self, channel: str, entry: str, *, if_version: int | None = None) -> int:
        """Remove what a channel holds under a name, and tell those who follow; return the seq of that entry.

        Raises:
            NotFound: if it holds nothing under it.
            Conflict: as for `publish`.
        """
        chosen = {"entry": entry, "remove": True, **({} if if_version is None else {"if_version": if_version})}
        n = await self._next_send(channel, b"", wire.MESSAGE, chosen)
        return await self._sends[n]

    async def context_get(self, name: str) -> ContextValue:
        """Return what `channel/context` holds under a name.

        Raises:
            NotFound: if it holds nothing under it.
        """
        [found] = (await self.call("channel.read", channel=CONTEXT, entry=name))["entries"]
        return ContextValue(name, found["body"], found["seq"], found["from"], found["sent_ms"])

    async def context_set(self, name: str, value: str | bytes, *, if_version: int | None = None) -> int:
        """Set what `channel/context` holds under a name; return its new version.

        Raises:
            Conflict: if `if_version` is given and is not the newest version (0: there must be none).
        """
        return await self.publish(CONTEXT, value, entry=name, if_version=if_version)

    async def context_drop(self, name: str, *, if_version: int | None = None) -> None:
        """Remove what `channel/context` holds under a name; the errors are those of `remove_entry`."""
        await self.remove_entry(CONTEXT, name, if_version=if_version)

    async def inbox(self, *, count: int = 100, after: int = 0) -> list[Message]:
        """Return the unread messages to this peer without consuming them."""
        reply = await self.call("inbox", count=count, after=after)
        return self._listed(reply["messages"])

    async def thread(self, seq: int, *, count: int = 100) -> list[Message]:
        """Return the messages of the thread that `seq` belongs to which this peer sent or got, read or not."""
        reply = await self.call("message.thread", seq=seq, count=count)
        return self._listed(reply["messages"])

    def _listed(self, found: list[dict[str, Any]]) -> list[Message]:
        return [
            self._opened(
                Message(each["seq"], each["from"], each["to"], each["sent_ms"], each["body"], 0, 0, each["options"])
            )
            for each in found
        ]

    async def mark_read(self, seqs: Iterable[int], *, ack: bool = False) -> int:
        """Say that messages were read, or with `ack` that they were dealt with; they leave the inbox.

        Returns how many of them are that far now: those that are not this peer's are passed over.
        """
        wanted, reached = list(seqs), 0
        for start in range(0, len(wanted), LIST_ROWS_MAX):
            reply = await self.call("inbox.read", seqs=wanted[start : start + LIST_ROWS_MAX], ack=ack)
            reached += reply["read"]
        return reached

    async def watch_presence(self) -> AsyncIterator[Presence]:
        """Tell where every peer stands now, then each that comes, goes, or says that it is away or back.

        After a reconnect everybody is told again. Who reads late gets the newest of each peer. One reader per client.
        """
        if self._presence is not None:
            raise PeerError("presence is watched already")
        stream = self._presence = _PresenceStream()
        try:
            await self._expect(self._talk.watch_presence())
            while True:
                while not stream.newest:
                    self._check()
                    stream.arrived.clear()
                    await stream.arrived.wait()
                yield stream.newest.pop(next(iter(stream.newest)))
        finally:
            self._presence = None
            self._talk.unwatch_presence()
            self._flush_soon()

    async def _read(self, stream: _Stream) -> AsyncIterator[Message]:
        while True:
            while not stream.messages:
                self._check()
                stream.arrived.clear()
                await stream.arrived.wait()
            yield stream.messages.popleft()

    # Working: what an agent uses.

    async def next_assignment(self) -> Assigned:
        """Wait for the next task. Safe to cancel."""
        return await self._assignments.get()

    def tell_progress(self, task: Assigned, data: bytes) -> None:
        """Pass on output of a task; split where it is too long for one record."""
        for start in range(0, len(data), PROGRESS_BYTES_MAX):
            self._talk.progress(task.seq, task.lease, data[start : start + PROGRESS_BYTES_MAX])
        self._flush_soon()

    def report(self, task: Assigned, outcome: TaskState, report: dict[str, Any], output: bytes) -> asyncio.Future[int]:
        """Report a task's result; what is returned is done once the hub has it on disk.

        Raises (when awaited):
            StaleLease: if the task was given to another agent meanwhile; the result is not taken.
        """
        n = self._talk.result(task.seq, task.lease, outcome.value, report, output)
        stored = self._sends[n] = self.loop.create_future()
        self._flush_soon()
        return stored

    async def ask(self, task: Assigned, number: int, question: str) -> None:
        """Ask whoever gave the task; `number` is 1, 2, … of this attempt. `on_answered` is called with the answer.

        Raises:
            StaleLease: if the task was given to another agent meanwhile.
        """
        await self.call("task.ask", seq=task.seq, lease=task.lease, number=number, question=question)

    async def save_checkpoint(self, task: Assigned, data: bytes) -> None:
        """Leave `data` for the next attempt; returns once the hub has it on disk.

        Raises:
            StaleLease: if the task was given to another agent meanwhile.
            TooLarge: if it has more than CHECKPOINT_BYTES_MAX.
        """
        await self.call("task.checkpoint", seq=task.seq, lease=task.lease, data=data)

    def give_back(self, task: Assigned, why: str) -> None:
        """Let another agent do the task."""
        self._talk.give_back(task.seq, task.lease, "given_back", why)
        self._flush_soon()

    def offer(self, slots: int) -> None:
        """Take so many tasks at once from now on; 0 takes no more."""
        self._talk.offer(slots)
        self._flush_soon()

    # What comes from the hub.

    def _received(self, frames: list[bytes]) -> None:
        self._heard_at = self.loop.time()
        for frame in frames:
            records, _ = _decode(frame)
            for happening in self._talk.received(records):
                self._happened(happening)
        self._flush()

    def _happened(self, happening: Happening) -> None:
        self._handlers[type(happening)](happening)

    def _put(self, message: Message) -> None:
        if message.options:
            message = self._opened(message)
        stream = self._inbox if message.lease else self._line.places.get(message.to)
        if stream is not None:
            stream.put(message)

    def _stands(self, presence: Presence) -> None:
        if self._presence is not None:
            self._presence.put(presence)

    def _has_missed(self, missed: Missed) -> None:
        place = self._line.places.get(missed.channel)
        if place is not None:
            place.missed = max(place.missed, missed.missed)

    def _watch_again(self) -> None:
        self._talk.watch_again()
        self._flush()

    def _was_unfollowed(self, unfollowed: Unfollowed) -> None:
        place = self._line.places.get(unfollowed.channel)
        if place is not None:
            place.fail(unfollowed.error)

    def _was_stored(self, stored: Stored) -> None:
        future = self._sends.pop(stored.n, None)
        if self._watching and stored.n in self._watching:  # before whoever waits for it runs: news may come meanwhile
            to = self._watching[stored.n]
            self._messages.setdefault(stored.seq, SentMessage(self, stored.seq, to))
        if future is not None:
            if not future.done():
                future.set_result(stored.seq)
        else:
            made = self._submitting.get(stored.n)
            if made is not None and not made.done():
                task = self._tasks.setdefault(stored.seq, SubmittedTask(self, stored.seq))
                self._talk.watches(stored.seq)
                made.set_result(task)
        if not self._room.is_set() and not self._talk.is_full:
            self._room.set()

    def _has_receipt(self, receipt: Receipted) -> None:
        message = self._messages.get(receipt.seq)
        if message is not None:
            message._tell(receipt)

    def _forget_message(self, seq: int) -> None:
        if self._messages.pop(seq, None) is not None:
            self._talk.unwatch_message(seq)
            self._flush_soon()

    def _was_welcomed(self, welcomed: Welcomed) -> None:
        self.address, self.generation = welcomed.address, welcomed.generation
        self._proved_at = self._greeted_at
        self._welcomed.set()
        self.on_connected(welcomed)

    def _was_answered(self, answered: Answered) -> None:
        self._proved_at = max(self._proved_at, answered.token / 1000)

    def _has_news(self, news: Progressed | Changed) -> None:
        task = self._tasks.get(news.seq)
        if task is not None:
            task._tell(news)

    def _was_requested(self, requested: Requested) -> None:
        working = self.loop.create_task(self._answer(requested))
        self._answering.add(working)
        working.add_done_callback(self._answering.discard)

    def _has_ended(self, ended: Ended) -> None:
        self._error = self._error or ended.error  # what the hub says after its BYE is that there is no session
        if self._dealer is not None:
            self._dealer.close(linger_ms=0)

    def _was_refused(self, refused: Refused) -> None:
        waiting: asyncio.Future[Any] | None
        if refused.what in (wire.SEND, wire.RESULT):
            waiting = self._sends.pop(refused.ref, None) or self._submitting.get(refused.ref)
            self._refusals += 1
            self._room.set()
        else:
            waiting = self._calls.get(refused.ref)
        if waiting is not None and not waiting.done():
            waiting.set_exception(refused.error)
            waiting.exception()  # marked as seen: whoever waits gets it, and nobody has to

    def _replied(self, replied: Replied) -> None:
        waiting = self._calls.get(replied.ref)
        if waiting is not None and not waiting.done():
            waiting.set_result(replied.result)

    def _finished(self, finished: Finished) -> None:
        task = self._tasks.pop(finished.seq, None)
        if task is not None:
            state = TaskState(finished.state)
            task._finish(TaskResult(finished.seq, state, finished.attempt, finished.report, finished.output))

    async def _answer(self, requested: Requested) -> None:
        code, body = "", b""
        try:
            assert self._on_request is not None
            body = await asyncio.wait_for(self._on_request(requested), requested.wait_ms / 1000)
        except PeerError as error:
            code, body = error.code, str(error).encode()
        except TimeoutError:
            return
        except Exception:
            logger.exception("a live request of %s could not be answered", requested.sender)
            code, body = PeerError.code, f"{self.address} failed to answer; its log says why".encode()
        self._talk.respond(requested.number, code, body)
        self._flush_soon()

    # The outbox.

    def _flush_soon(self) -> None:
        """Send once this round of the loop is over, so that what is ready together travels together.

        What is alone (nothing else waits for an answer) goes at once: that saves a round of the loop, 30 µs.
        """
        if not self._is_flushing:
            if self._talk.unanswered <= 1:
                self._flush()
                return
            self._is_flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._dealer is not None:
            records = self._talk.take()
            if records:
                self._dealer.send(wire.encode(records))


def connect(
    *,
    state: str | Path | None = None,
    address: str | None = None,
    key: KeyPair | None = None,
    patience_s: float | None = 0.0,
    slots: int = 0,
    queues: Sequence[str] = (),
    on_request: RequestHandler | None = None,
    about: Mapping[str, str] = MappingProxyType({}),
) -> _Connecting:
    """Connect to the hub of a state folder: `async with connect() as client:` or `client = await connect()`.

    Args:
        state: the folder; `ORCHESTRA_STATE` or the user's own without it.
        address: who to be; without it this user's operator, or the one peer that this machine joined as. Its key must
            be in the folder, unless `key` is given.
        patience_s: seconds to try a hub that does not answer; None tries for ever.
        slots: for agents: how many tasks at once.
        queues: for agents: the queues to serve.
        on_request: answers the live requests of other peers.
        about: short texts that others are shown of this client, beside its host and program; see HELLO in the docs.

    Raises:
        StateFault, KeyFault: if the folder or the key can't be used.
        HubUnreachable, KeyRefused: as the hub says.
    """
    folder = StateFolder(Path(state or os.environ.get("ORCHESTRA_STATE") or default_folder()))
    who = parse_peer(address) if address else folder.default_peer()

    async def opening() -> Client:
        folder.read_card()
        client = Client(
            card=folder.read_card,
            keep_next_key=folder.keep_next_key,
            keep_key=folder.keep_key,
            key=key or load_key(folder.key_of(who)),
            read_key=None if key else lambda: load_key(folder.key_of(who)),
            address=who,
            slots=slots,
            queues=queues,
            on_request=on_request,
            about=about,
        )
        return await client.open(patience_s=patience_s)

    return _Connecting(opening)


class _Connecting:
    """What `connect` returns: await it, or enter it."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, Client]]) -> None:
        self._opening = opening
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._opening().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._opening()
        return self._client

    async def __aexit__(self, *exc: object) -> None:
        assert self._client is not None
        await self._client.close()


def _keep(keep: Callable[[str], None], public_key: str) -> None:
    """Keep a key of the hub in the state folder; who can't is told when it matters, which is not yet."""
    try:
        keep(public_key)
    except WorldFault as fault:
        logger.warning("the hub's new key was not kept: %s", fault, extra={"action": "key_not_kept"})


async def _first(*awaited: asyncio.Future[Any]) -> None:
    """Wait until one of these is done, or a connection should have come about."""
    await asyncio.wait(awaited, timeout=CONNECT_S, return_when=asyncio.FIRST_COMPLETED)


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)


def _options(priority: str | None) -> dict[str, Any] | None:
    return None if priority is None else {"priority": Priority(priority).value}


def _task_options(priority: str | None, terms: Terms, key: str | None) -> dict[str, Any]:
    return {**(_options(priority) or {}), **terms.options(), **({} if key is None else {"key": key})}


def _message_options(
    priority: str | None, reply_to: int | None, expires_s: float | None, key: str | None
) -> dict[str, Any] | None:
    expires_ms = None if expires_s is None else max(1, round(expires_s * 1000))
    chosen = {"reply_to": reply_to, "expires_ms": expires_ms, "key": key}
    options = {**(_options(priority) or {}), **{name: value for name, value in chosen.items() if value is not None}}
    return options or None
