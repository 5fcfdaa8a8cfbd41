"""The feed: everything that happens in the hub, for those who look at all of it. Pure.

Who watches it is told at most every `FEED_S`, of what was committed meanwhile, and once a second of the pulse. A
watcher confirms what it was told with `feed.seen`; one that falls behind is left out until it does, and is then told
to read anew what it shows (`is_cut`). So nothing is kept for the slow, and while nobody watches nothing is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from orchestra.errors import HubFull
from orchestra.limits import FEED_S, FEED_UNSEEN_MAX, FEED_WATCHERS_MAX
from orchestra.wire import EVENT

from . import grants
from .board import Board
from .hubstate import HubState
from .news import News
from .pulse import Pulse
from .roster import Peer, Session
from .turn import Link, Turn, Writes

_FEED_MS: Final = int(FEED_S * 1000)
_PULSE_MS: Final = 1000


@dataclass(slots=True)
class _Watcher:
    """The numbers it was told last, and confirmed last."""

    told: int
    seen: int
    has_missed: bool = False


class Feed:
    """Who watches everything, and what they are told next."""

    def __init__(self, state: HubState, board: Board) -> None:
        self._watchers: dict[Link, _Watcher] = {}
        self._news = News(state, board)
        self._pulse = Pulse(state, board)
        self._n = 0
        self._due_ms = 0

    @property
    def is_watched(self) -> bool:
        return bool(self._watchers)

    def watch(self, session: Session, turn: Turn) -> dict[str, Any]:
        """Tell `session` of everything from now on; safe to repeat.

        Raises:
            NotAllowed: if its peer may not see the tasks and messages of all.
            HubFull: if too many watch.
        """
        peer = session.peer
        grants.check(session.rights, grants.OBSERVE)
        if session.link not in self._watchers and len(self._watchers) >= FEED_WATCHERS_MAX:
            raise HubFull(f"{FEED_WATCHERS_MAX} sessions watch the feed; ask with `status` instead")
        if not self._watchers:
            self._pulse.begin(turn.at_ms)
        self._watchers[session.link] = _Watcher(self._n, self._n)
        told = {"address": peer.text, "grants": session.rights.shown()}
        return {**told, "n": self._n, "unseen_max": FEED_UNSEEN_MAX, "now_ms": turn.now_ms}

    def seen(self, session: Session, n: int) -> None:
        """`session` has what it was told up to `n`."""
        watcher = self._watchers.get(session.link)
        if watcher is not None and watcher.seen < n <= watcher.told:
            watcher.seen = n

    def unwatch(self, session: Session) -> None:
        """Tell `session` nothing more; so it is when it has ended."""
        if self._watchers.pop(session.link, None) is not None and not self._watchers:
            self._news.clear()
            self._pulse.forget()

    def committed(self, writes: Writes) -> None:
        """These rows are on disk."""
        if self._watchers:
            self._news.take(writes)
            self._pulse.take(writes)

    def progress(self, seq: int, data: bytes) -> None:
        """A task put out `data`."""
        if self._watchers:
            self._news.take_progress(seq, data)

    def changed(self, peers: list[Peer]) -> None:
        """`peers` came, went, or said that they are away."""
        if self._watchers:
            for peer in peers:
                self._news.take_peer(peer)

    def is_due(self, at_ms: int) -> bool:
        """Whether `tell` has something to say."""
        if not self._watchers:
            return False
        return (bool(self._news) and at_ms >= self._due_ms) or at_ms - self._pulse.began_ms >= _PULSE_MS

    def tell(self, turn: Turn) -> None:
        """Owe the watchers what is due; called after the commit."""
        if not self.is_due(turn.at_ms):
            return
        self._due_ms = turn.at_ms + _FEED_MS
        self._n += 1
        told = {"n": self._n, "at_ms": turn.now_ms, **self._news.tell()}
        if turn.at_ms - self._pulse.began_ms >= _PULSE_MS:
            told["pulse"] = self._pulse.tell(turn.at_ms)
        record = [EVENT, "feed", told]  # one for all: a transport may encode it once
        anew = [EVENT, "feed", {**told, "is_cut": True}]
        for link, watcher in self._watchers.items():
            if watcher.told - watcher.seen >= FEED_UNSEEN_MAX:
                watcher.has_missed = True
                continue
            if watcher.has_missed:
                watcher.seen = self._n - 1  # of what it was told before, nothing is waited for
            turn.send(link, anew if watcher.has_missed else record)
            watcher.told, watcher.has_missed = self._n, False
