"""The story of one message or task, line by line: who did what and when, and at the end why it is not over yet. Pure.

It is told from rows (`receipts.dead_letter`, the facts and attempts of a task) and from what memory knew of the moment.
Each function gives lines of one kind; `message_lines` and `task_lines` put them in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from orchestra.stage import ACKED, DEAD, DELIVERED, READ, STAGES
from orchestra.task import RANK, RETRYABLE, TaskState
from orchestra.wire import MESSAGE

from .board import Board
from .roster import Roster
from .turn import Turn
from .waiting import how_it_ended, span, why_undelivered, why_waiting

_HUB: Final = "hub"
_PRIORITY: Final = {rank: name for name, rank in RANK.items()}
_NAMED_MAX: Final = 100  # recipients of a broadcast of whom the end says why


class Line(NamedTuple):
    """One thing that happened, or how it stands now. `who` is an address, or the hub."""

    at_ms: int
    who: str
    what: str


# What only memory knows, while the message or task is not over.


def moment_of_message(message: dict[str, Any], roster: Roster, turn: Turn) -> dict[str, Any]:
    """Return why each recipient does not have `message` yet, and which of the sessions that spoke of it are open."""
    peers = [roster.peers[each["recipient"]] for each in message["recipients"] if each["recipient"] in roster.peers]
    waiting = [roster.peers[each["recipient"]] for each in message["recipients"] if each["stage"] == STAGES[0]]
    return {
        "why": {peer.text: why_undelivered(peer, message["seq"], turn) for peer in waiting[:_NAMED_MAX]},
        "sessions": {session.number: _where(session.about) for peer in peers for session in peer.sessions},
    }


def moment_of_task(seq: int, board: Board, roster: Roster) -> dict[str, Any]:
    """Return why task `seq` is not over yet; empty where it is."""
    task = board.tasks.get(seq)
    return {"why": why_waiting(task, board, roster) if task is not None else ""}


def _where(about: dict[str, str]) -> list[str]:
    return [f"{name} {about[name]}" for name in ("host", "pid") if name in about]


def _session(said: dict[str, Any], sessions: dict[int, list[str]]) -> str:
    """Name the session of a receipt or attempt, with what is known of it."""
    life = [f"generation {said['generation']}"] if said["generation"] else []
    told = ", ".join([*life, *sessions.get(said["session"], ())])
    return f"session {said['session']}{f' ({told})' if told else ''}"


# Messages.


def message_lines(found: dict[str, Any], moment: dict[str, Any], *, is_logged: bool, now_ms: int) -> list[Line]:
    """Tell of a message; `found` is what `receipts.dead_letter` gives, `is_logged` whether a channel holds it."""
    lines = [Line(found["sent_ms"], found["from"], f"sent message {found['seq']} to {found['to']}{_options(found)}")]
    is_one = len(found["recipients"]) == 1
    for each in found["recipients"]:
        lines += _receipt_lines(each, moment["sessions"])
    for each in found["dead"]:
        lines += _closed_lines(found["seq"], each)
    lines.sort(key=lambda line: line.at_ms)
    if not found["recipients"]:
        return [*lines, Line(now_ms, _HUB, _where_else(found, is_logged=is_logged))]
    standing = [
        Line(now_ms, _HUB, _standing(each, found, moment, now_ms=now_ms))
        for each in found["recipients"]
        if is_one or each["stage"] not in STAGES[READ:]
    ]
    if not is_one:
        done = sum(each["stage"] in STAGES[READ:] for each in found["recipients"])
        standing.append(Line(now_ms, _HUB, f"{done} of {len(found['recipients'])} recipients have read it"))
    return lines + standing


def _options(found: dict[str, Any]) -> str:
    options, told = found["options"], []
    if found["rank"] != RANK["normal"]:
        told.append(f"priority {_PRIORITY[found['rank']]}")
    if "entry" in options:
        told.append(f"{'removes ' if 'remove' in options else ''}entry {options['entry']!r}")
    if "resend_of" in options:
        told.append(f"again: it is dead letter {options['resend_of']}")
    if "depends_on" in options:
        told.append(f"after task {', '.join(map(str, options['depends_on']))}")
    if "parent" in options:
        told.append(f"for task {options['parent']}")
    if "max_attempts" in options:
        told.append(f"at most {options['max_attempts']} attempts")
    if "expires_ms" in options:
        missed = "it is not delivered" if found["kind"] == MESSAGE else "nobody begins it"
        told.append(f"given up when {missed} within {_exact(options['expires_ms'])}")
    if "reply_to" in options:
        told.append(f"in reply to {options['reply_to']}")
    if "not_before_ms" in options and options["not_before_ms"] > found["sent_ms"]:
        told.append(f"not before {span(options['not_before_ms'] - found['sent_ms'])} had passed")
    if "budget" in options:
        told.append(f"budget {options['budget']}")
    return f" ({', '.join(told)})" if told else ""


def _exact(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else span(ms)


def _where_else(found: dict[str, Any], *, is_logged: bool) -> str:
    to = found["to"]
    if not to.startswith("channel/"):
        return "no matrix was known that it could go to"
    if is_logged:
        return f"it is in the log of {to}"
    return f"it is not in the log of {to} any more: a newer entry took its place, or retention removed it"


def _receipt_lines(where: dict[str, Any], sessions: dict[int, list[str]]) -> Iterator[Line]:
    for each in where["failed"]:
        what = f"attempt {each['attempt']} came to nothing: {_session(each, sessions)} {each['why']}"
        yield Line(each["at_ms"], where["recipient"], what)
    did = {STAGES[DELIVERED]: "got it", STAGES[READ]: "read it", STAGES[ACKED]: "dealt with it"}
    for each in where["receipts"]:
        if each["stage"] == DEAD:
            yield Line(each["at_ms"], _HUB, f"gave up on {where['recipient']}: {each['reason']}")
        else:
            what = f"{did[each['stage']]} ({each['stage']}), says {_session(each, sessions)}"
            yield Line(each["at_ms"], where["recipient"], what)


def _closed_lines(seq: int, dead: dict[str, Any]) -> Iterator[Line]:
    if dead["resent_seq"]:
        yield Line(
            dead["closed_ms"], dead["closed_by"], f"sent it again to {dead['recipient']} as {dead['resent_seq']}"
        )
    elif dead["closed_ms"]:
        yield Line(dead["closed_ms"], dead["closed_by"], f"dropped dead letter {seq} to {dead['recipient']}")


def _standing(where: dict[str, Any], found: dict[str, Any], moment: dict[str, Any], *, now_ms: int) -> str:
    """Say why it is not over yet for one recipient, or how it ended."""
    to, stage = where["recipient"], where["stage"]
    if stage == DEAD:
        closed = next((each for each in found["dead"] if each["recipient"] == to and each["closed_ms"]), None)
        if closed is None:
            return f"it is dead for {to}: {where['reason']}; send it again with: orchestra dead resend {found['seq']}"
        if closed["resent_seq"]:
            return f"it went to {to} again: orchestra trace {closed['resent_seq']}"
        return f"it is dead for {to}, and was dropped: {where['reason']}"
    if stage == STAGES[ACKED]:
        return f"nothing is left to do: {to} has dealt with it"
    if stage == STAGES[READ]:
        return f"nothing is left to do: {to} has read it, and did not say that it dealt with it"
    if where["receipts"]:
        ago = span(now_ms - where["receipts"][-1]["at_ms"])
        return f"{to} has had it for {ago} and has not read it"
    return str(moment["why"].get(to, f"it waits for {to}"))


# Tasks.


def task_lines(
    found: dict[str, Any], attempts: list[dict[str, Any]], dead: list[dict[str, Any]], why: str, *, now_ms: int
) -> list[Line]:
    """Tell of a task; `found` are its facts, `attempts` those of `task.get`, `dead` its dead letter if it is one."""
    lines = [Line(found["sent_ms"], found["from"], f"submitted task {found['seq']} to {found['to']}{_options(found)}")]
    if "retried_ms" in found:  # an attempt may begin in the same millisecond, and comes after it
        end = f" (it was {found['retried_end']})" if "retried_end" in found else ""
        lines.append(Line(found["retried_ms"], found["retried_by"], f"asked for another try{end}"))
    for each in attempts:
        lines += _attempt_lines(each)
    for each in dead:
        lines += _closed_lines(found["seq"], each)
    if "checkpoint" in found:
        left = found["checkpoint"]
        agent = next((each["agent"] for each in attempts if each["attempt"] == left["attempt"]), _HUB)
        what = f"left a checkpoint of {left['bytes']} bytes in attempt {left['attempt']}"
        lines.append(Line(left["at_ms"], agent, what))
    if "asked_ms" in found:
        agent = attempts[-1]["agent"] if attempts else _HUB
        lines.append(Line(found["asked_ms"], agent, f"asked: {found['question']}"))
    if "answered_ms" in found:
        lines.append(Line(found["answered_ms"], found["answered_by"], f"answered: {found['answer']}"))
    lines.sort(key=lambda line: line.at_ms)
    return [*lines, *_task_standing(found, dead, why, now_ms=now_ms)]


def _attempt_lines(attempt: dict[str, Any]) -> Iterator[Line]:
    number, agent = attempt["attempt"], attempt["agent"] or _HUB
    life = f"generation {attempt['generation']}, session {attempt['session']}"
    yield Line(attempt["began_ms"], agent, f"began attempt {number} ({life})")
    if attempt["ended_ms"]:
        text = f": {attempt['text']}" if attempt["text"] else ""
        yield Line(attempt["ended_ms"], agent, f"attempt {number} ended, {attempt['outcome']}{text}")
    if "late_ms" in attempt:
        late = f"reported {attempt['late_outcome']} for attempt {number}, too late: it was refused"
        yield Line(attempt["late_ms"], agent, late)


def _task_standing(found: dict[str, Any], dead: list[dict[str, Any]], why: str, *, now_ms: int) -> Iterator[Line]:
    state = TaskState(found["state"])
    text = str(found["report"].get("text", ""))
    if state.is_over:
        again = f"; try it again with: orchestra task retry {found['seq']}" if state in RETRYABLE else ""
        reason = text or next((each["reason"] for each in dead), "")
        yield Line(found["updated_ms"], _HUB, f"it is over: {how_it_ended(state, reason)}{again}")
        return
    if state is TaskState.SCHEDULED:
        yield Line(now_ms, _HUB, f"it is scheduled: it may begin in {span(found['due_ms'] - now_ms)}")
        return
    if state is TaskState.INPUT_REQUIRED:
        advice = f"answer with: orchestra task answer {found['seq']} TEXT"
        why = f"{why}: {found['question']}; {advice}"
    passed = span(now_ms - found["updated_ms"])
    stands = f"{found['agent']} has been working on it" if state is TaskState.WORKING else f"it has been {state}"
    yield Line(now_ms, _HUB, f"{stands} for {passed}{f': {why}' if why else ''}")
