"""Every row of the table of grants in docs/security.md is crossed: by each kind of peer, on a real socket.

A row without a crossing here fails, and so does a method of CALL that is neither open to all nor tried.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestra import wire
from orchestra.hub import grants
from orchestra.hub.calls import METHODS
from orchestra.keys import make_key_pair
from orchestra.wire import CALL, CREDIT, ERROR, HELLO, MESSAGE, REQUEST, SEND, TASK, Record

from ..hub.fakehub import hello
from ..hub.livehub import LiveHub, RawPeer, live_hub, raw_peer, run, soon

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
KEYS = [make_key_pair().public for _ in range(4)]

ADMINISTER: dict[str, dict[str, Any]] = {
    "audit.list": {},
    "hub.rotate": {"overlap_ms": 3_600_000},
    "invite": {"address": "operator/evil", "public_key": KEYS[0], "ttl_ms": 1000, "uses": 1},
    "keys.accept": {"address": "operator/evil", "public_key": KEYS[1]},
    "keys.grant": {"address": "agent/other", "add": ["administer"]},
    "keys.list": {},
    "keys.reject": {"public_key": KEYS[2]},
    "keys.revoke": {"public_key": KEYS[3]},
    "presence.set": {"address": "agent/other", "state": "away"},
}
"""The methods that need `administer`, with what would do harm."""

OPEN = {
    "channel.create",  # needs a grant of its own
    *("channel.forget", "channel.list", "channel.read", "channel.seen", "subscribe", "unsubscribe"),
    *("dead.drop", "dead.get", "dead.list", "dead.resend", "files.tell", "inbox", "inbox.read"),
    *("feed.seen", "feed.unwatch", "message.get", "message.thread", "message.unwatch", "message.watch", "trace"),
    *("keys.rotate", "peer.keys", "peers", "presence.unwatch", "presence.watch", "status"),
    *("task.answer", "task.ask", "task.cancel", "task.checkpoint", "task.get", "task.list", "task.retry", "task.watch"),
    *("token.code", "token.create", "token.list", "token.revoke", "whoami"),
}
"""The methods that everybody may call, for what is their own: see test_trespass.py."""

OBSERVE = {"feed.watch", "message.list"}
"""The methods that show what all peers do."""

CROSSINGS: dict[str, list[Record]] = {
    grants.SEND: [
        [SEND, 1, "agent/other", MESSAGE, b"", None],
        [SEND, 1, "channel/status", MESSAGE, b"", None],
        [REQUEST, 1, "agent/other", 1000, b""],
    ],
    grants.BROADCAST: [[SEND, 1, "*", MESSAGE, b"", None]],
    grants.SUBMIT: [[SEND, 1, "queue/forbidden", TASK, b"", None], [SEND, 1, "agent/other", TASK, b"", None]],
    grants.SERVE: [hello(slots=1), hello(queues=("queue/forbidden",)), [CREDIT, 0, 1]],
    grants.CHANNEL: [[CALL, 1, "channel.create", {"channel": "channel/mine"}]],
    grants.RECEIVE: [[CALL, 1, "inbox", {}], [CALL, 1, "inbox.read", {"seqs": [1]}]],
    grants.READ: [
        [CALL, 1, "channel.read", {"channel": "channel/status"}],
        [CALL, 1, "subscribe", {"channel": "channel/status"}],
    ],
    grants.OBSERVE: [
        *([CALL, 1, method, {}] for method in sorted(OBSERVE)),
        [CALL, 1, "task.get", {"seq": 1}],
        [CALL, 1, "message.get", {"seq": 2}],
        [CALL, 1, "trace", {"seq": 1}],
    ],
    grants.MANAGE: [[CALL, 1, "task.retry", {"seq": 1}], [CALL, 1, "dead.drop", {"seqs": [1]}]],
    grants.ADMINISTER: [[CALL, 1, method, params] for method, params in ADMINISTER.items()],
}
"""What needs each action."""


def _table() -> dict[str, dict[str, bool]]:
    """Read the table: action → kind → whether such a peer may do it that was granted nothing else."""
    text = SECURITY.read_text(encoding="utf-8")
    found = re.search(r"<!-- grants table -->\n(.+?)\n<!-- /grants table -->", text, re.DOTALL)
    assert found, "docs/security.md has no table of grants"
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    assert head[:2] == ["may", "grant"]
    return {
        row[1].strip("`").partition(":")[0]: {
            kind: {"yes": True, "no": False}[cell] for kind, cell in zip(head[2:], row[2:], strict=True)
        }
        for row in rows
    }


TABLE = _table()


def test_every_row_of_the_table_is_crossed() -> None:
    assert set(CROSSINGS) == set(TABLE)
    assert all(set(row) == {"agent", "matrix", "operator"} for row in TABLE.values())


def test_every_method_is_open_to_all_or_its_grant_is_crossed() -> None:
    assert set(METHODS) == set(ADMINISTER) | OPEN | OBSERVE


async def _is_refused(peer: RawPeer, record: Record, missing: str) -> bool:
    """Say one record; return whether it was refused for want of a grant, which the sentence has to name."""
    if record[0] == HELLO:
        await peer.say([*record[:4], peer.epoch, *record[5:]])
        heard = [await peer.next()]
    else:
        await peer.hello()
        await peer.say(record)
        heard = await peer.hears()
    refused = [each[4] for each in heard if each[0] == ERROR and each[3] == "not_allowed"]
    return any(f"orchestra keys grant {peer.text} {missing}" in sentence for sentence in refused)


def _stored(hub: LiveHub) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the database holds, but for who came and went."""
    hub.hub._commit()
    names = [name for (name,) in hub.store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: list(hub.store.rows(f"SELECT * FROM {name}")) for name in names if name not in ("hub", "origin", "peer")
    }


@pytest.mark.parametrize("kind", ["agent", "matrix", "operator"])
@pytest.mark.parametrize("action", TABLE)
def test_a_row_holds_for_a_kind_and_the_grant_is_what_decides(tmp_path: Path, action: str, kind: str) -> None:
    others = {name + (":*" if takes_address else "") for name, (_, takes_address) in grants.ACTIONS.items()}
    own = {grant for grant in others if grant.partition(":")[0] == action}

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            hub.enrol("agent/other")
            async with hub.connect("operator/root") as operator:
                task = await operator.submit("queue/none", prompt="nothing")
                await operator.call("task.cancel", seq=task.seq)
                await operator.send("agent/other", b"")
            key = hub.enrol(f"{kind}/x")
            peer = hub.decider.state.roster.peers[f"{kind}/x"]
            for given, may in ((None, TABLE[action][kind]), (others - own, False), (own, True)):
                hub.decider.enrolment.grant(
                    "operator/root", peer, None if given is None else grants.parse_grants(given), now_ms=0
                )
                for record in CROSSINGS[action]:
                    before = _stored(hub)
                    async with raw_peer(hub, f"{kind}/x", key=key) as who:
                        assert await _is_refused(who, record, action) is not may, (record, given)
                    assert may or _stored(hub) == before

    run(scenario())


def test_an_agent_submits_to_no_other_queue_than_it_was_granted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/root") as operator:
            key = hub.enrol("agent/x")
            await soon(operator.call("keys.grant", address="agent/x", add=["submit:queue/a*"]))
            async with raw_peer(hub, "agent/x", key=key) as agent:
                await agent.hello()
                for n, queue in enumerate(("queue/b", "queue/xa", "agent/a", "queue/A", "queue/a/../b"), 1):
                    await agent.say([SEND, n, queue, TASK, b"", None])
                    assert {each[3] for each in await agent.hears()} <= {"not_allowed", "bad_address"}
                assert list(hub.store.rows("SELECT count(*) FROM task")) == [(0,)]
                await agent.say([SEND, 9, "queue/a1", TASK, b"", None])
                assert [each[0] for each in await agent.hears()] == [wire.OK]

    run(scenario())
