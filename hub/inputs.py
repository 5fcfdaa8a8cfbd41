"""What passes between a task at work and the people around it: questions, answers, checkpoints. Pure."""

from __future__ import annotations

from typing import Any

from orchestra.errors import BadOption, HubFull, NotAsked, TooLarge
from orchestra.limits import CHECKPOINT_BYTES_MAX, QUESTION_CHARS_MAX, TASKS_OPEN_BYTES_MAX
from orchestra.task import TaskState
from orchestra.wire import CANCEL, EVENT

from .board import Task
from .hubstate import HubState
from .roster import Session
from .tasks import Tasks
from .turn import Turn


class Inputs:
    """The rules of what agents ask and leave, and of what they are told meanwhile."""

    def __init__(self, state: HubState, tasks: Tasks) -> None:
        self._state = state
        self._tasks = tasks

    def ask(self, session: Session, seq: int, lease: int, number: int, question: str, turn: Turn) -> Task:
        """The agent of a task asks; the same number again is the same question, and changes nothing.

        Raises:
            StaleLease: if it does not hold the task.
            BadOption: if the question is empty or too long.
        """
        task = self._tasks.held(session, seq, lease)
        _check_text("question", question)
        extras = task.more
        if number > extras.asked:
            extras.asked, extras.question, extras.answer = number, question, None
            extras.asked_ms, extras.answered_ms, extras.answered_by = turn.now_ms, 0, ""
            if task.state is TaskState.WORKING:
                task.move(TaskState.INPUT_REQUIRED, now_ms=turn.now_ms)
            self._tasks.changed(task, turn)
        return task

    def answer(self, task: Task, text: str, turn: Turn, *, by: str) -> None:
        """`by` answers; the agent goes on. The same answer again changes nothing.

        Raises:
            NotAsked: if the task waits for no answer.
            BadOption: if the answer is empty or too long.
        """
        _check_text("text", text)
        extras = task.more
        if task.state is not TaskState.INPUT_REQUIRED:
            if extras.answer == text:
                return
            raise NotAsked(f"task {task.seq} is {task.state} and asks nothing now; see: orchestra task show {task.seq}")
        extras.answer, extras.answered_ms, extras.answered_by = text, turn.now_ms, by
        task.move(TaskState.WORKING, now_ms=turn.now_ms)
        self._tasks.changed(task, turn)
        for session in self._tasks.holders(task):
            self._tell_answer(session, task, turn)

    def checkpoint(self, session: Session, seq: int, lease: int, data: bytes, turn: Turn) -> None:
        """Keep what the next attempt may go on from; it replaces what was kept before.

        Raises:
            StaleLease: if it does not hold the task.
            TooLarge, HubFull: if there is no room for it.
        """
        task = self._tasks.held(session, seq, lease)
        if len(data) > CHECKPOINT_BYTES_MAX:
            raise TooLarge(f"checkpoint is {len(data)} bytes; the limit is {CHECKPOINT_BYTES_MAX}")
        board = self._tasks.board
        more = len(data) - len(task.more.checkpoint or b"")
        if more > 0 and board.bytes + more > TASKS_OPEN_BYTES_MAX:
            raise HubFull("the unfinished tasks and their checkpoints take all the room there is; try again later")
        board.bytes += more
        task.more.checkpoint = data
        self._state.writes.checkpoints[seq] = (seq, task.attempt, turn.now_ms, data)
        for link in task.watchers:
            turn.send(link, [EVENT, "task", {**task.facts(), "checkpoint_bytes": len(data)}])

    def remind(self, session: Session, turn: Turn) -> None:
        """Tell an agent that came back what it may have missed of the tasks it still holds."""
        for task in session.tasks.values():
            if task.cancel_why is not None:
                turn.send(session.link, [CANCEL, task.seq, task.lease, task.cancel_why])
            if task.extras is not None and task.extras.answer is not None:
                self._tell_answer(session, task, turn)

    def _tell_answer(self, session: Session, task: Task, turn: Turn) -> None:
        told: dict[str, Any] = {"seq": task.seq, "lease": task.lease, "number": task.more.asked}
        turn.send(session.link, [EVENT, "answer", {**told, "text": task.more.answer}])


def _check_text(name: str, text: str) -> None:
    if not 0 < len(text) <= QUESTION_CHARS_MAX:
        raise BadOption(f"{name} has {len(text)} characters; it must have 1 to {QUESTION_CHARS_MAX}")
