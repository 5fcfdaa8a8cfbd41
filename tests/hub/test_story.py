"""Stories: who did what and when, and why it is not over yet."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.hub import post as post_module
from orchestra.limits import DELIVERY_ATTEMPTS_MAX, DELIVERY_LEASE_S
from orchestra.stage import DELIVERED
from orchestra.wire import DELIVER, NAK

from .fakehub import FakeHub, FakePeer, pass_time


def _story(peer: FakePeer, seq: int) -> list[tuple[str, str]]:
    """The lines as (who, what); they are checked to be in order."""
    found = peer.call("trace", seq=seq)
    assert not found["is_cut"]
    times = [line["at_ms"] for line in found["lines"]]
    assert times == sorted(times)
    return [(line["who"], line["what"]) for line in found["lines"]]


def _end(peer: FakePeer, seq: int) -> str:
    peer.hub.clock.advance(0.001)
    return _story(peer, seq)[-1][1]


def _number(peer: FakePeer) -> int:
    assert peer.session is not None
    return peer.session.number


def test_the_story_of_a_message_names_every_stage_with_its_session(hub: FakeHub) -> None:
    matrix, sender = hub.join("matrix/m", credit=9, about={"host": "box", "pid": "7"}), hub.join("operator/o")
    seq = sender.send("matrix/m", priority="high")
    hub.clock.advance(1)
    matrix.ack(*matrix.took(DELIVER), stage=DELIVERED)
    hub.clock.advance(120)
    sender = sender.again()
    assert _end(sender, seq) == "matrix/m has had it for 2 min and has not read it"
    other = hub.join("matrix/m")
    other.call("inbox.read", seqs=[seq])
    assert _end(sender, seq) == "nothing is left to do: matrix/m has read it, and did not say that it dealt with it"
    other.call("inbox.read", seqs=[seq], ack=True)
    number = _number(other)
    other.vanish()
    hub.clock.advance(1)
    assert _story(sender, seq) == [
        ("operator/o", f"sent message {seq} to matrix/m (priority high)"),
        ("matrix/m", f"got it (delivered), says session {_number(matrix)} (generation 1, host box, pid 7)"),
        ("matrix/m", f"read it (read), says session {number} (generation 2)"),
        ("matrix/m", f"dealt with it (acked), says session {number} (generation 2)"),
        ("hub", "nothing is left to do: matrix/m has dealt with it"),
    ]


def test_the_end_says_why_a_message_is_not_delivered(hub: FakeHub) -> None:
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    seq = sender.send("matrix/m")
    assert _end(sender, seq) == "matrix/m has never connected"
    matrix = hub.join("matrix/m")
    see = "who has its key sees them with: orchestra inbox --as matrix/m"
    assert _end(sender, seq) == f"waiting for credit of matrix/m: its session takes no more messages now; {see}"
    hub.join("matrix/m")
    assert _end(sender, seq) == f"waiting for credit of matrix/m: its 2 sessions take no more messages now; {see}"
    (delivery,) = matrix.allow(1)
    assert _end(sender, seq) == "matrix/m was sent it (attempt 1) and has not acknowledged it; again in 30 s"
    matrix.say([NAK, delivery[1], seq, "busy", "", 60_000])
    assert _end(sender, seq) == "matrix/m did not take attempt 1; the next comes in 1 min"
    assert sender.call("presence.set", address="matrix/m", state="away", text="on holiday")
    for peer in list(hub.peer("matrix/m").sessions):
        with hub.deciding() as turn:
            hub.decider.lost(peer.link, turn)
    hub.clock.advance(3 * 3600)
    assert _end(sender.again(), seq) == 'matrix/m has been offline for 3 h, and is away: "on holiday"'


def test_the_story_of_a_dead_letter_says_what_became_of_it(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=999), hub.join("operator/o")
    dead = [sender.send("agent/a") for _ in range(2)]
    for _ in range(DELIVERY_ATTEMPTS_MAX):
        agent.say(*([NAK, each[1], each[3], "busy", "", 0] for each in agent.took(DELIVER)))
        hub.tick()
    one, two = dead
    assert _end(sender, one) == (
        f"it is dead for agent/a: too many attempts; send it again with: orchestra dead resend {one}"
    )
    (again,) = sender.call("dead.resend", seqs=[one])["resent"]
    sender.call("dead.drop", seqs=[two])
    new = again["resent_seq"]
    did_not = f"came to nothing: session {_number(agent)} did not take it: busy"
    assert _story(sender, one) == [
        ("operator/o", f"sent message {one} to agent/a"),
        *(("agent/a", f"attempt {number} {did_not}") for number in range(1, DELIVERY_ATTEMPTS_MAX + 1)),
        ("hub", "gave up on agent/a: too many attempts"),
        ("operator/o", f"sent it again to agent/a as {new}"),
        ("hub", f"it went to agent/a again: orchestra trace {new}"),
    ]
    assert _story(sender, two)[-2:] == [
        ("operator/o", f"dropped dead letter {two} to agent/a"),
        ("hub", "it is dead for agent/a, and was dropped: too many attempts"),
    ]
    hub.clock.advance(0.001)
    assert _story(sender, new)[0] == ("operator/o", f"sent message {new} to agent/a (again: it is dead letter {one})")


def test_the_story_of_a_broadcast_tells_of_each_recipient(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    full, one = hub.join("matrix/full"), hub.join("matrix/one", credit=9)
    hub.enrol("matrix/two")
    sender = hub.join("operator/o")
    sender.send("matrix/full")
    monkeypatch.setattr(post_module, "MAILBOX_MESSAGES_MAX", 1)
    seq = sender.send("*")
    hub.clock.advance(1)
    one.ack(*one.took(DELIVER))
    assert _story(sender, seq) == [
        ("operator/o", f"sent message {seq} to *"),
        ("hub", "gave up on matrix/full: mailbox full"),
        ("matrix/one", f"dealt with it (acked), says session {_number(one)} (generation 1)"),
        ("hub", f"it is dead for matrix/full: mailbox full; send it again with: orchestra dead resend {seq}"),
        ("hub", "matrix/two has never connected"),
        ("hub", "1 of 3 recipients have read it"),
    ]
    assert all("matrix/one" not in what for _, what in _story(full, seq)), "a recipient sees its own part"
    hub.clock.advance(0.001)
    lonely = hub.join("matrix/lonely")
    assert lonely.call("trace", seq=seq) == "not_allowed"


def test_a_channel_s_entry_is_in_its_log(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.send("channel/status")
    assert _story(sender, seq)[-1] == ("hub", "it is in the log of channel/status")


def test_an_entry_that_was_overwritten_is_not_in_its_log_any_more(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.send("channel/status", entry="build")
    sender.send("channel/status", entry="build", remove=True)
    told = [what for _, what in _story(sender, seq)]
    assert told[0] == f"sent message {seq} to channel/status (entry 'build')"
    assert told[-1].startswith("it is not in the log of channel/status any more: a newer entry took its place")
    assert _story(sender, seq + 1)[0][1].endswith("(removes entry 'build')")


def test_the_story_of_a_task_names_every_attempt_and_a_late_result(hub: FakeHub) -> None:
    serving = {"slots": 1, "queues": ("queue/q",)}
    agent, sender = hub.join("agent/a", **serving), hub.join("operator/o")
    seq = sender.submit("queue/q")
    (task,) = agent.took(DELIVER)
    first = _number(agent)
    hub.clock.advance(5)
    assert _end(sender, seq) == "agent/a has been working on it for 5 s"
    pass_time(hub, sender, 30)
    assert _end(sender, seq) == "it has been queued for 25 s: no agent serves queue/q"
    other = hub.join("agent/b", **serving)
    hub.clock.advance(1)
    agent = agent.again()
    agent.n = 1
    agent.result(task)
    hub.clock.advance(1)
    assert _story(sender, seq) == [
        ("operator/o", f"submitted task {seq} to queue/q"),
        ("agent/a", f"began attempt 1 (generation 1, session {first})"),
        ("agent/a", "attempt 1 ended, lost: its agent was silent for longer than its lease"),
        ("agent/b", f"began attempt 2 (generation 1, session {_number(other)})"),
        ("agent/a", "reported completed for attempt 1, too late: it was refused"),
        ("hub", "agent/b has been working on it for 2 s"),
    ]


def test_the_end_says_why_a_task_waits_or_how_it_ended(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/review")
    assert _end(sender, seq) == "it has been queued for 0 s: no agent serves queue/review"
    dying = sender.submit("queue/review", expires_ms=1000)
    hub.clock.advance(2)
    sender.say([wire.PING, 0])
    hub.tick()
    end = _end(sender, dying)
    assert end.startswith("it is over: dead: ")
    assert end.endswith(f"; try it again with: orchestra task retry {dying}")
    agent = hub.join("agent/a", slots=1, queues=("queue/review",))
    agent.result(agent.took(DELIVER)[0])
    assert _end(sender, seq) == "it is over: completed"


def test_only_those_concerned_hear_a_story(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender, other = hub.join("matrix/m"), hub.join("matrix/n")
    message, task = sender.send("agent/a"), sender.submit("agent/a")
    for seq in (message, task):
        assert other.call("trace", seq=seq) == "not_allowed"
    assert other.call("trace", seq=99) == "not_found"
    assert hub.join("agent/a").call("trace", seq=message)["lines"]


def test_a_delivery_that_nobody_acknowledges_shows_its_attempts(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a")
    pass_time(hub, agent, DELIVERY_LEASE_S)
    sender = sender.again()
    assert _end(sender, seq) == "agent/a did not take attempt 1; the next comes in 1 s"
    silent = _number(agent)
    pass_time(hub, agent, 1.0)
    worker = hub.join("agent/a", credit=9, slots=1, about={"host": "box"})
    lost = _number(worker)
    agent.vanish()
    worker.vanish()
    hub.restart()
    assert _story(hub.join("operator/o"), seq)[1:-1] == [
        ("agent/a", f"attempt 1 came to nothing: session {silent} did not acknowledge it in time"),
        ("agent/a", f"attempt 2 came to nothing: session {silent} ended without acknowledging it"),
        ("agent/a", f"attempt 3 came to nothing: session {lost} (generation 1) ended without acknowledging it"),
    ]


def test_the_story_of_a_task_tells_its_terms_its_pause_its_question_and_its_checkpoint(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    hub.numbers.chance = lambda: 1.0
    seq = sender.submit("agent/a", max_attempts=2, backoff_ms=2000, expires_ms=60_000, budget=5)
    (task,) = agent.took(DELIVER)
    hub.clock.advance(1)
    agent.call("task.checkpoint", seq=seq, lease=task[1], data=b"half")
    hub.clock.advance(1)
    agent.result(task, "failed")
    terms = "at most 2 attempts, given up when nobody begins it within 1 min, budget 5"
    lines = _story(sender, seq)
    assert lines[0] == ("operator/o", f"submitted task {seq} to agent/a ({terms})")
    assert ("agent/a", "left a checkpoint of 4 bytes in attempt 1") in lines
    assert lines[-1] == ("hub", "it is scheduled: it may begin in 2 s")
    pass_time(hub, agent, 2.0)
    (task,) = agent.took(DELIVER)
    agent.call("task.ask", seq=seq, lease=task[1], number=1, question="which?")
    assert _end(sender, seq).endswith(f"waits for an answer: which?; answer with: orchestra task answer {seq} TEXT")
    sender.call("task.answer", seq=seq, text="that one")
    hub.clock.advance(0.001)
    agent.result(task)
    lines = _story(sender, seq)
    assert ("agent/a", "asked: which?") in lines
    assert ("operator/o", "answered: that one") in lines
    assert lines[-1] == ("hub", "it is over: completed")


def test_the_story_of_a_task_says_who_asked_for_another_try(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q")
    sender.call("task.cancel", seq=seq)
    assert _end(sender, seq).endswith(f"try it again with: orchestra task retry {seq}")
    hub.clock.advance(1)
    sender.call("task.retry", seq=seq)
    hub.clock.advance(1)
    again = "asked for another try (it was canceled by operator/o)"
    assert ("operator/o", again) in _story(sender, seq)
    assert _end(sender, seq).endswith("no agent serves queue/q")
    agent = hub.join("agent/a", slots=1, queues=("queue/q",))
    agent.result(agent.took(DELIVER)[0], "failed")
    hub.clock.advance(1)
    agent.allow(slots=1)
    sender.call("task.retry", seq=seq)
    told = [what for _, what in _story(sender, seq)]
    assert [line.split(" (")[0] for line in told[:-1]] == [
        f"submitted task {seq} to queue/q",
        "began attempt 1",
        "attempt 1 ended, failed",
        "asked for another try",
        "began attempt 2",
    ]


def test_the_story_of_a_message_says_what_its_sender_asked_for(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    first = sender.send("agent/a", expires_ms=200)
    hub.clock.advance(1)
    hub.tick()
    (resent,) = sender.call("dead.resend", seqs=[first])["resent"]
    reply = sender.send("agent/a", reply_to=resent["resent_seq"], expires_ms=600_000)
    sent = [_story(sender, seq)[0][1].partition(" (")[2] for seq in (first, resent["resent_seq"], reply)]
    assert sent == [
        "given up when it is not delivered within 200 ms)",
        f"again: it is dead letter {first})",
        f"given up when it is not delivered within 10 min, in reply to {resent['resent_seq']})",
    ]
