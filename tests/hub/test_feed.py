"""The feed: what operators are told who look at everything, and what it costs when they are slow or gone."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import wire
from orchestra.hub import feed as feed_module
from orchestra.job import Job
from orchestra.limits import FEED_NEWS_MAX, FEED_S, FEED_TEXT_CHARS, FEED_UNSEEN_MAX
from orchestra.stage import DELIVERED
from orchestra.wire import DELIVER, EVENT

from .fakehub import FakeHub, FakePeer


class Watcher:
    """An operator who watches the feed, and adds up what it was told."""

    def __init__(self, hub: FakeHub, text: str = "operator/looker") -> None:
        self.hub = hub
        self.peer = hub.join(text)
        self.began = self.peer.call("feed.watch")
        self.peer.take()

    def events(self) -> list[dict[str, Any]]:
        return [record[2] for record in self.peer.took(EVENT) if record[1] == "feed"]

    def events_after_a_while(self) -> list[dict[str, Any]]:
        self.hub.tick(FEED_S)
        return self.events()

    def news(self) -> dict[str, list[dict[str, Any]]]:
        """Let the next news come; return all since the last look, by kind."""
        told: dict[str, list[dict[str, Any]]] = {}
        for event in self.events_after_a_while():
            for kind, items in event.items():
                if isinstance(items, list):
                    told.setdefault(kind, []).extend(items)
        return told

    def pulse(self) -> dict[str, Any]:
        """Let a second pass; return what it was."""
        self.hub.tick(1.0)
        return next(event["pulse"] for event in self.events() if "pulse" in event)


@pytest.fixture
def watcher(hub: FakeHub) -> Watcher:
    return Watcher(hub)


def _states(told: dict[str, list[dict[str, Any]]]) -> list[tuple[int, str]]:
    return [(task["seq"], task["state"]) for task in told.get("tasks", [])]


# What is told.


def test_a_task_is_told_of_from_its_sending_to_its_end(hub: FakeHub, watcher: Watcher) -> None:
    sender, agent = hub.join("operator/o"), hub.join("agent/a", slots=1)
    watcher.news()
    seq = sender.submit("agent/a", Job(prompt="do\nit").encode(), priority="high")
    told = watcher.news()
    (sent,) = told["sent"]
    assert (sent["seq"], sent["is_task"], sent["from"], sent["to"]) == (seq, True, "operator/o", "agent/a")
    assert (sent["text"], sent["rank"], sent["sent_ms"]) == ("do it", 1, told["tasks"][0]["updated_ms"])
    assert (told["tasks"][0]["state"], told["tasks"][0]["agent"]) == ("working", "agent/a")
    (task,) = agent.took(DELIVER)
    agent.say([wire.PROGRESS, seq, task[1], b"half "], [wire.PROGRESS, seq, task[1], b"done\n"])
    assert watcher.news() == {"progress": [{"seq": seq, "text": "half done\n"}]}
    agent.result(task)
    assert _states(watcher.news()) == [(seq, "completed")]


def test_a_question_and_an_end_with_a_reason_are_told(hub: FakeHub, watcher: Watcher) -> None:
    sender, agent = hub.join("operator/o"), hub.join("agent/a", slots=1)
    seq = sender.submit("agent/a")
    (task,) = agent.took(DELIVER)
    agent.call("task.ask", seq=seq, lease=task[1], number=1, question="which?" + "x" * 1000)
    (told,) = watcher.news()["tasks"]
    assert (told["state"], told["question"][:6], len(told["question"])) == ("input-required", "which?", FEED_TEXT_CHARS)
    sender.call("task.cancel", seq=seq)
    assert watcher.news()["tasks"][0]["is_stopping"]
    agent.n += 1
    agent.say([wire.RESULT, agent.n, seq, task[1], "canceled", {"code": "canceled", "text": "because"}, b""])
    assert watcher.news()["tasks"][0]["text"] == "because"


def test_a_message_is_told_of_with_every_stage(hub: FakeHub, watcher: Watcher) -> None:
    sender, agent = hub.join("operator/o"), hub.join("agent/a", credit=9)
    watcher.news()
    seqs = [sender.send("agent/a", b"caf\xc3\xa9 \xff" if not n else b"more") for n in range(2)]
    sent = watcher.news()["sent"]
    assert [(each["seq"], each["is_task"], each["text"]) for each in sent] == [
        (seqs[0], False, "café \N{REPLACEMENT CHARACTER}"),
        (seqs[1], False, "more"),
    ]
    deliveries = agent.took(DELIVER)
    agent.ack(*deliveries, stage=DELIVERED)
    receipt = {"recipient": "agent/a", "first_seq": seqs[0], "last_seq": seqs[1]}
    assert [{**receipt, "stage": "delivered", "at_ms": hub.clock.now_ms}] == watcher.news()["receipts"]
    agent.call("inbox.read", seqs=seqs)
    assert [each["stage"] for each in watcher.news()["receipts"]] == ["read"]


def test_nothing_is_shown_of_what_is_sealed(hub: FakeHub, watcher: Watcher) -> None:
    hub.enrol("agent/a")
    hub.join("operator/o").send("agent/a", b"secret", sealed=True)
    (sent,) = watcher.news()["sent"]
    assert (sent["text"], sent["sealed"], sent["bytes"]) == ("", True, 6)


def test_a_dead_letter_is_told_of_and_what_became_of_it(hub: FakeHub, watcher: Watcher) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    seqs = [sender.send("agent/a", expires_ms=10) for _ in range(2)]
    hub.tick(1)
    dead = watcher.news()["dead"]
    assert [(each["seq"], each["recipient"], each["reason"]) for each in dead] == [
        (seq, "agent/a", "expired") for seq in seqs
    ]
    (resent,) = sender.call("dead.resend", seqs=seqs[:1])["resent"]
    told = watcher.news()
    assert [(each["seq"], each["closed_by"], each["resent_seq"]) for each in told["dead"]] == [
        (seqs[0], "operator/o", resent["resent_seq"])
    ]
    assert (told["sent"][0]["seq"], told["sent"][0]["resend_of"]) == (resent["resent_seq"], seqs[0])
    sender.call("dead.drop", seqs=seqs[1:])
    assert watcher.news()["dead"][0]["resent_seq"] == 0


def test_who_comes_goes_or_is_away_is_told_with_its_load(hub: FakeHub, watcher: Watcher) -> None:
    agent = hub.join("agent/a", slots=3, queues=("queue/q",), about={"runner": "exec"})
    (told,) = watcher.news()["peers"]
    assert (told["address"], told["state"], told["load"]) == ("agent/a", "online", [0, 3, 0, 0, 0])
    assert (told["queues"], told["runners"]) == (["queue/q"], ["exec"])
    agent.call("presence.set", state="away", text="lunch")
    agent.vanish()
    told = watcher.news()["peers"][-1]
    assert (told["state"], told["away_text"], told["load"]) == ("offline", "lunch", [0, 0, 0, 0, 3])


def test_that_something_was_decided_about_keys_is_told_without_what(hub: FakeHub, watcher: Watcher) -> None:
    hub.enrol("matrix/m")
    watcher.news()
    watcher.peer.call("keys.grant", address="matrix/m", add=["send:agent/a"])
    (event,) = watcher.events_after_a_while()
    assert event == {"n": event["n"], "at_ms": event["at_ms"], "keys": True}


def test_of_one_task_only_where_it_stands_is_told(hub: FakeHub, watcher: Watcher) -> None:
    sender = hub.join("operator/o")
    watcher.news()
    watcher.peer.take()
    sender.send("operator/looker")  # the first news comes at once, and the rest is gathered
    assert len(watcher.events()) == 1
    seq = sender.submit("queue/q")
    sender.call("task.cancel", seq=seq)
    sender.call("task.retry", seq=seq)
    assert watcher.events() == []
    assert _states(watcher.news()) == [(seq, "queued")]


def test_the_pulse_counts_a_second_and_says_how_long_things_took(hub: FakeHub, watcher: Watcher) -> None:
    sender, agent = hub.join("operator/o"), hub.join("agent/a", slots=1, credit=9)
    watcher.pulse()
    for _ in range(3):
        sender.submit("queue/q")
    seq = sender.submit("agent/a")
    sender.send("agent/a")
    hub.clock.advance(0.2)
    deliveries = agent.took(DELIVER)
    agent.ack(*(each for each in deliveries if each[3] != seq))
    agent.result(next(each for each in deliveries if each[3] == seq))
    pulse = watcher.pulse()
    assert pulse["span_ms"] == 1200
    counts = pulse["counts"]
    assert [counts[name] for name in ("submitted", "messages", "receipts", "completed")] == [4, 1, 1, 1]
    assert pulse["latency_ms"] == {
        "delivery": {"count": 1, "p50": 200, "p99": 200, "max": 200},
        "start": {"count": 1, "p50": 0, "p99": 0, "max": 0},
        "task": {"count": 1, "p50": 200, "p99": 200, "max": 200},
    }
    assert (pulse["open"], pulse["held"], pulse["queued"], pulse["lines"]) == (3, 0, 3, {"queue/q": 3})
    assert "counts" in (following := watcher.pulse())
    assert following["counts"].get("submitted", 0) == 0


def test_loads_are_told_when_they_change(hub: FakeHub, watcher: Watcher) -> None:
    sender = hub.join("operator/o")
    hub.join("agent/a", slots=2)
    assert watcher.pulse()["loads"]["agent/a"] == [0, 2, 0, 0, 0]
    assert watcher.pulse()["loads"] == {}
    sender.submit("agent/a")
    sender.send("agent/a")
    assert watcher.pulse()["loads"] == {"agent/a": [1, 2, 1, 1, 0]}


# To whom, and how much.


def test_only_operators_watch_and_list_everything(hub: FakeHub) -> None:
    hub.join("operator/o").send("operator/o")
    for text in ("agent/a", "matrix/m"):
        peer = hub.join(text)
        assert peer.call("feed.watch") == "not_allowed"
        assert peer.call("message.list") == "not_allowed"
        assert not hub.decider.feed.is_watched


def test_a_watcher_learns_what_it_may_do(hub: FakeHub) -> None:
    administrator = hub.join("operator/a")
    hub.enrol("operator/b")
    administrator.call("keys.grant", address="operator/b", add=["send:agent/*"])
    administrator.call("keys.grant", address="operator/b", remove=["administer", "submit:*"])
    assert "administer" in administrator.call("feed.watch")["grants"]
    told = hub.join("operator/b").call("feed.watch")
    assert told["address"] == "operator/b"
    assert not {"administer", "submit:*"} & set(told["grants"])


def test_a_burst_is_cut_to_the_newest_and_says_so(hub: FakeHub, watcher: Watcher) -> None:
    sender = hub.join("operator/o")
    watcher.news()
    hub.say((sender, [sender.sending("operator/o") for _ in range(FEED_NEWS_MAX + 5)]))
    (event,) = watcher.events()
    assert event["is_cut"]
    assert [each["seq"] for each in event["sent"]] == list(range(6, FEED_NEWS_MAX + 6))
    assert watcher.pulse()["counts"]["messages"] == FEED_NEWS_MAX + 5
    sender.take()
    sender.send("operator/o")
    hub.tick(FEED_S)
    assert "is_cut" not in watcher.events()[0]


def test_who_does_not_confirm_is_left_out_and_then_reads_anew(hub: FakeHub, watcher: Watcher) -> None:
    sender, quick = hub.join("operator/o"), Watcher(hub, "operator/quick")

    def send() -> int:
        seq = sender.send("operator/o")
        hub.tick(FEED_S)
        for event in quick.events():
            quick.peer.call("feed.seen", n=event["n"])
        return seq

    for _ in range(2 * FEED_UNSEEN_MAX):
        send()
    events = watcher.events()
    assert len(events) == FEED_UNSEEN_MAX
    watcher.peer.call("feed.seen", n=events[-1]["n"])
    seq = send()
    (event,) = watcher.events()
    assert event["is_cut"]
    assert [each["seq"] for each in event["sent"]] == [seq]
    send()
    assert "is_cut" not in watcher.events()[0]


def test_a_number_that_was_never_told_confirms_nothing(hub: FakeHub, watcher: Watcher) -> None:
    sender = hub.join("operator/o")
    watcher.peer.call("feed.seen", n=1000)
    for _ in range(2 * FEED_UNSEEN_MAX):
        sender.send("operator/o")
        hub.tick(FEED_S)
    assert len(watcher.events()) == FEED_UNSEEN_MAX


def test_nothing_is_kept_while_nobody_watches(hub: FakeHub, watcher: Watcher) -> None:
    sender = hub.join("operator/o")
    watcher.peer.call("feed.unwatch")
    sender.send("operator/o")
    assert not hub.decider.feed.is_due(hub.clock.at_ms + 10_000)
    watcher.peer.call("feed.watch")
    assert "sent" not in watcher.news()
    watcher.peer.vanish()
    assert not hub.decider.feed.is_watched


def test_no_more_than_so_many_watch(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "FEED_WATCHERS_MAX", 1)
    first = hub.join("operator/o")
    first.call("feed.watch")
    assert first.call("feed.watch")["n"] == 0
    assert hub.join("operator/p").call("feed.watch") == "hub_full"


# What there was before.


def test_the_newest_messages_are_listed_with_their_stage(hub: FakeHub) -> None:
    operator, agent = hub.join("operator/o"), hub.join("agent/a", credit=9)
    first = operator.send("agent/a", b"one\ntwo")
    operator.submit("queue/q")
    last = operator.send("channel/status", b"x", entry="build")
    agent.ack(*agent.took(DELIVER), stage=DELIVERED)
    found = operator.call("message.list")
    assert [(each["seq"], each["text"], each["stage"]) for each in found["messages"]] == [
        (last, "x", "stored"),
        (first, "one two", "delivered"),
    ]
    assert (found["messages"][0]["entry"], found["before"]) == ("build", 0)
    page = operator.call("message.list", count=1)
    assert page["before"] == last
    assert [each["seq"] for each in operator.call("message.list", before=last)["messages"]] == [first]


def test_what_a_watcher_adds_up_is_what_the_database_holds(hub: FakeHub, watcher: Watcher) -> None:
    sender = hub.join("operator/o")
    agents: list[FakePeer] = [hub.join(f"agent/a{n}", slots=1) for n in range(3)]
    states: dict[int, str] = {}
    for round_ in range(12):
        for n in range(3):
            sender.submit("queue/q" if n else f"agent/a{round_ % 3}")
        agent = agents[round_ % 3]
        for task in agent.took(DELIVER):
            agent.result(task, "completed" if round_ % 2 else "failed")
        if round_ == 6:
            agent.vanish()
            agents[0] = hub.join("agent/a0", slots=1, queues=("queue/q",))
        states.update(_states(watcher.news()))
    assert states == dict(hub.rows("SELECT seq, state FROM task"))
    assert len(set(states.values())) > 2
