"""Following a channel: where one reader is, what it was given, and what the hub is told of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from .conversation import Conversation, Message
from .errors import OrchestraError, PeerError
from .limits import CREDIT_DEFAULT, SEEN_S


@dataclass(frozen=True, slots=True)
class Line:
    """What following needs of its client.

    Attributes:
        places: those that are followed, by channel.
        expect: the reply to a CALL, as a future.
        flush: sends what is in the outbox.
        check: raises if the client is over.
    """

    loop: asyncio.AbstractEventLoop
    talk: Conversation
    expect: Callable[[int], asyncio.Future[Any]]
    flush: Callable[[], None]
    check: Callable[[], None]
    places: dict[str, Place] = field(default_factory=dict)


class Subscription:
    """The entries of one channel as they come: `async for entry in client.subscribe("channel/status")`.

    It begins with the first entry that is asked for, or with `async with client.subscribe(…) as entries`, which also
    ends it in time. With a `cursor`, asking for the next entry says that the one before was dealt with; the hub is told
    at most once a second and at the end, so after a crash some come again: at least once.

    Attributes:
        after: the seq after which entries come, once it has begun.
        missed: retention removed entries up to this seq before they were given; 0 says that none were. It may grow.
    """

    def __init__(self, line: Line, channel: str, after: int | None, cursor: str | None) -> None:
        self._place = Place(line, channel, after, cursor)
        self._entries = self._place.entries()  # holds the place and not this: when this is dropped, it ends

    @property
    def after(self) -> int:
        return self._place.after or 0

    @property
    def missed(self) -> int:
        return self._place.missed

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return await anext(self._entries)

    async def __aenter__(self) -> Self:
        await self._place.begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def confirm(self) -> None:
        """Say now that all that was given so far was dealt with, also the entry that was given last."""
        self._place.took()
        self._place.tell()

    async def aclose(self) -> None:
        """Stop following. What was given last counts as not dealt with, unless it was confirmed."""
        await self._entries.aclose()
        self._place.leave()


class Place:
    """Where one reader of a channel is: `given` to it, `seen` (dealt with) by it, and `told` to the hub."""

    def __init__(self, line: Line, channel: str, after: int | None, cursor: str | None) -> None:
        self.channel = channel
        self.after = after
        self.cursor = cursor
        self.missed = 0
        self.messages: deque[Message] = deque()
        self.arrived = asyncio.Event()
        self._line = line
        self._has_begun = False
        self._given = self._seen = self._told = 0
        self._untold = 0
        self._error: OrchestraError | None = None
        self._timer: asyncio.TimerHandle | None = None

    def put(self, message: Message) -> None:
        self.messages.append(message)
        self.arrived.set()

    def fail(self, error: OrchestraError) -> None:
        """There are no more entries: the reader is told once it has read those that came."""
        self._error = error
        self.arrived.set()

    async def begin(self) -> None:
        """Subscribe, unless that was done.

        Raises:
            PeerError: if this client follows the channel already, or the hub refuses.
        """
        if self._has_begun:
            return
        if self.channel in self._line.places:
            raise PeerError(f"{self.channel} is subscribed to already")
        self._has_begun = True
        self._line.check()
        self._line.places[self.channel] = self
        try:
            begun = await self._line.expect(self._line.talk.subscribe(self.channel, self.after, cursor=self.cursor))
        except BaseException:
            self.leave()
            raise
        self.after = begun["after"]

    async def entries(self) -> AsyncGenerator[Message, None]:
        await self.begin()
        try:
            while True:
                while not self.messages:
                    self._line.check()
                    if self._error is not None:
                        raise self._error
                    self.arrived.clear()
                    await self.arrived.wait()
                entry = self.messages.popleft()
                self._given = entry.seq
                yield entry
                self.took()
        finally:
            self.leave()

    def took(self) -> None:
        """The reader has dealt with what it was given: the hub is told soon."""
        if self._given <= self._seen:
            return
        self._seen = self._given
        self._untold += 1
        if self._untold >= CREDIT_DEFAULT // 2:
            self.tell()
        elif self._timer is None:
            self._timer = self._line.loop.call_later(SEEN_S, self.tell)

    def tell(self) -> None:
        """Tell the hub what was dealt with."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._seen > self._told:
            self._told, self._untold = self._seen, 0
            ref = self._line.talk.seen(self.channel, self._seen, cursor=self.cursor)
            self._line.expect(ref).add_done_callback(self._was_told)

    def throw_away(self) -> None:
        """The connection is lost: what nobody took comes again, and is not kept beside what comes then."""
        if self.messages:
            self._line.talk.rewind(self.channel, self.messages[0].seq - 1)
            self.messages.clear()

    def leave(self) -> None:
        """Stop following; safe to call more than once."""
        if self._line.places.get(self.channel) is self:
            self.tell()
            del self._line.places[self.channel]
            self._line.talk.unsubscribe(self.channel)
            self._line.flush()

    def _was_told(self, answered: asyncio.Future[Any]) -> None:
        error = answered.exception()
        if isinstance(error, PeerError) and error.is_temporary and self._line.places.get(self.channel) is self:
            self._told = 0  # the hub makes room by what it is told: say it again
            self._timer = self._timer or self._line.loop.call_later(SEEN_S, self.tell)
