"""HELLO: who becomes a session, and what it is told."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.hub.roster import Session
from orchestra.limits import CREDIT_MAX, LEASE_S, QUEUES_MAX, SESSIONS_PER_PEER_MAX, SLOTS_MAX
from orchestra.version import WIRE_VERSION

from .fakehub import FakeHub, codes, hello, pass_time, seqs


def _session(hub: FakeHub, text: str) -> Session:
    (session,) = hub.peer(text).sessions
    return session


def test_a_known_peer_is_welcomed_with_its_name_generation_time_and_limits(hub: FakeHub) -> None:
    (welcome,) = hub.knock("agent/a").hello(slots=1)
    verb, version, address, number, generation, now_ms, kept, limits = welcome
    assert (verb, version, address, generation, now_ms, kept) == (
        wire.WELCOME,
        WIRE_VERSION,
        "agent/a",
        1,
        hub.clock.now_ms,
        [],
    )
    assert number == _session(hub, "agent/a").number
    assert limits["lease_ms"] == LEASE_S * 1000
    assert limits["body_bytes"] == 2**20


def test_a_peer_may_leave_its_name_to_its_key(hub: FakeHub) -> None:
    peer = hub.knock("matrix/m")
    assert peer.say(hello("", epoch=peer.epoch))[0][2] == "matrix/m"


def test_everything_before_hello_is_refused_by_its_number_and_nothing_is_stored(hub: FakeHub) -> None:
    peer = hub.knock("operator/o")
    told = peer.say(peer.sending("operator/o"), [wire.CALL, 7, "status", {}], [wire.ACK, 3, [1, 1]])
    assert told == [
        [wire.ERROR, wire.SEND, 1, "no_session", "say HELLO first"],
        [wire.ERROR, wire.CALL, 7, "no_session", "say HELLO first"],
        [wire.ERROR, wire.ACK, 0, "no_session", "say HELLO first"],
    ]
    assert hub.messages() == 0


def test_the_records_after_hello_in_the_same_frame_are_taken(hub: FakeHub) -> None:
    peer = hub.knock("operator/o")
    told = peer.say(hello(epoch=peer.epoch), peer.sending("operator/o"))
    assert [record[0] for record in told] == [wire.WELCOME, wire.OK]


def test_a_second_hello_on_a_connection_is_malformed_and_the_session_stays(hub: FakeHub) -> None:
    peer = hub.join("operator/o")
    assert codes(peer.hello()) == ["malformed"]
    assert peer.session is not None


def test_a_wrong_name_is_fatal_whoever_it_names(hub: FakeHub) -> None:
    hub.enrol("agent/b")
    for claimed in ("agent/b", "agent/nobody", "agent/../b", "agent/a\x00", "matrix/a"):
        peer = hub.knock("agent/a")
        assert codes(peer.say(hello(claimed, epoch=peer.epoch))) == ["wrong_name"]
        assert peer.is_kicked
        assert peer.session is None


def test_a_peer_the_hub_forgot_is_refused(hub: FakeHub) -> None:
    peer = hub.knock("agent/a")
    peer.text = "agent/never-enrolled"
    assert codes(peer.say(hello(epoch=peer.epoch))) == ["wrong_name"]


@pytest.mark.parametrize(("oldest", "newest"), [(2, 3), (0, 0), (2**62, 2**63 - 1)])
def test_a_version_the_hub_does_not_speak_is_fatal_and_says_who_should_upgrade(
    hub: FakeHub, oldest: int, newest: int
) -> None:
    peer = hub.knock("agent/a")
    (error,) = peer.say(hello(epoch=peer.epoch, oldest=oldest, newest=newest))
    assert error[3] == "version_mismatch"
    assert f"upgrade the {'hub' if oldest > 1 else 'client'}" in error[4]
    assert peer.is_kicked


def test_of_a_range_of_versions_the_hub_takes_its_newest(hub: FakeHub) -> None:
    peer = hub.knock("agent/a")
    assert peer.say(hello(epoch=peer.epoch, oldest=0, newest=99))[0][1] == WIRE_VERSION


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": b""},
        {"epoch": b"123456789"},
        {"queues": ("queue/A",)},
        {"queues": ("queue/../x",)},
        {"queues": ("queue/a\n",)},
        {"queues": ("agent/a",)},
        {"queues": ("*",)},
        {"queues": (7,)},
        {"queues": ([["queue/a"]],)},
        {"queues": tuple(f"queue/q{i}" for i in range(QUEUES_MAX + 1))},
        {"about": {"host": 7}},
        {"about": {b"host": "x"}},
        {"about": {"host": "x" * 257}},
        {"about": {"k" * 33: "x"}},
        {"about": {str(i): "x" for i in range(17)}},
    ],
)
def test_a_hello_with_a_field_out_of_bounds_is_refused_and_may_be_said_again(
    hub: FakeHub, fields: dict[str, object]
) -> None:
    peer = hub.knock("agent/a")
    (error,) = peer.say(hello(**{"epoch": peer.epoch, **fields}))  # type: ignore[arg-type]
    assert error[0] == wire.ERROR
    assert error[3] in ("bad_option", "bad_address", "hub_full")
    assert peer.session is None
    assert peer.hello()[0][0] == wire.WELCOME


def test_credit_and_slots_are_cut_to_their_limits(hub: FakeHub) -> None:
    agent = hub.join("agent/a", credit=2**63 - 1, slots=2**63 - 1)
    assert agent.session is not None
    assert (agent.session.credit, agent.session.slots) == (CREDIT_MAX, SLOTS_MAX)


@pytest.mark.parametrize("text", ["matrix/m", "operator/o"])
@pytest.mark.parametrize("fields", [{"slots": 1}, {"queues": ("queue/q",)}])
def test_only_agents_may_take_tasks_or_serve_queues(hub: FakeHub, text: str, fields: dict[str, object]) -> None:
    assert codes(hub.knock(text).hello(**fields)) == ["not_allowed"]


def test_a_queue_named_twice_is_served_once(hub: FakeHub) -> None:
    agent = hub.join("agent/a", queues=("queue/q", "queue/q"))
    assert agent.session is not None
    assert agent.session.queues == ("queue/q",)


def test_a_newer_process_takes_an_agents_name_and_the_older_is_told(hub: FakeHub) -> None:
    old = hub.join("agent/a", slots=1)
    new = hub.join("agent/a", queues=("queue/q",))
    assert [record[:2] for record in old.take()] == [[wire.BYE, "replaced"]]
    assert old.is_kicked
    assert not new.is_kicked
    assert _session(hub, "agent/a").link == new.link


def test_a_generation_counts_the_lives_of_a_name_not_its_connections(hub: FakeHub) -> None:
    first = hub.join("agent/a", slots=1)
    assert first.again(slots=1).take()[0][4] == 1
    second = hub.knock("agent/a")
    assert second.hello(slots=1)[0][4] == 2
    hub.restart()
    assert second.again(slots=1).take()[0][4] == 2
    assert hub.knock("agent/a").hello(slots=1)[0][4] == 3


def test_a_visitor_of_an_agents_name_joins_beside_its_worker_and_takes_nothing_of_it(hub: FakeHub) -> None:
    worker, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    (task,) = worker.took(wire.DELIVER)
    visitor = hub.knock("agent/a")
    (welcome,) = visitor.hello(holding=((seq, task[1]),))
    assert (welcome[4], welcome[6]) == (1, []), "its life is not one of the agent's, and the task is not its own"
    assert not worker.is_kicked
    assert worker.take() == []
    visitor.vanish()
    assert worker.result(task)[0][:3] == [wire.OK, 1, seq]


def test_a_visitor_of_an_agents_name_leaves_the_tasks_of_a_worker_that_may_come_back(hub: FakeHub) -> None:
    worker, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    (task,) = worker.took(wire.DELIVER)
    worker.vanish()
    hub.join("agent/a").vanish()
    assert worker.again(slots=1, holding=((seq, task[1]),)).take()[0][6] == [seq]


def test_a_message_reaches_the_worker_also_while_a_visitor_is_there(hub: FakeHub) -> None:
    worker, sender = hub.join("agent/a", slots=1, credit=5), hub.join("operator/o")
    visitor = hub.join("agent/a")
    sender.send("agent/a")
    assert len(worker.took(wire.DELIVER)) == 1
    assert visitor.take() == []
    visitor.vanish()
    assert hub.owed("agent/a") != []
    assert worker.take() == [], "it has it already"


def test_a_visitor_that_offers_slots_later_replaces_the_worker(hub: FakeHub) -> None:
    old, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    old.take()
    new = hub.join("agent/a")
    told = new.allow(slots=1)
    assert [record[:2] for record in old.take()] == [[wire.BYE, "replaced"]]
    assert old.is_kicked
    assert told == [], "the older life may still work on its task"
    pass_time(hub, new, LEASE_S)
    assert seqs(new.take()) == [seq]
    assert hub.rows("SELECT generation FROM peer WHERE generation > 1") == [(2,)]
    assert hub.task(seq).generation == 2
    assert new.allow(slots=0) == []
    assert new.allow(slots=2) == []
    assert hub.peer("agent/a").generation == 2, "offering again is not another life"


def test_a_worker_that_drains_is_no_visitor_when_it_comes_back(hub: FakeHub) -> None:
    worker, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    (task,) = worker.took(wire.DELIVER)
    worker.allow(slots=0)
    worker.vanish()
    again = worker.again(slots=0, holding=((seq, task[1]),))
    assert again.take()[0][6] == [seq]
    newer = hub.join("agent/a", slots=1)
    assert [record[:2] for record in again.take()] == [[wire.BYE, "replaced"]]
    pass_time(hub, newer, LEASE_S)
    assert seqs(newer.take()) == [seq]


def test_several_processes_of_a_matrix_are_connected_at_once(hub: FakeHub) -> None:
    one, two = hub.join("matrix/m"), hub.join("matrix/m")
    assert len(hub.peer("matrix/m").sessions) == 2
    assert [each.is_kicked for each in (one, two)] == [False, False]


def test_a_client_that_reconnects_replaces_its_own_old_connection(hub: FakeHub) -> None:
    first, other = hub.join("matrix/m"), hub.join("matrix/m")
    again = first.again()
    assert first.is_kicked
    assert not other.is_kicked
    assert {each.link for each in hub.peer("matrix/m").sessions} == {again.link, other.link}


def test_the_end_of_an_old_connection_that_is_seen_late_takes_nothing_from_the_new_one(hub: FakeHub) -> None:
    first, sender = hub.join("matrix/m", credit=5), hub.join("operator/o")
    again = first.again(credit=5)
    again.take()
    first.vanish()
    seq = sender.send("matrix/m")
    assert seqs(again.take()) == [seq]


def test_one_peer_cannot_open_sessions_without_end(hub: FakeHub) -> None:
    for _ in range(SESSIONS_PER_PEER_MAX):
        hub.join("matrix/m")
    assert codes(hub.knock("matrix/m").hello()) == ["hub_full"]
    hub.join("matrix/other")


def test_visitors_without_end_do_not_keep_an_agents_worker_out(hub: FakeHub) -> None:
    for _ in range(SESSIONS_PER_PEER_MAX):
        hub.join("agent/a")
    assert codes(hub.knock("agent/a").hello()) == ["hub_full"]
    hub.join("agent/a", slots=1)


@pytest.mark.parametrize(
    "holding", [(7,), ("x",), ((1,),), ((1, 2, 3),), (("1", 2),), ((1, None),), ((999, 1),), ([[1], 2],)]
)
def test_tasks_that_a_client_says_it_holds_and_does_not_are_not_its_own(
    hub: FakeHub, holding: tuple[object, ...]
) -> None:
    (welcome,) = hub.knock("agent/a").hello(slots=1, holding=holding)
    assert welcome[6] == []
