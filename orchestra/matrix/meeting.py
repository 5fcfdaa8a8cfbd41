"""A meeting of a matrix with its hub: what each still has to tell the other, told.

What waits in the outbox is sent, what was read here is said to be read, and what waits at the hub is taken in. All of
it may be done again after a crash at any point: sends carry a key, and each message is stored once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from orchestra.address import Address, parse_address
from orchestra.aio import CONTEXT
from orchestra.errors import BadOption, HubUnreachable, KeyFault, OrchestraError, PeerError, StateFault
from orchestra.limits import LIST_ROWS_MAX
from orchestra.memory.words import Kind

from . import calling, letters, reports, unsent
from .identity import Matrix, is_here

if TYPE_CHECKING:
    from orchestra.aio import Client
    from orchestra.memory.store import Store

    from .archive import Archive
    from .unsent import Item


@dataclass(frozen=True, slots=True)
class Met:
    """What came of a meeting. `sent`: seqs by id of their memory; `refused`: reasons by id."""

    sent: dict[int, int] = field(default_factory=dict)
    refused: dict[int, OrchestraError] = field(default_factory=dict)


class Meeting:
    """The meetings of one open client."""

    def __init__(self, client: Client, archive: Archive, matrix: Matrix, *, project: str) -> None:
        self.client = client
        self.hub = hub_id(matrix)
        self._matrix = matrix
        self._archive = archive
        self._me = str(matrix.address)
        self._take_in = partial(letters.take_in, hub=self.hub, me=self._me, project=project)
        self._one_at_a_time = asyncio.Lock()

    async def hold(self) -> Met:
        """Tell each other everything. Safe to cancel, and to repeat.

        Raises:
            ConnectionFault: if the hub went away meanwhile.
            StorageFault: as `Store`.
        """
        met = Met()
        async with self._one_at_a_time:
            unread = await self._archive.do(partial(letters.unread_seqs, hub=self.hub))
            await self._send(met)
            await self._tell()
            await self._fetch(unread)
        return met

    async def read(self) -> None:
        """Store what is pushed, for ever; the hub counts it as delivered, and not as read."""
        async for batch in self.client.batches(peek=True):
            await self._archive.do(partial(self._take_in, messages=batch, now_ms=_now_ms()))

    async def _send(self, met: Met) -> None:
        after = 0
        while items := await self._archive.do(partial(unsent.waiting, after=after)):
            for item in items:
                try:
                    seq = await self._send_one(item)
                except (PeerError, KeyFault, StateFault) as error:  # also where its recipient could not be let in
                    met.refused[item.entry.id] = error
                    await self._archive.do(partial(unsent.was_refused, item=item, error=str(error)))
                else:
                    met.sent[item.entry.id] = seq
                    done = partial(unsent.was_sent, item=item, hub=self.hub, seq=seq, sender=self._me)
                    await self._archive.do(done)
            after = items[-1].number

    async def _send_one(self, item: Item) -> int:
        entry = item.entry
        if entry.kind == Kind.ISSUE:
            return await self.client.publish(reports.CHANNEL, reports.encode(entry), entry=entry.uid)
        if entry.kind == Kind.CONTEXT:
            return await self.client.publish(
                CONTEXT, entry.body, entry=entry.title, if_version=item.base, key=entry.uid
            )
        await self._let_in(parse_address(entry.recipient))
        try:
            return await self._send_message(item, reply_to=item.base)
        except BadOption:
            if item.base is None:
                raise
            return await self._send_message(item, reply_to=None)  # what it answers is not kept any more

    async def _send_message(self, item: Item, *, reply_to: int | None) -> int:
        entry = item.entry
        return await self.client.send(entry.recipient, letters.text_of(entry), key=entry.uid, reply_to=reply_to)

    async def _let_in(self, address: Address) -> None:
        """Let another clone of this machine in that has never met the hub, so that its messages wait for it."""
        state = self._matrix.state
        if is_here(address, state) and not state.key_of(address).exists():
            await calling.let_in(state, address)

    async def _tell(self) -> None:
        while seqs := await self._archive.do(partial(letters.untold, hub=self.hub)):
            await self.client.mark_read(seqs)
            await self._archive.do(partial(letters.were_told, seqs=seqs, hub=self.hub))

    async def _fetch(self, unread: list[int]) -> None:
        """Take in what waits, and note which of the `unread` were read by another program: those the hub lists not."""
        after = await self._archive.do(partial(letters.taken_up_to, hub=self.hub))
        if unread:
            after = min(after, unread[0] - 1)
        listed: set[int] = set()
        while page := await self.client.inbox(count=LIST_ROWS_MAX, after=after):
            after = page[-1].seq
            await self._archive.do(partial(self._take_in, messages=page, up_to=after, now_ms=_now_ms()))
            listed.update(message.seq for message in page)
        if gone := [seq for seq in unread if seq not in listed]:
            noting = partial(letters.were_read_elsewhere, seqs=gone, hub=self.hub, now_ms=_now_ms())
            await self._archive.do(noting)


def hub_id(matrix: Matrix) -> str:
    """Return what tells one hub from another: the begin of the SHA-256 of the key it was first known by.

    Raises:
        HubUnreachable, StateFault: as `StateFolder.read_card`.
    """
    return sha256(matrix.state.read_card().hub_id.encode()).hexdigest()[:16]


def seq_at_hub(store: Store, id: int, matrix: Matrix) -> int | None:
    """Return what the hub calls a message of this matrix, or None if it does not know it, or there is no hub."""
    try:
        hub = hub_id(matrix)
    except (HubUnreachable, StateFault):
        return None
    return letters.seq_of(store, id, hub=hub)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
