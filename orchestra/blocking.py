"""The client for ordinary code: `with orchestra.connect() as client: …`.

The asyncio client runs in a thread of its own, so that the connection stays alive while the program thinks; every
method here waits for the method of the same name there. Safe to use from several threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from . import aio, subscription
from .aio import ContextValue, TaskResult
from .conversation import Changed, Message, Presence, Progressed
from .job import TIMEOUT_S_DEFAULT, Job
from .keys import KeyPair
from .limits import CREDIT_DEFAULT
from .terms import PLAIN, Terms

T = TypeVar("T")


class _Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="orchestra-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and wait for it; Ctrl-C in the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Reading(Generic[T]):
    """An asynchronous stream, read by waiting."""

    def __init__(self, loop: _Loop, stream: AsyncIterator[T]) -> None:
        self._loop = loop
        self._stream = stream

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self._loop.run(_next(self._stream))
                except StopAsyncIteration:
                    return
        finally:
            if not self._loop.is_closed:  # the client may be closed before the loop over this is left
                self._loop.run(_close(self._stream))


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream)


async def _close(stream: AsyncIterator[T]) -> None:
    closing = getattr(stream, "aclose", None)
    if closing is not None:
        await closing()


class SubmittedTask:
    """A task this client submitted or follows. `seq` is its number at the hub."""

    def __init__(self, loop: _Loop, task: aio.SubmittedTask) -> None:
        self.seq = task.seq
        self._loop = loop
        self._task = task

    def result(self) -> TaskResult:
        """Wait until the task is over."""
        return self._loop.run(self._task.result())

    def follow(self) -> Iterator[Progressed | Changed]:
        """Give output and changes of state as they happen, until the task is over."""
        return iter(_Reading(self._loop, self._task.follow()))

    def cancel(self) -> None:
        """Ask for its end; `result` tells when it came."""
        self._loop.run(self._task.cancel())

    def answer(self, text: str) -> None:
        """Answer what it asks while it is `input-required`."""
        self._loop.run(self._task.answer(text))


class Subscription:
    """The entries of one channel as they come; see `orchestra.subscription.Subscription`."""

    def __init__(self, loop: _Loop, followed: subscription.Subscription) -> None:
        self._loop = loop
        self._subscription = followed

    @property
    def after(self) -> int:
        """The seq after which entries come, once it has begun."""
        return self._subscription.after

    @property
    def missed(self) -> int:
        """Retention removed entries up to this seq before they were given; 0 says that none were. It may grow."""
        return self._subscription.missed

    def __iter__(self) -> Iterator[Message]:
        return iter(_Reading(self._loop, self._subscription))

    def __enter__(self) -> Self:
        self._loop.run(self._subscription.__aenter__())
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.run(self._subscription.aclose())

    def confirm(self) -> None:
        """Say now that all that was given so far was dealt with, also the entry that was given last."""
        self._loop.run(_confirm(self._subscription))


async def _confirm(followed: subscription.Subscription) -> None:
    followed.confirm()


class Client:
    """A connection to the hub that mends itself. Make it with `orchestra.connect`."""

    def __init__(self, loop: _Loop, client: aio.Client) -> None:
        self._loop = loop
        self._client = client

    @property
    def address(self) -> str:
        return self._client.address

    def close(self) -> None:
        """Say goodbye; safe to call more than once."""
        if not self._client.is_closed:
            self._loop.run(self._client.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(
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
        """Send a message; return its seq once the hub has it on disk, or once it came to the stage `wait`."""
        return self._loop.run(
            self._client.send(
                to,
                body,
                priority=priority,
                reply_to=reply_to,
                expires_s=expires_s,
                key=key,
                seal=seal,
                wait=wait,
                timeout_s=timeout_s,
            )
        )

    def reply(self, message: Message, body: str | bytes, *, priority: str | None = None) -> int:
        """Answer a message to whoever sent it, in the same thread; return the seq of the answer."""
        return self._loop.run(self._client.reply(message, body, priority=priority))

    def send_all(self, to: str, bodies: Iterable[str | bytes]) -> list[int]:
        """Send many messages to one address, in their order and in batches; return their seqs."""
        return self._loop.run(self._client.send_all(to, bodies))

    def submit(
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
        submitting = self._client.submit_job(to, job, priority=priority, terms=terms, key=key)
        return SubmittedTask(self._loop, self._loop.run(submitting))

    def follow(self, seq: int) -> SubmittedTask:
        """Follow a task that was submitted earlier."""
        return SubmittedTask(self._loop, self._loop.run(self._client.follow(seq)))

    def request(self, to: str, body: str | bytes, *, timeout_s: float = 5.0) -> bytes:
        """Ask another peer and wait for its answer; Offline at once if it is not there."""
        return self._loop.run(self._client.request(to, body, timeout_s=timeout_s))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the hub itself; `docs/protocol.md` lists the methods."""
        return self._loop.run(self._client.call(method, **params))

    def messages(self, *, credit: int = CREDIT_DEFAULT, peek: bool = False) -> Iterator[Message]:
        """Give the messages to this peer as they are pushed; asking for the next acknowledges the one before.

        With `peek` a message only counts as delivered, and stays in the inbox until `mark_read`.
        """
        return iter(_Reading(self._loop, self._client.messages(credit=credit, peek=peek)))

    def subscribe(self, channel: str, *, after: int | None = None, cursor: str | None = None) -> Subscription:
        """Follow `channel`: `for entry in client.subscribe(…)`; see `orchestra.aio.Client.subscribe`."""
        return Subscription(self._loop, self._client.subscribe(channel, after=after, cursor=cursor))

    def publish(
        self,
        channel: str,
        body: str | bytes,
        *,
        entry: str | None = None,
        if_version: int | None = None,
        key: str | None = None,
    ) -> int:
        """Publish to a channel; return the entry's seq. An `entry` has a name, and overwrites the earlier one."""
        return self._loop.run(self._client.publish(channel, body, entry=entry, if_version=if_version, key=key))

    def remove_entry(self, channel: str, entry: str, *, if_version: int | None = None) -> int:
        """Remove what a channel holds under a name, and tell those who follow."""
        return self._loop.run(self._client.remove_entry(channel, entry, if_version=if_version))

    def context_get(self, name: str) -> ContextValue:
        """Return what `channel/context` holds under a name, with its version; NotFound if nothing."""
        return self._loop.run(self._client.context_get(name))

    def context_set(self, name: str, value: str | bytes, *, if_version: int | None = None) -> int:
        """Set what `channel/context` holds under a name; return its new version."""
        return self._loop.run(self._client.context_set(name, value, if_version=if_version))

    def context_drop(self, name: str, *, if_version: int | None = None) -> None:
        """Remove what `channel/context` holds under a name."""
        self._loop.run(self._client.context_drop(name, if_version=if_version))

    def watch_presence(self) -> Iterator[Presence]:
        """Tell where every peer stands now, then each that comes, goes, or says that it is away or back."""
        return iter(_Reading(self._loop, self._client.watch_presence()))

    def inbox(self, *, count: int = 100, after: int = 0) -> list[Message]:
        """Return the unread messages to this peer without consuming them."""
        return self._loop.run(self._client.inbox(count=count, after=after))

    def mark_read(self, seqs: Iterable[int], *, ack: bool = False) -> int:
        """Say that messages were read, or with `ack` that they were dealt with; they leave the inbox."""
        return self._loop.run(self._client.mark_read(seqs, ack=ack))


def connect(
    *,
    state: str | Path | None = None,
    address: str | None = None,
    key: KeyPair | None = None,
    patience_s: float | None = 0.0,
) -> Client:
    """Connect to the hub of a state folder; the arguments and errors are those of `orchestra.aio.connect`."""

    async def opening() -> aio.Client:
        return await aio.connect(state=state, address=address, key=key, patience_s=patience_s)

    loop = _Loop()
    try:
        return Client(loop, loop.run(opening()))
    except BaseException:
        loop.close()
        raise
