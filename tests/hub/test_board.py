"""The board: who may take which task. Pure."""

from __future__ import annotations

import random

import pytest

from orchestra.address import parse_address
from orchestra.hub.board import Board, Task
from orchestra.hub.mailbox import Mailbox
from orchestra.hub.roster import Peer, Session
from orchestra.task import NEXT, TaskState


def _session(name: str, *, slots: int = 1, queues: tuple[str, ...] = ("queue/q",)) -> Session:
    text = f"agent/{name}"
    peer = Peer(1, parse_address(text), text, 1, None, 0, Mailbox(1))
    return Session(
        link=text,
        identity=text,
        number=1,
        peer=peer,
        epoch=b"",
        credit=0,
        slots=slots,
        queues=queues,
        about={},
        since_ms=0,
        heard_ms=0,
    )


def _task(seq: int, *, rank: int = 2, to: str = "queue/q", body: bytes = b"") -> Task:
    return Task(seq, rank, "operator/o", to, 1, 0, None, body)


def _match(board: Board) -> list[tuple[int, str]]:
    found = []
    for task, session in board.matches():
        assert session.free_slots > 0, "given more than it has slots for"
        task.move(TaskState.WORKING, now_ms=0)
        session.tasks[task.seq] = task
        found.append((task.seq, session.peer.address.name))
    return found


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("following", list(TaskState))
def test_a_task_moves_only_as_the_table_says(state: TaskState, following: TaskState) -> None:
    task = _task(1)
    task.state = state
    if following in NEXT[state]:
        task.move(following, now_ms=7)
        assert (task.state, task.updated_ms) == (following, 7)
    else:
        with pytest.raises(AssertionError):
            task.move(following, now_ms=7)
        assert task.state is state


def test_nothing_matches_without_tasks_or_without_agents() -> None:
    board = Board()
    board.serve(_session("a"))
    assert _match(board) == []
    board = Board()
    board.add(_task(1))
    assert _match(board) == []


def test_slots_are_filled_and_never_overfilled() -> None:
    board = Board()
    for seq in range(1, 8):
        board.add(_task(seq))
    for name, slots in (("a", 2), ("b", 1), ("c", 0)):
        board.serve(_session(name, slots=slots))
    assert _match(board) == [(1, "a"), (2, "b"), (3, "a")]
    assert _match(board) == []


def test_an_agent_takes_from_its_own_line_and_from_its_queues() -> None:
    board = Board()
    board.add(_task(1, to="agent/a"))
    board.add(_task(2, to="agent/b"))
    board.add(_task(3, to="queue/q"))
    board.add(_task(4, to="queue/other"))
    board.serve(_session("a", slots=9))
    assert _match(board) == [(1, "a"), (3, "a")]


def test_who_withdrew_gets_nothing() -> None:
    board, session = Board(), _session("a")
    board.serve(session)
    board.withdraw(session)
    board.add(_task(1))
    assert _match(board) == []
    assert board.lines() == {"queue/q": 1}


def test_a_requeued_task_takes_its_old_place() -> None:
    board, session = Board(), _session("a")
    board.serve(session)
    for seq in (1, 2, 3):
        board.add(_task(seq))
    assert _match(board) == [(1, "a")]
    task = session.tasks.pop(1)
    board.requeue(task, now_ms=1)
    assert (task.holder, task.lease, task.generation) == (None, 0, 0)
    board.serve(session)
    assert _match(board) == [(1, "a")]


def test_canceled_tasks_are_passed_over_and_not_counted_as_waiting() -> None:
    board = Board()
    tasks = [_task(seq) for seq in (1, 2, 3)]
    for task in tasks:
        board.add(task)
    for task in tasks[:2]:
        task.move(TaskState.CANCELED, now_ms=0)
        board.close(task)
    assert board.waiting("queue/q") == 1
    board.serve(_session("a", slots=9))
    assert _match(board) == [(3, "a")]
    assert board.lines() == {}


def test_the_bytes_of_bodies_are_given_back_once() -> None:
    board, task = Board(), _task(1, body=b"12345")
    board.add(task)
    assert board.bytes == 5
    task.move(TaskState.CANCELED, now_ms=0)
    board.close(task)
    board.close(task)
    assert board.bytes == 0


@pytest.mark.parametrize("seed", range(10))
def test_no_free_slot_is_left_beside_a_waiting_task(seed: int) -> None:
    """Whatever happened before: after matching, every line has no task or nobody free for it."""
    chance = random.Random(seed)
    board, seq = Board(), 0
    sessions = [
        _session(
            f"a{i}", slots=chance.randint(0, 3), queues=tuple(f"queue/{q}" for q in "pqr" if chance.random() < 0.6)
        )
        for i in range(6)
    ]
    for session in sessions:
        board.serve(session)
    for _ in range(300):
        session = chance.choice(sessions)
        match chance.choice(("add", "add", "done", "back", "slots")):
            case "add":
                to = chance.choice(("queue/p", "queue/q", "queue/r", "agent/a0", "agent/a5"))
                board.add(_task(seq := seq + 1, rank=chance.randint(0, 3), to=to))
            case "done" if session.tasks:
                task = session.tasks.pop(chance.choice(list(session.tasks)))
                task.move(TaskState.COMPLETED, now_ms=0)
                board.close(task)
                board.serve(session)
            case "back" if session.tasks:
                task = session.tasks.pop(chance.choice(list(session.tasks)))
                board.requeue(task, now_ms=0)
                board.serve(session)
            case "slots":
                session.slots = chance.randint(0, 3)
                board.serve(session)
        _match(board)
        held = [task.seq for each in sessions for task in each.tasks.values()]
        assert len(held) == len(set(held))
        for each in sessions:
            if each.free_slots > 0:
                assert not any(board.waiting(line) for line in (each.peer.text, *each.queues))


def test_tasks_that_were_canceled_behind_one_that_nobody_serves_are_not_kept() -> None:
    board = Board()
    board.add(_task(1, rank=0))
    for seq in range(2, 5000):
        task = _task(seq)
        board.add(task)
        task.move(TaskState.CANCELED, now_ms=0)
        board.close(task)
    assert (
        sum(len(waiting) for senders in board._lines["queue/q"].ranks if senders for waiting in senders.values()) < 200
    )
    assert board.waiting("queue/q") == 1
    session = _session("a")
    board.serve(session)
    assert _match(board) == [(1, "a")]
