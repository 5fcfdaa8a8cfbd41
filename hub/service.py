"""The hub as a process: the loop that joins the transport, the decider and the store.

One turn: drain what has arrived (bounded) → decide it all → one transaction → commit → send everything owed → look
again. One commit pays for the whole turn, so under load turns grow and the cost of a message falls; alone, a message
pays one commit. A commit that fails undoes the turn: nobody was told anything yet, so the hub forgets what it decided,
reads its state back from the database, and lets the clients send again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from orchestra.errors import (
    HubFull,
    HubUnreachable,
    Malformed,
    PeerError,
    PortInUse,
    StateFault,
    StorageFault,
    TooLarge,
    WorldFault,
)
from orchestra.keys import KeyPair, load_or_make_key
from orchestra.limits import (
    ACKS_HELD_MAX,
    ACKS_HELD_S,
    GATEWAY_TURN_FRAMES_MAX,
    SEND_QUEUE_FRAMES,
    SESSIONLESS_S,
    SESSIONS_MAX,
    TURN_RECORDS_MAX,
)
from orchestra.state import HubCard, this_operator
from orchestra.version import VERSION
from orchestra.wire import BYE, ERROR, FROM_PEER, Decoder, Record

from . import history
from .decider import Decider
from .histogram import Durations
from .hubkeys import load_hub_key, load_signer, next_hub_key, take_over
from .hubstate import Numbers
from .inquiry import Inquiry
from .link import DirectLink
from .retention import Retention
from .router import Arrived, Router
from .settings import HubSettings
from .store import Store
from .turn import Link, Query, Turn, Writes

if TYPE_CHECKING:
    from .gateway import Gateway
    from .tokens import Admission

logger = logging.getLogger(__name__)

_TICK_S = 0.25  # how late a lapsed lease or a lost wake-up may be noticed
_GC_THRESHOLDS = (4_000, 50, 50)  # a turn makes no cycles, so not the default's 700; a look at 20,000 takes 2.4 ms
_KICK_AFTER_S = 0.2
_NEXT_SLICE_S = 0.01  # with slices of 2 ms, retention takes a fifth of an idle core until it has caught up
_ATTENTIVE_S = 300e-6  # makes a round trip 5 % shorter, and costs at most this much of a core per commit
_TELL_AGAIN_S = 60.0
_TRY_AGAIN_MS = 60_000
_LISTEN_AGAIN_S = 0.01
_LISTEN_TRIES = 100  # a place that was left is free within milliseconds
_FROZEN_MS = 1000  # a loop that is so late was stopped, or had no machine under it
_TURNS_AT_ONCE = 4  # each way through the event loop costs 15 µs
_OTHER_FILES = 512  # beside the connections
_INQUIRY_S = 10.0
_RELEASE_S = 0.01
_WATCHDOG_S = 0.1  # a missed edge of libzmq's descriptor costs at most this


class Hub:
    """A hub with its sockets bound. `run` serves until `stop`; `close` releases everything."""

    def __init__(self, settings: HubSettings) -> None:
        """Open the state folder, load everything, and listen.

        Raises:
            WorldFault: with what to do about it; nothing was left half made.
        """
        self._state = state = settings.state
        state.make()
        key = load_hub_key(state)
        known_by = key.public
        operator = this_operator()
        operator_key = load_or_make_key(state.key_of(operator), owner=str(operator))
        self._signer = load_signer(state)
        self._store = Store(state.database, durability=settings.durability)
        self._sends_per_second = settings.sends_per_second
        self._router: Router | None = None
        self._gateway: Gateway | None = None
        self._is_woken = False
        self._holds_unknown_keys = settings.holds_unknown_keys
        self._told_fault = ""  # what the log says is wrong with the database now
        try:
            self._counts: Counter[str] = Counter()
            self._durations = Durations()
            self._router = router = Router(
                key, identity_of=lambda public: self._decider.enrolment.identity_of(public), counts=self._counts
            )
            self._facts: dict[str, Any] = {
                "version": VERSION,
                "pid": os.getpid(),
                "durability": settings.durability,
                "started_ms": _wall_ms(),
                "retention": {**asdict(settings.keep), "removed": {}},
            }
            self._numbers = Numbers(self._store.count_boot(), random.Random().random)
            self._decider = self._load()
            if self._decider.succession.is_due(_wall_ms()):
                key = self._take_over()
                router.change_key(key)
            self._decider.enrolment.accept("", operator, operator_key.public, now_ms=_wall_ms())
            self._commit()
            # Keys are loaded: only now may anybody connect, for a refused client does not come back by itself.
            ipc = state.ipc_endpoint()
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            endpoints = [*([ipc] if ipc else []), f"tcp://{host}:{settings.port}"]
            if ipc:
                state.socket.unlink(missing_ok=True)
            self.endpoints = tuple(router.bind(endpoint) for endpoint in reversed(endpoints))[::-1]
            self._facts["endpoints"] = list(self.endpoints)
            self._open_gateway(settings)
            self._socket_path = state.socket if ipc else None
            self._card = self._first_card(key.public, known_by)
            state.write_card(self._card)
        except BaseException:
            self.close()
            raise
        self._decode = Decoder(FROM_PEER).decode
        self._stopping: asyncio.Event = asyncio.Event()
        self._acks_due: asyncio.TimerHandle | None = None
        self._next_slice: asyncio.TimerHandle | None = None
        self._releasing: asyncio.TimerHandle | None = None
        self._called_soon: dict[str, asyncio.Handle] = {}
        self._retention = Retention(settings.keep, self._store.rows, self._store.used_bytes)
        self._fault: StorageFault | None = None
        self._attentive_until = 0.0
        self._told_counts: Counter[str] = Counter()
        self._tell_again_at: dict[str, float] = {}
        self._sweep_at = 0.0

    async def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop` is called; `ready` is called once peers can connect.

        Raises:
            StorageFault: if the database could not even be read any more.
        """
        router = self._open_router()
        loop = asyncio.get_running_loop()
        watched = {
            router.input_descriptor: self._wake,
            router.handshake_descriptor: self._answer_handshakes,
            router.gone_descriptor: self._forget_gone,
        }
        for descriptor, callback in watched.items():
            loop.add_reader(descriptor, callback)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            loop.call_soon(self._wake)
            if self._gateway is not None:
                await self._gateway.start()
            ready()
            beats, beat_ms = 0, _steady_ms()
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _WATCHDOG_S)
                beats, late_ms = beats + 1, _steady_ms() - beat_ms
                beat_ms += late_ms
                if late_ms >= _FROZEN_MS:
                    logger.warning("the hub was frozen for %.1f s", late_ms / 1000, extra={"action": "frozen"})
                    self._decider.excuse(late_ms, self._turn())
                if beats * _WATCHDOG_S >= _TICK_S:
                    beats = 0
                    turn = self._turn()
                    strangers = router.refused()
                    self._decider.audit.note_refused(strangers, now_ms=turn.now_ms)
                    self._decider.enrolment.knocked(strangers, holds_all=self._holds_unknown_keys, now_ms=turn.now_ms)
                    if self._gateway is not None:
                        self._gateway.tick()
                        self._decider.heard_from(self._gateway.heard(), turn)
                    self._decider.tick(turn)
                    self._end_turn(turn)
                    if self._decider.succession.is_due(turn.now_ms):
                        self._change_key()
                    self._tell_next_key()
                    self._sweep()
                    self._retain()
                elif self._decider.feed.is_due(_steady_ms()):
                    self._end_turn(self._turn())
                for callback in watched.values():
                    callback()
        finally:
            for descriptor in watched:
                loop.remove_reader(descriptor)
            self._say_goodbye()
            if self._gateway is not None:
                await self._gateway.stop()
        if self._fault is not None:
            raise self._fault
        self._commit()

    def _take_over(self) -> KeyPair:
        """Let the next key, and a new one for tokens, take over; first in the files, so that it can be repeated.

        What it owes the database is the caller's to commit.
        """
        key = take_over(self._state)
        self._signer = load_signer(self._state)
        self._decider.tokens.sign_with(self._signer)
        self._decider.succession.took_over(now_ms=_wall_ms())
        return key

    def _change_key(self) -> None:
        """Let everybody come back to the hub's next key."""
        try:
            key = self._take_over()
        except WorldFault as fault:
            self._decider.succession.at_ms += _TRY_AGAIN_MS
            logger.error("the hub's next key can't take over yet: %s", fault, extra={"action": "not_rotated"})
            return
        self._end_turn(self._turn())
        if self._decider.succession.public:  # that was undone, and comes again
            return
        logger.info("the hub has a new key: %s", key.fingerprint, extra={"action": "rotated"})
        self._card = self._card.with_key(key.public)
        self._open_router().change_key(key)
        self._listen_again()

    def _listen_again(self, tries: int = 1) -> None:
        """Listen as soon as the places are free that were left, and then say so."""
        if self._router is None:
            return
        if self._router.bind_again():
            self._write_card()
            return
        if tries == _LISTEN_TRIES:
            logger.error("the hub can't listen again: another program took its port", extra={"action": "not_listening"})
        asyncio.get_running_loop().call_later(_LISTEN_AGAIN_S, self._listen_again, tries + 1)

    def _tell_next_key(self) -> None:
        """Let who reads the card know of the next key: peers of this machine, and whoever is invited."""
        if self._card.next_public_key != self._decider.succession.public:
            self._card = replace(self._card, next_public_key=self._decider.succession.public)
            self._write_card()

    def _first_card(self, public_key: str, known_by: str) -> HubCard:
        """Return the card to begin with: that of before, if it is this hub's, so that it stays the same hub for all.

        It is this hub's if it names the key that was `known_by` before, or the one that has taken over.
        """
        with suppress(HubUnreachable, StateFault):
            card = self._state.read_card()
            if {public_key, known_by} & set(card.public_keys):
                card = card if card.public_key == public_key else card.with_key(public_key)
                return replace(card, endpoints=self.endpoints, next_public_key=self._decider.succession.public)
        return HubCard(self.endpoints, public_key, self._decider.succession.public)

    def _write_card(self) -> None:
        try:
            self._state.write_card(self._card)
        except WorldFault as fault:
            logger.error("where the hub is can't be written down: %s", fault, extra={"action": "no_card"})

    @property
    def gateway_url(self) -> str:
        """Where browsers and WebSockets connect; empty where there is no gateway."""
        return self._gateway.url if self._gateway is not None else ""

    def stop(self) -> None:
        """Let `run` return; safe to call more than once."""
        self._stopping.set()

    def close(self) -> None:
        """Release the sockets, the database and the lock."""
        if self._router is not None:
            self._router.close()
            self._router = None
            path = getattr(self, "_socket_path", None)
            if path is not None:
                path.unlink(missing_ok=True)
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None
        self._store.close()

    def _open_router(self) -> Router:
        assert self._router is not None, "the hub is closed"
        return self._router

    def _load(self) -> Decider:
        snapshot = self._store.load(now_ms=_wall_ms())
        decider = Decider(
            snapshot,
            self._numbers,
            facts=self._facts,
            at_ms=_steady_ms(),
            archive=self._store,
            sends_per_second=self._sends_per_second,
            signer=self._signer,
            make_next_key=lambda: next_hub_key(self._state).public,
        )
        decider.state.counts = self._counts  # of the process: they outlive a turn that is undone
        decider.state.durations = self._durations
        return decider

    def _turn(self) -> Turn:
        return Turn(now_ms=_wall_ms(), at_ms=_steady_ms())

    def _wake(self) -> None:
        """Take turns while there is input; after some of them the loop's other work comes first."""
        self._is_woken = False
        for _ in range(_TURNS_AT_ONCE):
            if self._router is None:
                return
            self._take_turn()
            if not self._has_input_soon():
                return
        self.wake()

    def wake(self) -> None:
        """Let a turn be taken when the loop comes round."""
        if not self._is_woken:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._wake)

    def has_input(self) -> bool:
        """Whether a turn has something to do."""
        gateway = self._gateway
        return (gateway is not None and gateway.has_input) or (self._router is not None and self._router.has_input())

    def give_way(self) -> None:
        """Take a turn now where peers of the ROUTER wait for one."""
        if self._router is not None and self._router.has_input():
            self._take_turn()

    def _has_input_soon(self) -> bool:
        """Whether there is input; after a commit, look a moment longer before the loop waits for it.

        What was just sent is often answered at once, and a core that waits has to be woken. Whoever else wants the
        core gets it, and while a browser has something to be written the hub does not look longer at all.
        """
        while self._router is not None and not self.has_input():
            if time.monotonic() >= self._attentive_until or (self._gateway is not None and self._gateway.is_busy):
                return False
            os.sched_yield()
        return self._router is not None

    def _take_turn(self) -> None:
        began = time.perf_counter()
        turn = self._turn()
        try:
            self._decide(turn)
        except Exception as fault:
            logger.exception("a turn was undone by a fault of the hub's own", extra={"action": "turn_failed"})
            self._start_over(fault)
            return
        self._end_turn(turn)
        self._durations.turn.observe(time.perf_counter() - began)

    def _decide(self, turn: Turn) -> None:
        decider = self._decider
        taken = 0
        for link, identity, frame in self._arrived():
            try:
                records, faults = self._decode(frame)
            except (Malformed, TooLarge) as error:
                decider.state.counts["malformed"] += 1
                turn.send(link, [ERROR, 0, 0, error.code, str(error)])
                continue
            decider.receive(link, identity, records, faults, turn)
            taken += len(records)
            if taken >= TURN_RECORDS_MAX:
                break
        if self._gateway is not None:
            for link in self._gateway.gone():
                decider.lost(link, turn)

    def _arrived(self) -> Iterator[Arrived]:
        """Give what both transports have; a share of each turn is the gateway's, however busy the other is."""
        if self._gateway is not None and self._gateway.has_input:
            yield from self._gateway.drain(GATEWAY_TURN_FRAMES_MAX)
        yield from self._open_router().drain(TURN_RECORDS_MAX)

    def _answer_handshakes(self) -> None:
        if self._router is None:
            return
        if self._router.answer_handshakes():
            self._soon(self._answer_handshakes)
        self._release_later()

    def _forget_gone(self) -> None:
        if self._router is None:
            return
        ended = self._router.gone()
        if self._router.has_events():
            self._soon(self._forget_gone)
        self._release_later()
        if ended:
            turn = self._turn()
            for link in ended:
                self._decider.lost(link, turn)
            self._end_turn(turn)
            self._wake()

    def _release_later(self) -> None:
        if self._releasing is None and self._open_router().is_holding:
            self._releasing = asyncio.get_running_loop().call_later(_RELEASE_S, self._release)

    def _release(self) -> None:
        """Let go a few of the tarpit at a time, as they are due: all at once would hold up peers."""
        self._releasing = None
        if self._router is not None:
            self._router.release()
            self._forget_gone()  # which looks when the next are due

    def _soon(self, callback: Callable[[], None]) -> None:
        """Call again after the loop's other work; once, however often that is asked for."""
        waiting = self._called_soon.get(callback.__name__)
        if waiting is not None:
            waiting.cancel()
        self._called_soon[callback.__name__] = asyncio.get_running_loop().call_soon(callback)

    def _end_turn(self, turn: Turn) -> None:
        """Commit, then send; where the database fails, undo the turn."""
        try:
            self._settle(turn)
        except StorageFault as fault:
            self._tell_fault("commit failed, nothing of the turn was kept", fault)
            self._start_over(fault)
        except Exception as fault:
            logger.exception("a turn was broken off by a fault of the hub's own", extra={"action": "turn_failed"})
            self._start_over(fault)

    def _settle(self, turn: Turn) -> None:
        """Commit and send, and do the same for what follows from it: rows that were wanted, peers that are gone."""
        while True:
            decider = self._decider
            decider.finish(turn)
            writes = decider.state.writes
            held = writes.held
            if writes.is_urgent() or turn.queries or turn.fetches or held > ACKS_HELD_MAX:
                self._commit()
                self._attentive_until = time.monotonic() + _ATTENTIVE_S
            elif held and self._acks_due is None:
                self._acks_due = asyncio.get_running_loop().call_later(ACKS_HELD_S, self._commit_acks)
            for query in turn.queries:
                turn.send(query.link, self._answer(query))
            decider.feed.tell(turn)
            gone = self._deliver(turn)
            if not (gone or turn.fetches):
                return
            following = self._turn()
            for link in gone:
                self._kick(link)
                decider.lost(link, following)
            for fetch in turn.fetches:
                decider.loaded(fetch, self._store.fetch(fetch), following)
            turn = following

    def _answer(self, query: Query) -> Record:
        """Answer from the database. A fault of ours in it is told to who asked, and stops nobody else."""
        try:
            return history.answer(self._store, query)
        except StorageFault:
            raise
        except Exception:
            logger.exception("%s could not be answered, by a fault of the hub's own", query.name)
            return history.failed(query)

    def _deliver(self, turn: Turn) -> list[Link]:
        """Send what is owed; return the connections that are gone or do not read."""
        router = self._open_router()
        gone: list[Link] = []
        slow_readers = self._counts["slow_reader"]
        # Answers to whoever spoke were owed first, and are sent last: others wait for what they set off. What the
        # gateway writes takes longer than all of it, so that is owed after the ROUTER's was sent.
        direct: list[DirectLink] = []
        for link in reversed(turn.out):
            if type(link) is not bytes:
                direct.append(_direct(link))
            elif not router.send(link, turn.out[link]):
                gone.append(link)
                if self._counts["slow_reader"] > slow_readers:
                    slow_readers += 1
                    self._tell_of_slow_reader(link)
        gone += [each for each in direct if not each.deliver(turn.out[each])]
        for link in turn.kicks:
            # What it was told last must reach it first, or it would not know why and come back.
            asyncio.get_running_loop().call_later(_KICK_AFTER_S, self._kick, link)
        if self._gateway is not None and self._gateway.is_busy:
            self._gateway.pump()
        return gone

    def _tell_of_slow_reader(self, link: Link) -> None:
        session = self._decider.state.roster.sessions.get(link)
        logger.warning(
            "%s is dropped: it left %d frames unread",
            session.peer.text if session is not None else "a peer without a session",
            SEND_QUEUE_FRAMES,
            extra={"action": "slow_reader"},
        )

    def _sweep(self) -> None:
        """Close the connections that nobody uses, and tell of those that were turned away."""
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SESSIONLESS_S
            self._open_router().close_sessionless(self._decider.state.roster.sessions.keys())
        self._tell_count(
            "turned_away",
            logging.ERROR,
            "%d connections were turned away: hardly any file is left for them; raise the limit of open files "
            "(ulimit -n), which is %d",
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )
        self._tell_count(
            "crowded_out",
            logging.WARNING,
            "%d connections that came and proved no key were closed to make room for others; a firewall could keep "
            "whoever makes them away",
        )

    def _tell_count(self, name: str, level: int, sentence: str, *more: object) -> None:
        """Log how far a count went up; not more often than people want to read it."""
        count, now = self._counts[name], time.monotonic()
        if count > self._told_counts[name] and now >= self._tell_again_at.get(name, 0.0):
            logger.log(level, sentence, count - self._told_counts[name], *more, extra={"action": name})
            self._told_counts[name], self._tell_again_at[name] = count, now + _TELL_AGAIN_S

    def _kick(self, link: Link) -> None:
        if not isinstance(link, bytes):
            _direct(link).kick()
        elif self._router is not None:
            self._router.kick(link)

    def _retain(self) -> None:
        """Remove one slice of what is over; the next follows soon, if nobody wants anything by then."""
        if self._router is None or self._stopping.is_set():
            return
        if self._decider.state.writes.held:
            self._commit_acks()  # what is settled there must not still be owed when its message goes
        retention, decider = self._retention, self._decider
        try:
            removal = retention.step(decider.in_use(), now_ms=_wall_ms(), at_ms=_steady_ms())
            if removal is None:
                is_more = self._store.shrink()
            else:
                is_more = True
                if removal.counts():
                    self._store.remove(removal)
                    decider.removed(removal)
                retention.removed(removal)
                self._facts["retention"]["removed"] = dict(retention.total)
        except StorageFault as fault:
            self._tell_fault("what is over could not be removed", fault)
            retention.rest(_steady_ms())
            return
        if retention.ended:
            self._tell_removed()
        if is_more and self._next_slice is None:
            self._next_slice = asyncio.get_running_loop().call_later(_NEXT_SLICE_S, self._retain_if_idle)

    def _retain_if_idle(self) -> None:
        self._next_slice = None
        if self._router is not None and not self._router.has_input():
            self._retain()

    def _tell_removed(self) -> None:
        """Tell what a whole run removed."""
        ended, self._retention.ended = self._retention.ended, Counter()
        counts = ", ".join(f"{count} {name}" for name, count in ended.items())
        logger.info("removed what is over: %s", counts, extra={"action": "removed"})

    def _commit_acks(self) -> None:
        self._acks_due = None
        if self._router is not None:
            try:
                self._commit()
            except StorageFault as fault:
                self._tell_fault("commit failed, acknowledgements were not kept", fault)
                self._start_over(fault)

    def _commit(self) -> None:
        writes, self._decider.state.writes = self._decider.state.writes, Writes()
        began = time.perf_counter()
        self._store.commit(writes, now_ms=_wall_ms())
        self._durations.commit.observe(time.perf_counter() - began)
        self._counts["owed"] += len(writes.deliveries)
        self._counts["delivered"] += len(writes.delivered)
        self._decider.feed.committed(writes)
        if self._told_fault and (writes.is_urgent() or writes.held):
            self._told_fault = ""
            logger.warning("the disk takes writes again", extra={"action": "commit_works_again"})

    def _tell_fault(self, what: str, fault: StorageFault) -> None:
        """Log a fault of the database: once, and again when it is another one, or is over."""
        if str(fault) != self._told_fault:
            self._told_fault = str(fault)
            logger.error("%s: %s", what, fault, extra={"action": "commit_failed"})

    def _start_over(self, fault: Exception) -> None:
        """Undo a turn: nobody was told of it yet, so what the database holds is the truth."""
        code, text = "internal", "the hub failed and starts over; nothing that was acknowledged is lost"
        if isinstance(fault, StorageFault):
            code, text = fault.code, str(fault)
        links = list(self._decider.state.roster.sessions)
        try:
            self._decider = self._load()
        except StorageFault as unreadable:
            self._fault = unreadable  # serve nobody, and let whoever started us decide
            self.stop()
        self._counts["turns_undone"] += 1
        for link in links:
            self._tell(link, [BYE, code, text])
            asyncio.get_running_loop().call_later(_KICK_AFTER_S, self._kick, link)

    def _say_goodbye(self) -> None:
        for link in self._decider.state.roster.sessions:
            self._tell(link, [BYE, "stopping", "the hub is stopping"])

    def _tell(self, link: Link, record: Record) -> None:
        if isinstance(link, bytes):
            self._open_router().send(link, [record])
        else:
            _direct(link).deliver([record])

    # What the gateway asks.

    def _open_gateway(self, settings: HubSettings) -> None:
        if settings.gateway is None:
            return
        from .gateway import Gateway  # 0.1 s, which a hub without one need not wait

        try:
            self._gateway = Gateway(settings.gateway, self, counts=self._counts)
            self._facts["gateway"] = self._gateway.url
        except PortInUse as taken:
            if not settings.gateway.is_optional:
                raise
            logger.warning("there is no gateway: %s", taken, extra={"action": "gateway_off"})

    def admit(self, token: str, *, is_url: bool, source: str) -> Admission:
        """Return whom a token lets in.

        Raises:
            TokenRefused, TokenExpired: which the audit log tells of as well.
        """
        now_ms = _wall_ms()
        try:
            return self._decider.tokens.verify(token, now_ms=now_ms, is_url=is_url, source=source)
        except PeerError as error:
            self._counts["tokens_refused"] += 1
            self._decider.audit.note_bad_token(source, str(error), now_ms=now_ms)
            raise

    def sign_in(self, code: str) -> tuple[str, int]:
        """Return a token for a one-time code, and for how many seconds it is good.

        Raises:
            TokenRefused: if the code was used, has expired, or never was.
        """
        turn = self._turn()
        token = self._decider.tokens.sign_in(code, turn)
        self._end_turn(turn)
        claims = self._decider.tokens.verify(token, now_ms=turn.now_ms).claims
        return token, (claims.ends_ms - turn.now_ms) // 1000

    async def ask(self, admission: Admission, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer one CALL of a peer that has no session.

        Raises:
            PeerError: as the hub would answer it.
        """
        inquiry, turn = Inquiry(method, params), self._turn()
        records, faults = self._decode(inquiry.frame)
        self._decider.inquire(inquiry, admission.identity, records, faults, turn)
        self._end_turn(turn)
        try:
            return await asyncio.wait_for(inquiry.answered, _INQUIRY_S)
        except TimeoutError:  # its turn was undone
            raise HubFull("the hub could not answer; try again") from None

    def metrics(self) -> bytes:
        """Return everything that is measured, as Prometheus reads it."""
        from .metrics import Metrics

        dead, size = history.count_dead(self._store), self._store.sizes()
        return Metrics(self._decider, self._durations, self._counts, dead=dead, size=size).render()

    def why_not_ready(self) -> str:
        """Return why nothing is stored now; empty where it is."""
        return self._told_fault


async def serve(settings: HubSettings, *, ready: Callable[[Hub], None]) -> None:
    """Run a hub until SIGTERM or SIGINT."""
    _allow_many_connections()
    hub = Hub(settings)
    try:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, hub.stop)
        await hub.run(ready=lambda: ready(hub))
    finally:
        hub.close()


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as allowed: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SESSIONS_MAX + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _direct(link: Link) -> DirectLink:
    assert isinstance(link, DirectLink)
    return link


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000
