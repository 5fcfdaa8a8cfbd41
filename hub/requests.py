"""Live requests: asked now, answered now, stored nowhere. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestra.errors import BY_CODE, DeadlinePassed, HubFull, Offline
from orchestra.limits import REQUESTS_OPEN_MAX
from orchestra.wire import ERROR, REQUEST, RESPONSE

from .roster import Peer, Session
from .turn import Link, Turn


@dataclass(frozen=True, slots=True)
class _Open:
    asker: Link
    ref: int
    answerer: Link
    to: str
    until_ms: int


class Requests:
    """The live requests that wait for an answer."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._asked: dict[Link, set[int]] = {}
        self._answering: dict[Link, set[int]] = {}
        self._last = 0

    def ask(self, session: Session, ref: int, peer: Peer, wait_ms: int, body: bytes, turn: Turn) -> None:
        """Hand a request to the newest session of `peer` that answers requests.

        Raises:
            Offline: if there is none.
            HubFull: if the asker has too many open.
        """
        mine = self._asked.setdefault(session.link, set())
        if len(mine) >= REQUESTS_OPEN_MAX:
            raise HubFull(f"{REQUESTS_OPEN_MAX} of your requests are open; wait for an answer")
        answering = (each for each in reversed(peer.sessions) if "answers" in each.about and each.may_receive)
        answerer = next(answering, None)
        if answerer is None:
            state = "has no session that answers requests" if peer.sessions else "is not connected"
            raise Offline(f"{peer.text} {state}; send a message instead, it will wait")
        self._last += 1
        self._open[self._last] = _Open(session.link, ref, answerer.link, peer.text, turn.at_ms + wait_ms)
        mine.add(self._last)
        self._answering.setdefault(answerer.link, set()).add(self._last)
        turn.send(answerer.link, [REQUEST, self._last, session.peer.text, wait_ms, body])

    def answer(self, session: Session, number: int, code: str, body: bytes, turn: Turn) -> None:
        """Pass an answer on; one that is late, or not from who was asked, is dropped."""
        asked = self._open.get(number)
        if asked is None or asked.answerer != session.link:
            return
        self._forget(number)
        if code:
            known = code if code in BY_CODE else "internal"
            turn.send(asked.asker, [ERROR, REQUEST, asked.ref, known, body[:1000].decode("utf-8", "replace")])
        else:
            turn.send(asked.asker, [RESPONSE, asked.ref, body])

    def drop(self, link: Link, turn: Turn) -> None:
        """A session is gone: forget what it asked, and tell those who asked it."""
        for number in self._asked.pop(link, set()).copy():
            self._forget(number)
        for number in self._answering.pop(link, set()).copy():
            asked = self._open.get(number)
            if asked is not None:
                self._forget(number)
                self._fail(asked, Offline(f"{asked.to} went away before it answered"), turn)

    def expire(self, turn: Turn) -> None:
        for number, asked in list(self._open.items()):
            if turn.at_ms >= asked.until_ms:
                self._forget(number)
                self._fail(asked, DeadlinePassed(f"{asked.to} did not answer in time"), turn)

    def _fail(self, asked: _Open, error: Offline | DeadlinePassed, turn: Turn) -> None:
        turn.send(asked.asker, [ERROR, REQUEST, asked.ref, error.code, str(error)])

    def _forget(self, number: int) -> None:
        asked = self._open.pop(number)
        self._asked.get(asked.asker, set()).discard(number)
        self._answering.get(asked.answerer, set()).discard(number)
