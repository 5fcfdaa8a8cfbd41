"""A matrix and a real hub: what each still had to tell the other is told, once, whatever dies in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.errors import ConnectionFault, HubUnreachable, KeyFault, KeyRefused
from orchestra.keys import make_key_pair
from orchestra.matrix import calling, letters, link, reports, unsent
from orchestra.matrix.archive import Archive
from orchestra.matrix.identity import Matrix, matrix_at, matrix_of
from orchestra.matrix.meeting import Met, hub_id
from orchestra.memory.entry import Entry
from orchestra.memory.store import Store
from orchestra.state import this_operator

from ..hub.livehub import LiveHub, live_hub, run, until
from ..memory.memories import issue


class Clone:
    """A clone on the machine of a hub, with its memory open."""

    def __init__(self, folder: Path, state: Path) -> None:
        (folder / ".git").mkdir(parents=True)
        self.folder = folder
        self.path = folder / ".orchestra" / "memory.db"
        self.store = Store(self.path)
        self._state = state

    @property
    def matrix(self) -> Matrix:
        return matrix_of(self.path, state=self._state)

    @property
    def address(self) -> str:
        return str(self.matrix.address)

    def write(self, text: str, to: str = "*", **options: Any) -> Entry:
        entry = letters.written(text, sender=self.address, to=to, project="p", now_ms=now_ms())
        return unsent.add(self.store, entry, now_ms=now_ms(), **options)

    async def meet(self, then: Callable[[aio.Client, Met], Awaitable[Any]] | None = None) -> Any:
        await calling.introduce(lambda: self.matrix)

        async def nothing(client: aio.Client, met: Met) -> Met:
            return met

        return await link.meet(self.path, self.matrix, project="p", then=then or nothing, within_s=30)

    def texts(self, **options: Any) -> list[str]:
        found = letters.inbox(self.store, me=self.address, limit=100, **options)
        return sorted(letters.text_of(each) for each in found)

    def states(self) -> dict[str, bool]:
        """Return which of the messages that came were read."""
        found = letters.inbox(self.store, me=self.address, limit=100)
        return {letters.text_of(each): each.read_ms is not None for each in found}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def two_clones(tmp_path: Path) -> AsyncIterator[tuple[LiveHub, Clone, Clone]]:
    async with live_hub(tmp_path) as hub:
        web, api = (Clone(tmp_path / name, hub.folder.path) for name in ("web", "api"))
        with web.store, api.store:
            await web.meet()
            await api.meet()
            yield hub, web, api


def test_what_waited_is_sent_once_and_comes_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (_, web, api):
            sent = [web.write("to all"), web.write("to api", to="matrix/api")]
            met = await web.meet()
            assert set(met.sent) == {each.id for each in sent}
            assert (await web.meet()).sent == {}
            await api.meet()
            await api.meet()
            assert api.texts() == ["to all", "to api"]
            assert web.texts() == []

    run(scenario())


def test_a_crash_between_the_sending_and_its_note_sends_nothing_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (_, web, api):
            entry = web.write("once", to="matrix/api")
            before = await asyncio.to_thread(web.path.read_bytes)
            async with await calling.connect(web.matrix) as client:
                seq = await client.send("matrix/api", "once", key=entry.uid)  # and the process is killed here
            assert web.path.read_bytes() == before
            assert (await web.meet()).sent == {entry.id: seq}
            await api.meet()
            assert api.texts() == ["once"]

    run(scenario())


def test_two_processes_that_meet_the_hub_at_once_send_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (_, web, api):
            for number in range(20):
                web.write(f"{number:02}", to="matrix/api")
            await asyncio.gather(web.meet(), web.meet(), web.meet())
            await api.meet()
            assert api.texts() == [f"{number:02}" for number in range(20)]
            assert unsent.count(web.store) == 0

    run(scenario())


def test_one_that_is_refused_stays_with_the_reason_and_holds_up_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (hub, web, _api):
            lost = web.write("lost", to="matrix/nobody")
            web.write("found", to="matrix/api")
            met = await web.meet()
            assert (len(met.sent), list(met.refused)) == (1, [lost.id])
            (item,) = unsent.waiting(web.store)
            assert "matrix/nobody" in item.error
            hub.enrol("matrix/nobody")
            assert lost.id in (await web.meet()).sent

    run(scenario())


def test_a_clone_of_this_machine_that_never_met_the_hub_gets_its_messages(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (hub, web, _):
            late = Clone(tmp_path / "late", hub.folder.path)
            with late.store:
                web.write("for later", to=late.address)
                assert (await web.meet()).refused == {}
                await late.meet()
                assert late.texts() == ["for later"]

    run(scenario())


def test_a_recipient_that_can_not_be_let_in_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (hub, web, api):
            late = Clone(tmp_path / "late", hub.folder.path)
            lost = web.write("for later", to=str(matrix_at(late.folder, hub.folder)))
            web.write("for now", to=api.address)
            hub.folder.key_of(this_operator()).chmod(0o644)
            met = await web.meet()
            assert "chmod 600" in str(met.refused[lost.id])
            await api.meet()
            assert api.texts() == ["for now"]

    run(scenario())


def test_reading_here_is_told_to_the_hub_and_reading_elsewhere_is_told_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (_hub, web, api):
            for text in ("here", "there", "nowhere"):
                web.write(text, to="matrix/api")
            await web.meet()
            await api.meet()
            here = next(each for each in letters.inbox(api.store, me=api.address, limit=9) if each.title == "here")
            letters.mark_read(api.store, [here.id], now_ms=now_ms())

            async def elsewhere(client: aio.Client, met: Met) -> list[str]:
                unread = await client.inbox()
                await client.mark_read([each.seq for each in unread if each.text == "there"])
                return [each.text for each in unread]

            assert await api.meet(elsewhere) == ["there", "nowhere"], "looking consumed nothing, reading one did"
            await api.meet()
            assert api.states() == {"here": True, "there": True, "nowhere": False}

    run(scenario())


def test_what_a_command_took_in_counts_as_delivered_and_not_as_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (hub, _web, api), hub.connect("operator/me") as operator:
            sent = await operator.send_watched("matrix/api", "hello")
            await api.meet()
            await sent.reached("delivered", timeout_s=5)
            assert sent.stage == "delivered"

    run(scenario())


def test_an_answer_is_in_the_thread_of_its_message_also_if_that_is_gone_at_the_hub(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (_, web, api):
            web.write("question", to="matrix/api")
            await web.meet()
            await api.meet()
            (question,) = letters.inbox(api.store, me=api.address, limit=9)
            seq = letters.seq_of(api.store, question.id, hub=hub_id(api.matrix))
            api.write("answer", to="matrix/web", base=seq)
            api.write("to one that is gone", to="matrix/web", base=10_000)
            assert (await api.meet()).refused == {}
            await web.meet()
            threads = {each.title: each.thread for each in letters.inbox(web.store, me=web.address, limit=9)}
            assert threads == {"answer": str(seq), "to one that is gone": ""}

    run(scenario())


def test_issues_are_published_with_their_newest_state_and_read_by_others(tmp_path: Path) -> None:
    async def reading(client: aio.Client, met: Met) -> list[reports.Report]:
        return await reports.read(client)

    async def scenario() -> None:
        async with two_clones(tmp_path) as (hub, web, api):
            unsent.add_issue(web.store, issue("It hangs", severity="high", repro="run it"), now_ms=now_ms())
            unsent.add_issue(web.store, issue("Secret", visibility="private"), now_ms=now_ms())
            await web.meet()
            async with hub.connect("operator/me") as operator:
                await operator.publish(reports.CHANNEL, "not json", entry="x")
                await operator.publish(reports.CHANNEL, '{"severity": "awful", "title": "x"}', entry="y")
                await operator.publish(reports.CHANNEL, "a note without a name")
            (found,) = await api.meet(reading)
            assert (found.matrix, found.title, found.severity, found.repro) == (
                "matrix/web",
                "It hangs",
                "high",
                "run it",
            )
            unsent.close_issue(web.store, 1, now_ms=now_ms())
            await web.meet()
            (found,) = await api.meet(reading)
            assert found.is_closed

    run(scenario())


def test_a_context_that_somebody_else_changed_is_not_overwritten(tmp_path: Path) -> None:
    def context(text: str) -> Entry:
        return Entry(kind="context", title="mission", body=text, project="p")

    async def scenario() -> None:
        async with two_clones(tmp_path) as (hub, web, api):
            ours = unsent.add(web.store, context("ours"), base=0, now_ms=now_ms())
            theirs = unsent.add(api.store, context("theirs"), base=0, now_ms=now_ms())
            version = (await web.meet()).sent[ours.id]
            assert list((await api.meet()).refused) == [theirs.id]
            async with hub.connect("operator/me") as operator:
                found = await operator.context_get("mission")
                assert (found.text, found.version) == ("ours", version)

    run(scenario())


def test_a_clone_with_the_name_of_one_on_another_machine_gets_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            hub.decider.state.add_peer(parse_peer("matrix/web"), make_key_pair().public, now_ms=0)
            web, api = (Clone(tmp_path / name, hub.folder.path) for name in ("web", "api"))
            with web.store, api.store:
                api.write("to the clone here", to=str(matrix_at(web.folder, hub.folder)))
                assert "on another machine" in str(*(await api.meet()).refused.values())
                await web.meet()
                assert web.address == "matrix/web-2"
                api.write("again", to=str(matrix_at(web.folder, hub.folder)))
                await api.meet()
                await web.meet()
                assert web.texts() == ["again"]

    run(scenario())


def test_a_revoked_key_is_not_let_in_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (_, web, _api):
            async with aio.connect(state=web.matrix.state.path) as operator:
                (key,) = [
                    each["public_key"]
                    for each in (await operator.call("keys.list"))["keys"]
                    if each["address"] == web.address
                ]
                await operator.call("keys.revoke", public_key=key)
            with pytest.raises(KeyRefused, match="orchestra invite matrix/web"):
                await web.meet()

    run(scenario())


def test_without_the_operators_key_a_clone_is_told_how_to_join(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            web = Clone(tmp_path / "web", hub.folder.path)
            hub.folder.key_of(this_operator()).unlink()
            with web.store, pytest.raises(KeyFault, match="orchestra invite matrix/web"):
                await web.meet()

    run(scenario())


def test_a_hub_that_does_not_answer_or_is_gone_loses_nothing(tmp_path: Path) -> None:
    async def never(client: aio.Client, met: Met) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with two_clones(tmp_path) as (_, web, _api):
            with pytest.raises(HubUnreachable, match="did not answer within"):
                await link.meet(web.path, web.matrix, project="p", then=never, within_s=0.5)
        with web.store:
            web.write("kept")
            with pytest.raises(ConnectionFault):
                await web.meet()
            assert web.texts(with_sent=True) == ["kept"]

    run(scenario())


@asynccontextmanager
async def linked(clone: Clone) -> AsyncIterator[link.Link]:
    """Keep a link, as a service does."""
    async with Archive(clone.path) as archive:
        kept = link.Link(archive, lambda: clone.matrix, clone.matrix, project="p")
        keeping = asyncio.ensure_future(kept.keep())
        try:
            yield kept
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


def test_a_service_has_what_comes_as_it_comes_and_says_what_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_clones(tmp_path) as (_, web, api), linked(api) as kept:
            await until(lambda: not kept.reason, "the link")
            web.write("pushed", to="matrix/api")
            await web.meet()
            await until(lambda: api.texts() == ["pushed"])
            api.write("back", to="matrix/web")
            assert len((await kept.meet()).sent) == 1
            await web.meet()
            assert web.texts() == ["back"]

    run(scenario())


def test_a_service_that_begins_before_its_hub_meets_it_when_it_comes_and_again_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / "state"
        web = Clone(tmp_path / "web", state)
        web.write("from before")
        with web.store:
            async with linked(web) as kept:
                await until(lambda: "no hub was started" in kept.reason, "why there is none")
                assert (await kept.meet()) == Met()
                with pytest.raises(HubUnreachable):
                    kept.client()
                for life in range(2):
                    async with live_hub(tmp_path) as hub:
                        await until(lambda: unsent.count(web.store) == 0, f"life {life}")
                        async with hub.connect(f"operator/o{life}") as operator:
                            await operator.send("matrix/web", f"hello {life}")
                        await until(lambda life=life: f"hello {life}" in web.texts())
                    await until(lambda: kept.reason)
                    web.write(f"while it was away {life}")

    run(scenario())
