"""The bridge from the old file inboxes to the hub: an orchestrator writes and reads files, new agents do the work.

Nothing is lost or done twice, whoever is killed when: a file is claimed before it is sent to the hub, is sent under a
key made of its folder, name and content, and is put away after the hub said that it is stored; `Replies` says the rest.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from orchestra.aio import Client
from orchestra.errors import BadFile, NotAllowed, NotFound, PeerError, UnknownRecipient
from orchestra.job import decode_job
from orchestra.limits import FILES_OPEN_MAX
from orchestra.task import TaskState

from .claims import Claim, Claims, Step, Way
from .folder import Folder
from .intake import Arrival, Intake, shown
from .lock import Lock, lock_of
from .oldfile import digest_of
from .reply import Replies, now_ms, old_result
from .settings import BridgeSettings
from .tidy import tidy
from .watch import Watch

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 1.0  # before what the hub has no room for is sent again,
_PAUSE_S_MAX: Final = 30.0  # and before any later try
_ABSENT_S: Final = 10.0  # before a file is looked at again for whose agent the hub takes nothing


class Bridge:
    """Takes files into the hub and writes results back, until it is stopped. Make it with a client, and `run` it."""

    def __init__(self, settings: BridgeSettings, client: Client, claims: Claims) -> None:
        self._settings = settings
        self._client = client
        self._claims = claims
        self._intake = Intake(settings.trust)
        self._replies = Replies(lambda name: settings.outbox / name, settings.trust, claims)
        self._watch = Watch(settings.inbox, folders=self._folders)
        self._open: dict[tuple[str, str], Claim] = {}
        self._names: dict[str, set[str]] = {}  # files that are on their way to the hub, by folder
        self._locks: dict[str, Lock] = {}
        self._works: set[asyncio.Task[None]] = set()
        self._again: set[str] = set()  # folders with a file that waits for the end of something
        self._is_full = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Work until this is cancelled, or the hub ends the conversation for good.

        Raises:
            OrchestraError: why the hub ended it, or that the claims can't be kept.
        """
        over = asyncio.ensure_future(self._client.wait_over())
        tasks: list[asyncio.Future[Any]] = [
            over,
            self._failed,
            asyncio.ensure_future(self._look()),
            asyncio.ensure_future(tidy(self._claims, self._paths, self._settings.trust)),
        ]
        for claim in self._claims.open_of(Way.TO_HUB):
            if claim.step is not Step.CLAIMED:  # else its file is still there, and is found
                self._begin(claim, self._resume(claim))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                raise over.result()
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for each in (*tasks, *self._works):
                each.cancel()
            await asyncio.gather(*tasks, *self._works, return_exceptions=True)
            for lock in self._locks.values():
                lock.close()

    # Looking.

    def _folders(self) -> list[str]:
        found = []
        try:
            entries = list(os.scandir(self._settings.inbox))
        except OSError as exc:
            self._intake.tell_once(f"{self._settings.inbox} can't be looked at: {exc}")
            return []
        for entry in entries:
            if entry.name.startswith(".") or not (entry.is_dir() or entry.is_symlink()):
                continue
            if self._settings.agents.address_of(entry.name) is not None:
                found.append(entry.name)
            elif entry.name not in self._settings.agents.served:
                self._intake.tell_once(f"{entry.path} is left alone: --agent-map does not say who does its tasks")
        return sorted(found)

    def _paths(self) -> list[Path]:
        return [self._settings.inbox / name for name in self._folders()]

    async def _look(self) -> None:
        async for names in self._watch.changes():
            for name in sorted(names):
                self._scan(name)

    def _scan(self, name: str) -> None:
        if len(self._open) >= FILES_OPEN_MAX:
            self._is_full = True
        if self._is_full or not self._holds(name):
            return
        try:
            with Folder(self._settings.inbox / name, self._settings.trust) as folder:
                for arrival in self._intake.read(folder, skip=self._names.setdefault(name, set())):
                    if len(self._open) >= FILES_OPEN_MAX:
                        self._is_full = True
                        return
                    self._consider(folder, arrival)
        except FileNotFoundError:
            return
        except (BadFile, OSError) as exc:
            self._intake.tell_once(f"nothing is taken from {self._settings.inbox / name}: {exc}")

    def _holds(self, name: str) -> bool:
        """Whether this folder is ours: an agent may serve it by itself."""
        if name not in self._locks:
            try:
                self._locks[name] = Lock(lock_of(self._settings.inbox / name))
            except BlockingIOError:
                self._intake.tell_once(f"{self._settings.inbox / name} is left to the agent that serves it by itself")
                return False
        return True

    def _consider(self, folder: Folder, arrival: Arrival) -> None:
        known = self._open.get(arrival.place) or self._claims.find(*arrival.place)
        if known is None:
            self._take(arrival, None)
        elif known.way is Way.BY_HUB and known.prompt == arrival.task.prompt_digest and not known.is_open:
            self._begin(known, self._repeat(known, arrival))  # the agent that served this folder has done it
        elif known.step is Step.WRITTEN:
            self._again.add(arrival.folder)  # its orchestrator may have seen the result before we noted that
            if arrival.place not in self._open:
                self._begin(known, self._replies.publish(known))
        elif known.key != arrival.key and known.is_open and self._is_at_work(known):
            other = shown(os.fsdecode(known.name))
            self._intake.refuse(
                folder,
                arrival.name,
                f"its id {known.task} is that of {other}, which is not answered yet",
            )
        elif known.key == arrival.key and known.step is Step.STORED:
            arrival.put_away(folder)
        else:
            self._take(arrival, known if known.key == arrival.key else None)

    def _is_at_work(self, claim: Claim) -> bool:
        """Whether an open claim leads to a result: one whose file went before it was sent to the hub does not."""
        if claim.step is not Step.CLAIMED:
            return True
        with Folder(self._settings.inbox / claim.folder, self._settings.trust) as folder:
            return folder.has(os.fsdecode(claim.name))

    # One task.

    def _take(self, arrival: Arrival, known: Claim | None) -> None:
        address = self._settings.agents.address_of(arrival.folder)
        assert address is not None, "only such folders are looked at"
        # What the hub may have under this key already has to be asked for where it was sent to.
        to = known.address if known is not None and known.address else str(address)
        claim = arrival.claim(Way.TO_HUB, address=to, now_ms=now_ms())
        self._names[arrival.folder].add(arrival.name)
        self._begin(claim, self._work(claim, arrival))

    def _begin(self, claim: Claim, doing: Coroutine[Any, Any, None]) -> None:
        place = (claim.folder, claim.task)
        self._open[place] = claim
        work = asyncio.ensure_future(doing)
        self._works.add(work)

        def ended(work: asyncio.Task[None]) -> None:
            self._works.discard(work)
            self._open.pop(place, None)
            self._names.get(claim.folder, set()).discard(os.fsdecode(claim.name))
            if not work.cancelled() and (fault := work.exception()) is not None and not self._failed.done():
                self._failed.set_exception(fault)
            if claim.folder in self._again:
                self._again.discard(claim.folder)
                self._watch.look_again(claim.folder)
            if self._is_full and len(self._open) <= FILES_OPEN_MAX * 4 // 5:
                self._is_full = False
                for name in self._folders():
                    self._watch.look_again(name)

        work.add_done_callback(ended)

    async def _work(self, claim: Claim, arrival: Arrival) -> None:
        await self._claims.put(claim)
        try:
            seq = await self._store(claim, arrival)
        except (UnknownRecipient, NotAllowed) as error:  # no fault of the file, and somebody may mend it
            self._intake.tell_once(f"tasks of folder {claim.folder} wait for {claim.address}: {error}")
            await self._claims.drop(claim)  # with the address: it may be mapped otherwise by then
            await asyncio.sleep(_ABSENT_S)
            return
        except PeerError as error:
            if error.is_fatal:
                raise
            with Folder(self._settings.inbox / claim.folder, self._settings.trust) as folder:
                self._intake.refuse(folder, arrival.name, f"the hub does not take it: {error}")
            await self._claims.drop(claim)
            return
        stored = replace(claim, step=Step.STORED, seq=seq, changed_ms=now_ms())
        self._open[arrival.place] = stored
        logger.debug("task %s of folder %s is task %d at the hub", shown(claim.task), claim.folder, seq)
        following = asyncio.ensure_future(self._outcome(stored))  # the hub works while the disk does
        try:
            await self._claims.put(stored)
            with Folder(self._settings.inbox / claim.folder, self._settings.trust) as folder:
                arrival.put_away(folder)
            facts = await following
        finally:
            following.cancel()
        await self._answer(stored, facts)

    async def _resume(self, claim: Claim) -> None:
        if claim.step is Step.WRITTEN:
            await self._replies.publish(claim)
        else:
            await self._answer(claim, await self._outcome(claim))

    async def _repeat(self, known: Claim, arrival: Arrival) -> None:
        written = await self._replies.write(known, known.result, keep=True)
        with Folder(self._settings.inbox / arrival.folder, self._settings.trust) as folder:
            arrival.put_away(folder)
        await self._replies.publish(written)

    async def _store(self, claim: Claim, arrival: Arrival) -> int:
        pause_s = _PAUSE_S
        while True:
            try:
                return await self._client.store_job(
                    claim.address, arrival.task.job(), priority=arrival.task.priority, key=claim.key
                )
            except PeerError as error:
                if not error.is_temporary:
                    raise
                self._intake.tell_once(f"the hub has no room for tasks of {claim.folder}: {error}; trying again")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    async def _outcome(self, stored: Claim) -> dict[str, Any]:
        """Return what `task.get` tells of a task once it is over."""
        while True:
            try:
                task = await self._client.follow(stored.seq)
                await task.result()
                facts = await self._client.call("task.get", seq=stored.seq)
                if digest_of(decode_job(facts["body"]).prompt) != stored.prompt:
                    raise NotFound("a hub that began anew has another task under its number")
                return facts
            except (NotFound, NotAllowed):
                report = {"text": f"the hub does not have task {stored.seq} any more"}
                dead = {"state": TaskState.DEAD, "output": b"", "updated_ms": now_ms(), "attempts": []}
                return {**dead, "report": report}
            except PeerError as error:
                if not error.is_temporary:
                    raise
                self._intake.tell_once(f"the hub tells no results of {stored.folder}: {error}; trying again")
            await asyncio.sleep(_PAUSE_S)

    async def _answer(self, stored: Claim, facts: dict[str, Any]) -> None:
        written = await self._replies.write(stored, old_result(stored, facts).encode())
        self._open[stored.folder, stored.task] = written
        await self._replies.publish(written)
