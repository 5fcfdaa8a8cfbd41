"""Following channels with the library, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestra import subscription
from orchestra.aio import Client
from orchestra.errors import Conflict, NotFound, PeerError, UnknownRecipient
from orchestra.hub import calls
from orchestra.limits import CREDIT_DEFAULT
from orchestra.subscription import Subscription

from .livehub import live_hub, run, soon, until

STATUS = "channel/status"


async def _take(entries: Subscription, count: int) -> list[int]:
    return [(await soon(anext(entries))).seq for _ in range(count)]


def test_named_entries_and_versions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as one, hub.connect("matrix/n") as two:
            first = await one.context_set("plan", "1", if_version=0)
            second = await two.context_set("plan", "2", if_version=first)
            with pytest.raises(Conflict, match=f"version {second}, written by matrix/n"):
                await one.context_set("plan", "3", if_version=first)
            found = await one.context_get("plan")
            assert (found.text, found.version, found.sender) == ("2", second, "matrix/n")
            with pytest.raises(NotFound):
                await one.context_get("nothing")
            with pytest.raises(UnknownRecipient, match="orchestra channel create"):
                await one.publish("channel/none", "x")
            async with two.subscribe("channel/context") as entries:
                entry = await soon(anext(entries))
                assert (entry.entry, entry.text, entry.is_removed) == ("plan", "2", False)
                await one.context_drop("plan", if_version=second)
                entry = await soon(anext(entries))
                assert (entry.entry, entry.text, entry.is_removed) == ("plan", "", True)

    run(scenario())


def test_a_long_log_is_followed_to_its_end_and_then_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as reader, hub.connect("operator/o") as sender:
            sent = await sender.send_all(STATUS, ["x"] * (3 * CREDIT_DEFAULT))
            async with reader.subscribe(STATUS, after=0) as entries:
                assert (entries.after, entries.missed) == (0, 0)
                assert await _take(entries, len(sent)) == sent
                seq = await sender.publish(STATUS, "live")
                assert await _take(entries, 1) == [seq]
            await until(lambda: not hub.decider.channels.all[STATUS].followers, "the end of the subscription")

    run(scenario())


def test_a_cursor_is_told_what_was_dealt_with_when_the_reader_ends(tmp_path: Path) -> None:
    async def reading(client: Client, count: int, *, is_confirmed: bool = False) -> list[int]:
        async with client, client.subscribe(STATUS, after=0, cursor="c") as entries:
            taken = await _take(entries, count)
            if is_confirmed:
                entries.confirm()
            return taken

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as sender:
            key = hub.enrol("matrix/m")

            async def reader() -> Client:
                client: Client = await hub.connect("matrix/m", key=key)
                return client

            sent = await sender.send_all(STATUS, ["x"] * 6)
            assert await reading(await reader(), 3) == sent[:3]
            assert await reading(await reader(), 2, is_confirmed=True) == sent[2:4], "the last given comes again"
            assert await reading(await reader(), 2) == sent[4:]

    run(scenario())


def test_a_client_that_is_closed_first_tells_its_cursors(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as sender:
            async with hub.connect("matrix/m") as client:
                entries = client.subscribe(STATUS, after=0, cursor="c")
                sent = await sender.send_all(STATUS, ["x"] * 3)
                assert await _take(entries, 3) == sent
            await until(lambda: not hub.decider.state.roster.peers["matrix/m"].sessions)
            assert [*hub.decider.channels.cursors._places.values()] == [{(_id(hub), "c"): sent[1]}]
            await entries.aclose()

    run(scenario())


def _id(hub: object) -> int:
    return int(hub.decider.channels.all[STATUS].id)  # type: ignore[attr-defined]


def test_what_nobody_took_before_the_hub_went_away_comes_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as clients:
            async with live_hub(tmp_path) as hub:
                sender = await clients.enter_async_context(hub.connect("operator/o", patience_s=None))
                reader = await clients.enter_async_context(hub.connect("matrix/m", patience_s=None))
                entries = reader.subscribe(STATUS, after=0)
                sent = await sender.send_all(STATUS, ["x"] * 5)
                assert await _take(entries, 2) == sent[:2]
                await until(lambda: len(entries._place.messages) == 3)
            async with live_hub(tmp_path):
                sent.append(await sender.publish(STATUS, "after"))
                assert await _take(entries, 4) == sent[2:]
                await clients.aclose()

    run(scenario())


def test_a_stuck_reader_of_a_channel_holds_up_neither_its_messages_nor_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("matrix/m") as stuck,
            hub.connect("operator/o") as sender,
            stuck.subscribe(STATUS) as entries,
        ):
            sent = await sender.send_all(STATUS, ["x"] * (2 * CREDIT_DEFAULT))
            await sender.send("matrix/m", "a letter")
            messages = stuck.messages()
            assert (await soon(anext(messages))).text == "a letter"
            assert len(entries._place.messages) == CREDIT_DEFAULT
            assert await _take(entries, len(sent)) == sent
            await messages.aclose()

    run(scenario())


def test_a_reader_is_told_what_was_removed_before_it_came_and_while_it_was_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as reader, hub.connect("operator/o") as sender:
            channel = hub.decider.channels.all[STATUS]
            sent = await sender.send_all(STATUS, ["x"] * (2 * CREDIT_DEFAULT))
            channel.trimmed_seq = sent[1]
            async with reader.subscribe(STATUS, after=sent[0]) as entries:
                assert (entries.after, entries.missed) == (sent[0], sent[1])
                channel.trimmed_seq = sent[-1]
                await _take(entries, CREDIT_DEFAULT + 1)
                assert entries.missed == sent[-1]

    run(scenario())


def test_a_reader_whose_channel_is_gone_after_a_reconnect_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("operator/o") as maker,
            hub.connect("matrix/m", patience_s=None) as reader,
        ):
            await maker.call("channel.create", channel="channel/made")
            entries = reader.subscribe("channel/made")
            reading = asyncio.ensure_future(anext(entries))
            await until(lambda: hub.decider.channels.all["channel/made"].followers)
            (session,) = hub.decider.state.roster.peers["matrix/m"].sessions
            del hub.decider.channels.all["channel/made"]
            session.subscriptions.clear()
            hub.hub._open_router().kick(session.link)
            with pytest.raises(UnknownRecipient):
                await soon(reading)

    run(scenario())


def test_a_reader_goes_on_though_the_hub_has_no_time_for_it_after_a_reconnect(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("operator/o") as sender,
            hub.connect("matrix/m", patience_s=None) as reader,
            reader.subscribe(STATUS, after=0) as entries,
        ):
            sent = [await sender.publish(STATUS, "before")]
            assert await _take(entries, 1) == sent
            waits_s = iter((0.001,))
            bucket = SimpleNamespace(take=lambda **_: next(waits_s, 0.0))
            hub.decider.state.roster.peers["matrix/m"].calls = cast("Any", bucket)
            hub.hub._kick(hub.session("matrix/m").link)
            sent.append(await sender.publish(STATUS, "after"))
            assert await _take(entries, 1) == sent[1:]
            assert next(waits_s, None) is None, "it was not refused"

    run(scenario())


def test_a_subscription_that_is_dropped_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as reader:
            seq = await reader.publish(STATUS, "x")
            async for entry in reader.subscribe(STATUS, after=0):
                assert entry.seq == seq
                break
            await until(lambda: not hub.decider.channels.all[STATUS].followers)

    run(scenario())


def test_a_reader_that_was_refused_to_tell_what_it_has_seen_tells_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("matrix/m") as reader,
            hub.connect("operator/o") as sender,
            reader.subscribe(STATUS, after=0) as entries,
        ):
            sent = await sender.send_all(STATUS, ["x"] * (2 * CREDIT_DEFAULT))
            refused = hub.count("refused")
            with monkeypatch.context() as patched:
                patched.setattr(calls, "CALLS_A_TURN_MAX", 0)
                assert await _take(entries, CREDIT_DEFAULT) == sent[:CREDIT_DEFAULT]
                await until(lambda: hub.count("refused") > refused + 2, "refusals")
            assert await _take(entries, CREDIT_DEFAULT) == sent[CREDIT_DEFAULT:]

    monkeypatch.setattr(subscription, "SEEN_S", 0.01)
    run(scenario())


def test_a_channel_is_followed_once_by_a_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as reader:
            async with reader.subscribe(STATUS):
                with pytest.raises(PeerError, match="subscribed to already"):
                    await anext(reader.subscribe(STATUS))
            with pytest.raises(UnknownRecipient):
                await anext(reader.subscribe("channel/none"))
            async with reader.subscribe(STATUS) as again:
                assert again.after == 0

    run(scenario())
