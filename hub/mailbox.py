"""A mailbox: the messages owed to one peer, in the order they are to be delivered. Pure.

Only the head of a long mailbox is in memory (the *window*). What is beyond it is in the database, and is fetched when
the window runs dry; so a million waiting messages cost no memory, and a new one costs the same as the first.

Invariant: every owed message whose key `(rank, seq)` is at most `edge` is in the window or in flight, unless `edge` is
None, which says that nothing is beyond the window.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator

from orchestra.limits import WINDOW_MESSAGES
from orchestra.wire import DELIVER, MESSAGE, Record

from .turn import Link

Key = tuple[int, int]


class Letter:
    """One message owed to one peer. Made once per message, hence no dataclass."""

    __slots__ = (
        "attempt", "body", "due_ms", "holders", "is_delivered", "lease", "options", "rank", "sender", "seq",
        "time_ms", "to",
    )  # fmt: skip

    def __init__(
        self,
        seq: int,
        rank: int,
        attempt: int,
        sender: str,
        to: str,
        time_ms: int,
        options: dict[str, object] | None,
        body: bytes,
    ) -> None:
        self.seq = seq
        self.rank = rank
        self.attempt = attempt  # how often it was delivered so far
        self.sender = sender
        self.to = to
        self.time_ms = time_ms
        self.options = options
        self.body = body
        self.lease = 0
        self.due_ms = 0  # in flight: when it is taken for lost; waiting: not before
        self.holders: set[Link] = set()
        self.is_delivered = False  # a session has it; others that got it may still say more

    def copy(self) -> Letter:
        """Return the same message for another recipient."""
        return Letter(self.seq, self.rank, self.attempt, self.sender, self.to, self.time_ms, self.options, self.body)

    def record(self) -> Record:
        return [
            DELIVER,
            self.lease,
            self.attempt,
            self.seq,
            self.sender,
            self.to,
            MESSAGE,
            self.time_ms,
            self.options,
            self.body,
        ]


def _key(letter: Letter) -> Key:
    return letter.rank, letter.seq


class Mailbox:
    """The messages that one peer has not read.

    `count` is all of them: `delivered` ones, which only stay in the inbox, and those that still wait to be delivered:
    in the window, in flight and beyond.
    """

    def __init__(self, recipient: int, *, count: int = 0, delivered: int = 0) -> None:
        self.recipient = recipient
        self.count = count
        self.delivered = delivered
        self.in_flight: dict[int, Letter] = {}
        self.is_fetching = False
        self._window: list[Letter] = []
        self._late: list[Letter] = []
        """Beyond the edge, and put while rows are fetched that may not have them yet."""
        self._edge: Key | None = (-1, 0) if count > delivered else None

    @property
    def waiting(self) -> int:
        """How many are still to be delivered."""
        return self.count - self.delivered

    def put(self, letter: Letter) -> None:
        """Take in a new message."""
        self.count += 1
        if self._edge is not None and _key(letter) > self._edge:
            if self.is_fetching:
                self._late.append(letter)
            return
        self._insert(letter)
        if len(self._window) > WINDOW_MESSAGES and not self.is_fetching:
            self._window.pop()
            # What was put back may lie beyond the edge, and so may the last of the window: the edge never rises here.
            last = _key(self._window[-1])
            self._edge = last if self._edge is None else min(last, self._edge)

    def put_back(self, letter: Letter, *, not_before_ms: int) -> None:
        """A delivery failed: let it wait again, at its old place."""
        self.in_flight.pop(letter.seq, None)
        letter.holders.clear()
        letter.due_ms = not_before_ms
        self._insert(letter)

    def refill(self, letters: Iterable[Letter], *, is_all: bool) -> None:
        """Take in what the database held after `edge`, in order."""
        self.is_fetching = False
        known = {letter.seq for letter in self._window} | self.in_flight.keys()
        for letter in letters:
            self._edge = _key(letter)
            if letter.seq not in known:
                known.add(letter.seq)
                self._insert(letter)
        if is_all:
            self._edge = None
        late, self._late = self._late, []
        for letter in late:  # what is beyond the new edge is in the database by the time it is fetched
            if letter.seq not in known and (self._edge is None or _key(letter) <= self._edge):
                self._insert(letter)

    @property
    def wants(self) -> Key | None:
        """After which key the database should be read, or None where the window still serves."""
        return None if self._window or self.is_fetching else self._edge

    def take(self, now_ms: int) -> Iterator[Letter]:
        """Give the messages that may be delivered now, in order; each given one is in flight."""
        place = 0
        while place < len(self._window):
            if self._window[place].due_ms > now_ms:
                place += 1
                continue
            letter = self._window.pop(place)
            self.in_flight[letter.seq] = letter
            yield letter

    def hand(self, letter: Letter) -> None:
        """Take in a new message that goes out at once, past an empty window."""
        self.count += 1
        self.in_flight[letter.seq] = letter

    @property
    def is_empty_handed(self) -> bool:
        """Whether nothing waits, so that a new message may go out at once without overtaking another."""
        return not self._window and self._edge is None

    def find(self, seq: int) -> Letter | None:
        """Return a letter that is in flight or in the window."""
        return self.in_flight.get(seq) or next((each for each in self._window if each.seq == seq), None)

    def settle(self, seq: int) -> Letter | None:
        """The recipient has it (or it is dead): forget it."""
        letter = self.in_flight.pop(seq, None)
        if letter is None:
            for held in (self._window, self._late):
                for place, waiting in enumerate(held):
                    if waiting.seq == seq:
                        letter = held.pop(place)
                        break
        if letter is not None:
            self.count -= 1
            self.delivered -= letter.is_delivered
        return letter

    def settle_stored(self, *, is_delivered: bool) -> None:
        """Forget one that is not in memory."""
        self.count -= 1
        self.delivered -= is_delivered

    def _insert(self, letter: Letter) -> None:
        window = self._window
        if not window or _key(window[-1]) < _key(letter):
            window.append(letter)
        else:
            insort(window, letter, key=_key)
