"""What belongs to others stays theirs: inboxes, deliveries, tasks, results, requests, cursors. On real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq

from orchestra import wire
from orchestra.wire import (
    ACK,
    BYE,
    CALL,
    DELIVER,
    ERROR,
    MESSAGE,
    NAK,
    OK,
    PROGRESS,
    REPLY,
    REQUEST,
    RESPONSE,
    RESULT,
    SEND,
    TASK,
    Record,
)

from ..hub.livehub import LiveHub, RawPeer, live_hub, raw_peer, run, until

SECRET = b"between us"


@dataclass
class World:
    """A sender, its agent, and what lies between them: a message, a task at work, a dead letter, a live request."""

    hub: LiveHub
    sender: RawPeer
    agent: RawPeer
    mail: Record
    task: Record
    dead_seq: int
    request: Record

    def kept(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return what the database says of it."""
        self.hub.hub._commit()
        tables = ("message", "delivery", "receipt", "task", "attempt", "dead", "cursor", "checkpoint", "key")
        return {name: list(self.hub.store.rows(f"SELECT * FROM {name}")) for name in tables}


@asynccontextmanager
async def _world(folder: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(live_hub(folder))
        sender = await stack.enter_async_context(raw_peer(hub, "matrix/sender"))
        agent = await stack.enter_async_context(raw_peer(hub, "agent/worker"))
        hub.enrol("agent/late")
        await sender.hello()
        await agent.hello(credit=10, slots=1, about={"answers": "yes"})
        await sender.say(
            [SEND, 1, "agent/late", MESSAGE, SECRET, {"expires_ms": 1}],
            [SEND, 2, "agent/worker", MESSAGE, SECRET, None],
            [SEND, 3, "agent/worker", TASK, SECRET, None],
        )
        await sender.say([REQUEST, 7, "agent/worker", 60_000, SECRET])
        heard: list[Record] = []
        while len(heard) < 3:
            heard += [each for each in await agent.hears() if each[0] in (DELIVER, REQUEST)]
        mail = next(each for each in heard if each[0] == DELIVER and each[6] == MESSAGE)
        task = next(each for each in heard if each[0] == DELIVER and each[6] == TASK)
        request = next(each for each in heard if each[0] == REQUEST)
        await until(lambda: any(hub.store.rows("SELECT 1 FROM dead")), "the first message to expire")
        ((dead_seq,),) = hub.store.rows("SELECT seq FROM dead")
        await sender.hears()
        yield World(hub, sender, agent, mail, task, dead_seq, request)


def _attempts(world: World) -> dict[str, tuple[Record, str]]:
    """What is tried → the record, and the code that answers it; `empty` is a REPLY with nothing in it, `` no answer."""
    _, lease, _, mail = world.mail[:4]
    _, task_lease, _, task = world.task[:4]
    dead = world.dead_seq

    def call(method: str, **params: Any) -> Record:
        return [CALL, 1, method, params]

    return {
        "read a message": (call("message.get", seq=mail), "not_allowed"),
        "read its thread": (call("message.thread", seq=mail), "not_allowed"),
        "read its story": (call("trace", seq=mail), "not_allowed"),
        "watch it": (call("message.watch", seqs=[mail]), "not_allowed"),
        "answer it": ([SEND, 1, "matrix/sender", MESSAGE, b"", {"reply_to": mail}], "bad_option"),
        "read it away": (call("inbox.read", seqs=[mail], ack=True), "empty"),
        "see it in the inbox": (call("inbox"), "empty"),
        "acknowledge it": ([ACK, 3, [mail, lease]], ""),
        "give it back": ([NAK, lease, mail, "", "", 0], "stale_lease"),
        "read a task": (call("task.get", seq=task), "not_allowed"),
        "read a task's story": (call("trace", seq=task), "not_allowed"),
        "watch a task": (call("task.watch", seqs=[task]), "not_allowed"),
        "list tasks": (call("task.list"), "empty"),
        "cancel a task": (call("task.cancel", seq=task), "not_allowed"),
        "retry a task": (call("task.retry", seq=task), "not_allowed"),
        "ask in a task": (call("task.ask", seq=task, lease=task_lease, number=1, question="?"), "stale_lease"),
        "answer a task": (call("task.answer", seq=task, text="rm -rf"), "not_allowed"),
        "leave a checkpoint": (call("task.checkpoint", seq=task, lease=task_lease, data=b"x"), "stale_lease"),
        "report a result": ([RESULT, 1, task, task_lease, "completed", {}, b"forged"], "stale_lease"),
        "report progress": ([PROGRESS, task, task_lease, b"forged"], "stale_lease"),
        "give a task back": ([NAK, task_lease, task, "", "", 0], "stale_lease"),
        "read a dead letter": (call("dead.get", seq=dead), "not_allowed"),
        "list dead letters": (call("dead.list"), "empty"),
        "send a dead letter again": (call("dead.resend", seqs=[dead]), "not_allowed"),
        "drop a dead letter": (call("dead.drop", seqs=[dead]), "not_allowed"),
        "answer a request": ([RESPONSE, world.request[1], "", b"forged"], ""),
        "move a cursor": (call("channel.forget", channel="channel/status", cursor="theirs"), "not_found"),
        "take a key": (call("keys.rotate", public_key=_key_of(world, "matrix/sender"), overlap_ms=0), "not_allowed"),
    }


def _key_of(world: World, text: str) -> str:
    return next(public for public, owner in world.hub.decider.state.keys.items() if owner == text)


def _is_empty(reply: Record) -> bool:
    return all(not value or name in ("last_n", "thread") for name, value in reply[2].items())


@pytest.mark.parametrize("thief", ["agent/evil", "matrix/evil"])
def test_nothing_of_others_is_seen_changed_or_taken(tmp_path: Path, thief: str) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as world, raw_peer(world.hub, thief) as evil:
            await evil.hello(credit=100)
            kept = world.kept()
            for what, (record, code) in _attempts(world).items():
                await evil.say(record)
                heard = await evil.hears()
                if code == "empty":
                    assert [each[0] for each in heard] == [REPLY], (what, heard)
                    assert _is_empty(heard[0]), (what, heard)
                elif code:
                    assert [each[3] for each in heard if each[0] == ERROR] == [code], (what, heard)
                    assert len(heard) == 1, what
                else:
                    assert heard == [], what
                assert SECRET not in wire.pack(heard), what
                assert world.kept() == kept, what
            assert await world.agent.hears() == []
            assert await world.sender.hears() == []
            await _finish(world)

    run(scenario())


async def _finish(world: World) -> None:
    """What the thief tried to do, those whose it is can still do."""
    await world.agent.say(
        [ACK, 3, [world.mail[3], world.mail[1]]],
        [RESULT, 1, world.task[3], world.task[1], "completed", {}, b"true"],
        [RESPONSE, world.request[1], "", b"true"],
    )
    assert [OK, 1, world.task[3], 1] in await world.agent.hears()
    assert [RESPONSE, 7, b"true"] in await world.sender.hears()
    assert list(world.hub.store.rows("SELECT state, output FROM task")) == [("completed", b"true")]


def test_every_result_is_tried_with_every_lease_and_none_is_taken(tmp_path: Path) -> None:
    """Leases are small numbers: guessing one must not be enough."""

    async def scenario() -> None:
        async with _world(tmp_path) as world, raw_peer(world.hub, "agent/evil") as evil:
            await evil.hello(slots=1)
            kept = world.kept()
            seq, lease = world.task[3], world.task[1]
            guesses = range(max(0, lease - 50), lease + 51)
            await evil.say(*([RESULT, n, seq, each, "completed", {}, b""] for n, each in enumerate(guesses, 1)))
            assert {each[3] for each in await evil.hears()} == {"stale_lease"}
            await evil.say(*([ACK, 3, [number, each]] for number in range(1, seq + 1) for each in guesses))
            assert await evil.hears() == []
            assert world.kept() == kept

    run(scenario())


def test_a_key_that_is_revoked_in_the_middle_of_a_task_has_no_say_in_it_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as world, world.hub.connect("operator/root") as operator:
            seq, lease = world.task[3], world.task[1]
            await operator.call("keys.revoke", public_key=_key_of(world, "agent/worker"))
            # Its connection is still open for a moment, so that it is told why; it says what it can meanwhile.
            await world.agent.say(
                [RESULT, 1, seq, lease, "completed", {}, b"too late"],
                [PROGRESS, seq, lease, b"too late"],
                [ACK, 3, [world.mail[3], world.mail[1]]],
                [SEND, 1, "matrix/sender", MESSAGE, b"too late", None],
                [CALL, 2, "peers", {}],
            )
            told = [await world.agent.next()]
            while told[-1][0] != ERROR or len(told) < 2:
                told.append(await world.agent.next())
            assert told[0][:2] == [BYE, "key_revoked"]
            assert {each[3] for each in told if each[0] == ERROR} == {"no_session"}
            refused = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
            assert await world.agent.event(refused) == refused
            world.hub.hub._commit()
            assert list(world.hub.store.rows("SELECT state, output FROM task")) == [("queued", None)]
            assert list(world.hub.store.rows("SELECT count(*) FROM message WHERE body = ?", b"too late")) == [(0,)]
            assert world.hub.decider.state.roster.peers["agent/worker"].mailbox.count == 1
            await _again(world)

    run(scenario())


async def _again(world: World) -> None:
    """The name comes back with another key, and gets what the revoked one held."""
    async with raw_peer(world.hub, "agent/worker", key=world.hub.enrol("agent/worker")) as agent:
        await agent.hello(credit=10, slots=1)
        deliveries = [each for each in await agent.hears() if each[0] == DELIVER]
        assert sorted(each[3] for each in deliveries) == sorted([world.mail[3], world.task[3]])
        (task,) = [each for each in deliveries if each[6] == TASK]
        assert task[1] != world.task[1], "another lease"
        await agent.say([RESULT, 1, task[3], task[1], "completed", {}, b"true"])
        assert [OK, 1, task[3], 1] in await agent.hears()
