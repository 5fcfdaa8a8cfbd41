"""Why a task or a message still waits, in one line. Pure."""

from __future__ import annotations

from typing import Final

from orchestra.task import TaskState

from .board import Board, Task
from .roster import Peer, Roster
from .turn import Turn

_NAMED_MAX: Final = 5


def why_waiting(task: Task, board: Board, roster: Roster) -> str:
    """Return what has to happen before `task` goes on; empty where nothing is in its way."""
    if task.cancel_why is not None:
        return f"{task.holder_text} is stopping it: {task.cancel_why}"
    if task.state is TaskState.BLOCKED:
        return _blocked(sorted(task.more.blockers), board)
    if task.state is TaskState.SCHEDULED:
        return "its time has not come"
    if task.state is TaskState.QUEUED:
        return _queued(task.to, roster)
    if task.seq in board.adrift.get((task.holder or 0, task.generation), (0, {}))[1]:
        return f"{task.holder_text} is not connected; the task is its own until its lease ends"
    if task.state is TaskState.INPUT_REQUIRED:
        return f"{task.holder_text} waits for an answer"
    return ""


def _blocked(blockers: list[int], board: Board) -> str:
    named = [f"task {seq} ({board.tasks[seq].state})" for seq in blockers[:_NAMED_MAX] if seq in board.tasks]
    more = len(blockers) - len(named)
    return f"blocked by {', '.join(named)}{f' and {more} more' if more > 0 else ''}"


def _queued(to: str, roster: Roster) -> str:
    serving = [each for each in roster.sessions.values() if to == each.peer.text or to in each.queues]
    taking = [each for each in serving if each.slots]
    if not taking:
        if to.startswith("agent/"):
            return f"{to} takes no tasks now" if serving else f"{to} is not connected"
        return f"no agent serves {to}"
    if any(each.free_slots > 0 for each in taking):
        return ""
    if to.startswith("agent/"):
        return f"{to} is busy"
    return (
        f"all agents of {to} are busy" if len(taking) > 1 else f"the one agent of {to}, {taking[0].peer.text}, is busy"
    )


def why_undelivered(peer: Peer, seq: int, turn: Turn) -> str:
    """Return why `peer` has not confirmed message `seq`, which it is owed."""
    letter = peer.mailbox.find(seq)
    if letter is not None and seq in peer.mailbox.in_flight:
        left = span(letter.due_ms - turn.at_ms)
        return f"{peer.text} was sent it (attempt {letter.attempt}) and has not acknowledged it; again in {left}"
    if not peer.sessions:
        if not peer.generation:
            return f"{peer.text} has never connected"
        away = f', and is away: "{peer.away_text}"' if peer.away_text else ""
        return f"{peer.text} has been offline for {span(turn.now_ms - (peer.since_ms or peer.seen_ms))}{away}"
    if letter is not None and letter.due_ms > turn.at_ms:
        left = span(letter.due_ms - turn.at_ms)
        return f"{peer.text} did not take attempt {letter.attempt}; the next comes in {left}"
    if all(session.credit <= 0 for session in peer.sessions):
        count = len(peer.sessions)
        sessions = "its session takes" if count == 1 else f"its {count} sessions take"
        return (
            f"waiting for credit of {peer.text}: {sessions} no more messages now; "
            f"who has its key sees them with: orchestra inbox --as {peer.text}"
        )
    return f"{peer.mailbox.waiting} messages wait for {peer.text}, some of them before it"


def how_it_ended(state: TaskState, text: str) -> str:
    """Say in which state a task ended, and why; `text` may say the state itself."""
    return text if text.startswith(state) else f"{state}: {text}" if text else state.value


def span(ms: int) -> str:
    """Return a length of time in the largest fitting unit."""
    seconds = max(0, round(ms / 1000))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds} s"
