"""The hub as a process would be: real sockets, real files, real clients, and some that mean harm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import socket
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq

from orchestra import wire
from orchestra.errors import (
    NoSession,
    NotAllowed,
    OrchestraError,
    PortInUse,
    RateLimited,
    StaleLease,
    StateFault,
    StorageFault,
    UnknownRecipient,
)
from orchestra.hub import history
from orchestra.hub import service as service_module
from orchestra.hub.decider import Decider
from orchestra.hub.service import Hub
from orchestra.hub.settings import HubSettings
from orchestra.keys import make_key_pair
from orchestra.state import StateFolder
from orchestra.task import TaskState
from orchestra.wire import ACK, BYE, CREDIT, ERROR, PING, SEND

from .fakehub import hello
from .livehub import BOUND_S, live_hub, raw_peer, run, soon, until


async def _first(messages: Any) -> Any:
    return await soon(anext(messages))


# Serving.


def test_a_message_is_stored_delivered_and_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("matrix/m") as matrix:
            messages = agent.messages()
            reading = asyncio.ensure_future(anext(messages))
            seq = await soon(matrix.send("agent/a", "hello"))
            message = await soon(reading)
            assert (message.seq, message.sender, message.text) == (seq, "matrix/m", "hello")
            reading = asyncio.ensure_future(anext(messages))
            await until(lambda: hub.count("acked") == 1)
            reading.cancel()

    run(scenario())


def test_a_task_goes_round(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("agent/a", slots=1, queues=["queue/q"]) as agent,
            hub.connect("matrix/m") as matrix,
        ):
            task = await soon(matrix.submit("queue/q", prompt="do it"))
            assigned = await soon(agent.next_assignment())
            agent.tell_progress(assigned, b"working")
            await soon(agent.report(assigned, TaskState.COMPLETED, {"exit_code": 0}, b"done"))
            result = await soon(task.result())
            assert (result.seq, result.is_ok, result.text, result.report) == (task.seq, True, "done", {"exit_code": 0})
            with pytest.raises(StaleLease):
                await soon(agent.report(assigned, TaskState.COMPLETED, {}, b"again"))

    run(scenario())


def test_what_the_hub_refuses_is_raised_where_it_was_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent:
            with pytest.raises(UnknownRecipient):
                await soon(agent.send("agent/nobody", "x"))
            with pytest.raises(NotAllowed):
                await soon(agent.submit("queue/q", prompt="x"))
            with pytest.raises(NotAllowed):
                await soon(agent.call("keys.accept", address="agent/b", public_key=make_key_pair().public))
            assert await soon(agent.send("agent/a", "still here")) == 1

    run(scenario())


def test_everything_is_as_it_was_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as matrix:
            key = hub.enrol("agent/a")
            sent = await soon(matrix.send_all("agent/a", [f"{i}" for i in range(300)]))
            card = hub.folder.read_card()
        async with live_hub(tmp_path) as hub, hub.connect("agent/a", key=key) as agent:
            assert hub.folder.read_card().public_key == card.public_key
            messages = agent.messages()
            assert [(await _first(messages)).seq for _ in sent] == sent

    run(scenario())


def test_clients_find_a_hub_that_was_restarted_and_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as clients:
            async with live_hub(tmp_path) as hub:
                agent = await clients.enter_async_context(hub.connect("agent/a", patience_s=None))
                matrix = await clients.enter_async_context(hub.connect("matrix/m", patience_s=None))
                messages = agent.messages()
                await soon(matrix.send("agent/a", "before"))
                assert (await _first(messages)).text == "before"
            sending = asyncio.ensure_future(matrix.send("agent/a", "meanwhile"))
            async with live_hub(tmp_path):
                assert (await _first(messages)).text == "meanwhile"
                assert await soon(sending) == 2
                await clients.aclose()

    run(scenario())


def test_a_hub_that_stops_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as peers:
            async with live_hub(tmp_path) as hub:
                peer = await peers.enter_async_context(raw_peer(hub, "matrix/m"))
                await peer.hello()
            assert (await peer.next())[:2] == [wire.BYE, "stopping"]

    run(scenario())


def test_a_client_that_closes_is_gone_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("agent/a", slots=1) as agent,
            hub.connect("operator/o") as operator,
        ):
            task = await soon(operator.submit("agent/a", prompt="x"))
            await soon(agent.next_assignment())
            await agent.close()
            await until(lambda: not hub.decider.state.roster.peers["agent/a"].sessions)
            async with hub.connect("agent/a", slots=1) as again:
                assert (await soon(again.next_assignment())).seq == task.seq
            assert list(hub.store.rows("SELECT losses FROM task")) == [(0,)], "it said goodbye"

    run(scenario())


def test_a_client_is_told_why_its_session_ended_and_not_that_it_has_none_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as client:
            lost: list[OrchestraError] = []
            client.on_lost = lost.append
            link = hub.session("matrix/m").link
            full = StorageFault("the disk is full")
            said = [[BYE, full.code, str(full)], [ERROR, SEND, 7, NoSession.code, "say HELLO first"]]
            assert hub.router.send(link, said)
            await until(lambda: bool(lost))
            assert isinstance(lost[0], StorageFault)

    run(scenario())


# Starting.


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"{port} is in use.*--port"):
            Hub(HubSettings(StateFolder(tmp_path / "state"), port=port))
    Hub(HubSettings(StateFolder(tmp_path / "state"), port=0)).close()  # and nothing is left locked


def test_a_second_hub_on_the_same_folder_is_refused_and_the_first_is_unharmed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            with pytest.raises(StateFault, match="choose another with --state"):
                Hub(HubSettings(hub.folder, port=0))
            async with hub.connect("matrix/m") as matrix:
                await soon(matrix.send("matrix/m", "x"))

    run(scenario())


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    with pytest.raises(StateFault, match="chmod 700"):
        Hub(HubSettings(StateFolder(tmp_path / "state"), port=0))


def test_the_local_socket_is_for_this_user_alone_and_goes_with_the_hub(tmp_path: Path) -> None:
    hub = Hub(HubSettings(StateFolder(tmp_path / "state"), port=0))
    path = tmp_path / "state" / "hub.sock"
    with contextlib.closing(hub):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_peeking_leaves_messages_unread_until_they_are_marked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("operator/o") as sender:
            sent = await sender.send_all("agent/a", ["one", "two", "three"])
            batches = agent.batches(peek=True)
            got: list[int] = []
            while len(got) < 3:
                got += [message.seq for message in await soon(anext(batches))]
            assert got == sent
            await until(lambda: hub.decider.state.roster.peers["agent/a"].mailbox.waiting == 0, "the ACK")
            assert [message.seq for message in await agent.inbox()] == sent
            assert await agent.mark_read(sent[:1]) == 1
            assert await agent.mark_read([*sent[:2], 99], ack=True) == 2
            assert [message.seq for message in await agent.inbox()] == sent[2:]
            await batches.aclose()

    run(scenario())


def test_the_rate_of_a_sender_is_the_hub_s_setting_also_after_a_turn_was_undone(tmp_path: Path) -> None:
    hub = Hub(HubSettings(StateFolder(tmp_path / "state"), port=0, sends_per_second=7))
    try:
        assert hub._decider.conditions.sends_per_second == 7
        assert hub._load().conditions.sends_per_second == 7
    finally:
        hub.close()


# Keys.


def test_a_key_is_let_in_from_the_moment_it_is_accepted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            key = make_key_pair()
            await soon(operator.call("keys.accept", address="agent/new", public_key=key.public))
            async with hub.connect("agent/new", key=key) as agent:
                await soon(agent.send("operator/o", "here I am"))

    run(scenario())


# What peers do that they should not.


def test_an_ack_under_a_lease_that_is_over_is_ignored(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            key = hub.enrol("agent/a")
            async with raw_peer(hub, "agent/a", key=key) as first:
                await first.hello(credit=1)
                await soon(operator.send("agent/a", "x"))
                (old,) = await first.hears()
            await until(lambda: not hub.decider.state.roster.peers["agent/a"].sessions)
            async with raw_peer(hub, "agent/a", key=key) as second:
                await second.hello(credit=1)
                (new,) = await second.hears()
                assert (new[2], new[3]) == (2, old[3])
                await second.say([ACK, 3, [old[3], old[1]]])
                await second.hears()
                assert hub.count("stale_acks") == 1
                assert hub.decider.state.roster.peers["agent/a"].mailbox.count == 1
                await second.say([ACK, 3, [new[3], new[1]]])
                await second.hears()
                assert hub.decider.state.roster.peers["agent/a"].mailbox.count == 0

    run(scenario())


def test_the_largest_message_arrives_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("matrix/m") as matrix:
            body = os.urandom(2**20)
            await soon(matrix.send("agent/a", body))
            assert (await _first(agent.messages())).body == body

    run(scenario())


# Waking up.


@pytest.fixture
def without_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub looks at its sockets when they say so and after its own sends, and never just in case."""
    monkeypatch.setattr(service_module, "_WATCHDOG_S", 3600.0)


def test_a_loop_that_was_frozen_is_told_and_nobody_is_taken_for_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        jump_ms = 0
        monkeypatch.setattr(service_module, "_steady_ms", lambda: time.monotonic_ns() // 1_000_000 + jump_ms)
        async with live_hub(tmp_path) as hub, raw_peer(hub, "agent/a") as peer:
            await peer.hello()
            jump_ms = 60_000
            await until(lambda: "was frozen for 60." in caplog.text, "the hub to notice")
            await peer.say([wire.PING, 1])
            assert await peer.next() == [wire.PONG, 1]
            assert hub.count("silent") == 0

    run(scenario())


@pytest.mark.usefixtures("without_watchdog")
def test_no_wake_up_is_lost_in_many_rounds_of_one_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("matrix/m") as matrix:
            asked, answered = agent.messages(), matrix.messages()
            for i in range(300):
                await soon(matrix.send("agent/a", f"ping {i}"))
                assert (await _first(asked)).text == f"ping {i}"
                await soon(agent.send("matrix/m", f"pong {i}"))
                assert (await _first(answered)).text == f"pong {i}"

    run(scenario())


@pytest.mark.usefixtures("without_watchdog")
def test_no_wake_up_is_lost_when_many_speak_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(hub.connect(f"matrix/m{i}")) for i in range(8)]

            async def talk(peer: Any) -> None:
                for _ in range(100):
                    await soon(peer.send(peer.address, "x"))

            await asyncio.gather(*(talk(peer) for peer in peers))
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(800,)]

    run(scenario())


@pytest.mark.usefixtures("without_watchdog")
def test_a_frame_that_arrives_while_the_hub_sends_is_read_although_the_send_ate_its_wake_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, raw_peer(hub, "matrix/m") as one, raw_peer(hub, "matrix/n") as other:
            await one.hello()
            await other.hello()
            send, is_first = hub.router.send, True

            def send_while_another_speaks(link: bytes, records: list[Any]) -> bool:
                nonlocal is_first
                if is_first:
                    is_first = False
                    zmq.Socket(other.socket).send(wire.pack([[PING, 2]]))
                    assert select.select([hub.router.input_descriptor], [], [], BOUND_S)[0]
                    hub.router._socket.get(
                        zmq.EVENTS
                    )  # a send does this now and then: the descriptor is silent after it
                return bool(send(link, records))

            monkeypatch.setattr(hub.router, "send", send_while_another_speaks)
            await one.say([PING, 1])
            assert await one.next() == [wire.PONG, 1]
            assert await other.next() == [wire.PONG, 2]

    run(scenario())


@pytest.mark.usefixtures("without_watchdog")
def test_what_a_timer_sends_swallows_no_wake_up(tmp_path: Path) -> None:
    """A send may eat the edge of libzmq's descriptor; here the hub sends from a timer all the time."""

    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("matrix/m") as matrix,
            raw_peer(hub, "matrix/other") as other,
        ):
            await other.hello()

            async def ticking() -> None:
                while True:
                    turn = hub.hub._turn()
                    turn.send(other.routing_id, [wire.EVENT, "tick", {}])
                    hub.hub._end_turn(turn)
                    hub.hub._wake()  # as everything that sends does
                    await asyncio.sleep(0)  # no wait: lets the loop's other work run

            timer = asyncio.ensure_future(ticking())
            for _ in range(300):
                await soon(matrix.send("matrix/m", "x"))
            timer.cancel()

    run(scenario())


# A database that fails.


def test_a_commit_that_fails_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("matrix/m") as matrix:
            commit, failures = hub.store.commit, 0

            def failing(writes: Any, *, now_ms: int) -> None:
                nonlocal failures
                if writes.messages and failures < 3:
                    failures += 1
                    raise StorageFault("the disk is full")
                commit(writes, now_ms=now_ms)

            monkeypatch.setattr(hub.store, "commit", failing)
            bodies = [f"{i}" for i in range(100)]
            seqs = await soon(matrix.send_all("agent/a", bodies))
            assert failures == 3
            assert hub.count("turns_undone") == 3
            assert seqs == sorted(set(seqs))
            messages = agent.messages()
            assert [(await _first(messages)).text for _ in bodies] == bodies
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(100,)]

    run(scenario())


def test_a_turn_that_the_hub_itself_breaks_is_undone_and_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("matrix/m") as matrix:
            sent = Decider._send
            broken = 0

            def breaking(self: Decider, session: Any, record: Any, turn: Any) -> None:
                nonlocal broken
                sent(self, session, record, turn)
                if record[4] == b"50" and not broken:
                    broken += 1
                    raise RuntimeError("a fault of ours")

            monkeypatch.setattr(Decider, "_send", breaking)
            hub.hub._decider._verbs[wire.SEND] = hub.hub._decider._send
            bodies = [f"{i}" for i in range(100)]
            seqs = await soon(matrix.send_all("agent/a", bodies))
            assert broken == 1
            assert hub.count("turns_undone") == 1
            assert seqs == sorted(set(seqs))
            messages = agent.messages()
            assert [(await _first(messages)).text for _ in bodies] == bodies
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(100,)]

    run(scenario())
    assert "a fault of ours" in caplog.text


def test_a_question_that_the_hub_itself_fails_to_answer_is_refused_and_harms_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaking(store: Any, params: Any) -> Any:
        raise RuntimeError("a fault of ours")

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("matrix/m") as matrix:
            monkeypatch.setitem(history._QUERIES, "inbox", breaking)
            with pytest.raises(OrchestraError, match="its log says why"):
                await soon(matrix.call("inbox"))
            assert await soon(agent.call("task.list")) is not None
            assert hub.count("turns_undone") == 0, "nobody had to connect again"

    run(scenario())
    assert "inbox could not be answered" in caplog.text
    assert "a fault of ours" in caplog.text


def test_a_fault_of_the_hub_after_the_commit_loses_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as matrix, hub.connect("agent/a"):
            deliver, broken = hub.hub._deliver, 0

            def breaking(turn: Any) -> Any:
                nonlocal broken
                if not broken and any(record[0] == wire.OK for records in turn.out.values() for record in records):
                    broken += 1
                    raise RuntimeError("a fault of ours")
                return deliver(turn)

            monkeypatch.setattr(hub.hub, "_deliver", breaking)
            await soon(matrix.send("agent/a", "once"))
            assert broken == 1
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(1,)]

    run(scenario())
    assert "a turn was broken off" in caplog.text


def test_peers_are_told_why_a_commit_failed_and_nobody_is_answered_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            raw_peer(hub, "matrix/m") as sender,
            raw_peer(hub, "matrix/n") as other,
        ):
            await sender.hello()
            await other.hello(credit=5)

            def failing(writes: Any, *, now_ms: int) -> None:
                raise StorageFault("database hub.db: the disk is full")

            monkeypatch.setattr(hub.store, "commit", failing)
            await sender.say([SEND, 1, "matrix/n", 0, b"x", None])
            for peer in (sender, other):
                assert await peer.next() == [wire.BYE, "storage", "database hub.db: the disk is full"]
            monkeypatch.undo()
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(0,)]
            async with hub.connect("operator/o") as operator:
                assert await soon(operator.send("matrix/n", "afterwards")) == 1

    run(scenario())


def test_a_disk_that_stays_full_is_one_line_of_the_log_and_its_end_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            key = hub.enrol("matrix/m")
            failing = StorageFault("the disk is full")

            def commit(writes: Any, *, now_ms: int) -> None:
                raise failing

            monkeypatch.setattr(hub.store, "commit", commit)
            for fault in ("the disk is full", "the disk is full", "the disk is full", "the file can't be written"):
                failing = StorageFault(fault)
                async with raw_peer(hub, "matrix/m", key=key) as peer:
                    await peer.say(hello(epoch=peer.epoch))
                    assert (await peer.next())[:2] == [wire.BYE, "storage"]
            monkeypatch.undo()
            async with hub.connect("matrix/m", key=key) as matrix:
                for _ in range(3):
                    await soon(matrix.send("matrix/m", "x"))

    run(scenario())
    told = [record.getMessage() for record in caplog.records if "commit" in str(getattr(record, "action", ""))]
    assert told == [
        "commit failed, nothing of the turn was kept: the disk is full",
        "commit failed, nothing of the turn was kept: the file can't be written",
        "the disk takes writes again",
    ]


def test_a_result_whose_commit_failed_is_said_again_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("agent/a", slots=1) as agent,
            hub.connect("operator/o") as operator,
        ):
            task = await soon(operator.submit("agent/a", prompt="x"))
            assigned = await soon(agent.next_assignment())
            commit, failures = hub.store.commit, 0

            def failing(writes: Any, *, now_ms: int) -> None:
                nonlocal failures
                if writes.tasks and not failures:
                    failures += 1
                    raise StorageFault("the disk is full")
                commit(writes, now_ms=now_ms)

            monkeypatch.setattr(hub.store, "commit", failing)
            await soon(agent.report(assigned, TaskState.COMPLETED, {}, b"done"))
            result = await soon(task.result())
            assert (failures, result.text, result.attempt) == (1, "done", 1)

    run(scenario())


def test_messages_cost_no_write_but_their_own_and_no_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as sender:
            hub.enrol("agent/a")
            await soon(sender.send("agent/a", "first"))  # the life of its client is known from now on
            changed: list[str] = []
            caplog.clear()
            hub.hub._store._connection.set_trace_callback(changed.append)
            for number in range(20):
                await soon(sender.send("agent/a", str(number)))
            hub.hub._store._connection.set_trace_callback(None)
            tables = re.findall(
                r"^(?:INSERT (?:OR \w+ )?INTO|UPDATE|DELETE FROM) (\w+)", "\n".join(changed), re.MULTILINE
            )
            once_a_second = ("origin", "hub")
            assert Counter(each for each in tables if each not in once_a_second) == {"message": 20, "delivery": 20}
            assert [record.getMessage() for record in caplog.records] == []

    with caplog.at_level("INFO"):
        run(scenario())


def test_acknowledgements_are_written_although_nothing_else_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, raw_peer(hub, "agent/a") as agent, hub.connect("operator/o") as operator:
            await agent.hello(credit=9)
            await soon(operator.send("agent/a", "x"))
            (delivery,) = await agent.hears()
            await agent.say([ACK, 3, [delivery[3], delivery[1]]], [CREDIT, 1, None])
            await until(lambda: list(hub.store.rows("SELECT count(*) FROM delivery")) == [(0,)], "the ACK's commit")

    run(scenario())


def test_a_client_that_calls_too_often_is_slowed_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.hub.calls.CALLS_A_SECOND_MAX", 50)

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as client:
            answers = await asyncio.gather(*(client.call("whoami") for _ in range(130)))
            assert [each["address"] for each in answers] == ["matrix/m"] * 130
            assert hub.count("refused") > 0

    run(scenario())


def test_however_long_a_call_waited_before_it_is_made_again_when_it_is_refused_for_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.aio.CALL_PATIENCE_S", 0.0)

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as client:
            expect, refusals = client._expect, 1

            async def refused_once(ref: int) -> Any:
                nonlocal refusals
                if refusals:
                    refusals -= 1
                    raise RateLimited("too often")
                return await expect(ref)

            monkeypatch.setattr(client, "_expect", refused_once)
            assert (await soon(client.call("whoami")))["address"] == "matrix/m"

    run(scenario())


def test_a_task_is_watched_though_that_is_refused_for_its_rate_at_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as client:
            submitted = await soon(client.submit("queue/q", prompt="true"))
            waits_s = iter((0.0, 0.001))  # of task.get and of the first task.watch
            bucket = SimpleNamespace(take=lambda **_: next(waits_s, 0.0))
            hub.decider.state.roster.peers["matrix/m"].calls = cast("Any", bucket)
            assert (await soon(client.follow(submitted.seq))).seq == submitted.seq
            assert next(waits_s, None) is None

    run(scenario())
