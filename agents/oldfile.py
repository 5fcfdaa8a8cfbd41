"""The files of the old protocol: the task an orchestrator writes, and the result an agent writes. Pure.

INBOX/<agent id>/<any name>.json        {"id", "prompt", "context"?, "priority"?, "working_dir"?, "session_id"?,
                                         "auto_save_session"?}
OUTBOX/<agent id>/result_<id>.json      {"task_id", "agent_id", "status", "output", "started_at", "completed_at",
                                         "duration_ms"}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Final

from orchestra.errors import BadFile, BadOption, UnfinishedFile
from orchestra.job import TIMEOUT_S_DEFAULT, Job
from orchestra.limits import FILE_NAME_BYTES_MAX
from orchestra.task import Priority

COMPLETED: Final = "completed"
ERROR: Final = "error"

TaskId = str | int

_SESSION: Final = ("session_id", "auto_save_session")


@dataclass(frozen=True, slots=True)
class OldTask:
    """A task file. `context` is text: what was no text in the file is JSON here.

    Attributes:
        session: what the file says of `session_id` and `auto_save_session`, where it does.
        odd_priority: the word for the priority, where it is none of ours; the task then counts as normal.
    """

    id: TaskId
    prompt: str
    context: str = ""
    priority: Priority = Priority.NORMAL
    working_dir: str = ""
    session: tuple[tuple[str, Any], ...] = ()
    odd_priority: str = ""

    @property
    def prompt_digest(self) -> str:
        """What two tasks of one id have in common if they are one task that came by two ways."""
        return digest_of(self.prompt)

    def job(self) -> Job:
        """Return what a new agent is asked. What the old one knew of the session travels in the context, as JSON."""
        context = self.context
        if self.session:
            context = json.dumps({"context": self.context, **dict(self.session)}, ensure_ascii=False)
        return Job(prompt=self.prompt, cwd=self.working_dir, context=context, timeout_s=TIMEOUT_S_DEFAULT)

    def encode(self) -> bytes:
        """Return the file."""
        found: dict[str, Any] = {"id": self.id, "prompt": self.prompt, "priority": str(self.priority)}
        if self.context:
            found["context"] = self.context
        if self.working_dir:
            found["working_dir"] = self.working_dir
        return _json({**found, **dict(self.session)})


def read_task(data: bytes, *, stem: str) -> OldTask:
    """Read a task file; a task without an id is called by the `stem` of its file's name.

    Raises:
        UnfinishedFile: if it is not JSON, or not yet.
        BadFile: if it can't be run; the sentence says why.
    """
    found = _object(data)
    prompt = found.get("prompt")
    if type(prompt) is not str or not prompt.strip():
        raise BadFile("it has no prompt: the field must be a text that is not empty")
    given = found.get("priority")
    word = given.lower() if type(given) is str else given
    is_known = word in list(Priority)
    context = found.get("context")
    return OldTask(
        id=_id(found.get("id", stem)),
        prompt=_text(prompt, "prompt"),
        context="" if context is None else _text(_as_text(context), "context"),
        priority=Priority(str(word)) if is_known else Priority.NORMAL,
        working_dir=_folder(found.get("working_dir")),
        session=tuple((name, found[name]) for name in _SESSION if found.get(name) is not None),
        odd_priority="" if is_known or given is None else repr(given)[:40],
    )


def task_of(job: Job, *, task_id: TaskId, priority: Priority) -> OldTask:
    """Return the file for an old agent; the way back of `OldTask.job`.

    Raises:
        BadOption: if the job is a command: an old agent takes prompts.
    """
    if not job.prompt:
        raise BadOption("an old agent takes prompts, not commands; submit this one to a queue of new agents")
    task = OldTask(task_id, job.prompt, job.context, priority, job.cwd)
    try:
        inner = json.loads(job.context) if job.context.startswith("{") else None
    except ValueError:
        inner = None
    if type(inner) is dict and inner.keys() <= {"context", *_SESSION} and inner.keys() & set(_SESSION):
        session = tuple((name, inner[name]) for name in _SESSION if name in inner)
        task = replace(task, context=str(inner.get("context", "")), session=session)
    return task


@dataclass(frozen=True, slots=True)
class OldResult:
    """A result file. Times are text of ISO 8601; `extra` are fields that the old protocol lets us add."""

    task_id: TaskId
    agent_id: TaskId
    status: str
    output: str
    started_at: str = ""
    completed_at: str = ""
    duration_ms: int = 0
    extra: tuple[tuple[str, Any], ...] = ()

    @property
    def error(self) -> str:
        """The first line of what it says, for where a sentence is wanted."""
        return self.output.strip().partition("\n")[0] or "the old agent says error and no more"

    def encode(self) -> bytes:
        """Return the file."""
        found = {
            "task_id": self.task_id,
            "agent_id": self.agent_id,
            "status": self.status,
            "output": self.output,
            "started_at": self.started_at,
            "completed_at": self.completed_at,
            "duration_ms": self.duration_ms,
        }
        return _json({**found, **dict(self.extra)})


def read_result(data: bytes, *, task_id: TaskId) -> OldResult:
    """Read what an old agent answered.

    Raises:
        UnfinishedFile: if it is not JSON, or not yet.
        BadFile: if it is no result, or that of another task than `task_id`.
    """
    found = _object(data)
    if str(found.get("task_id")) != str(task_id):
        raise BadFile(f"its task_id is not {task_id}")
    status = found.get("status")
    if status not in (COMPLETED, ERROR):
        raise BadFile(f"its status must be {COMPLETED!r} or {ERROR!r}")
    output = found.get("output")
    text = "" if output is None else _text(_as_text(output), "output")
    error = found.get("error")
    if status == ERROR and not text and error is not None:
        text = _text(_as_text(error), "error")
    took = found.get("duration_ms")
    return OldResult(
        task_id=task_id,
        agent_id=str(found.get("agent_id", "")),
        status=str(status),
        output=text,
        duration_ms=int(took) if isinstance(took, int | float) and 0 <= took < 2**53 else 0,
    )


def agent_id(folder: str) -> TaskId:
    """Return the `agent_id` of results of the folder of this name: a number where it is one."""
    return int(folder) if folder.isascii() and folder.isdigit() and len(folder) < 16 else folder


def key_of(folder: str, name: bytes, data: bytes) -> str:
    """Return the idempotency key of a task file: of its folder's path, its name and its content."""
    parts = (folder.encode("utf-8", "surrogateescape"), name, data)
    lengths = b"".join(len(part).to_bytes(8, "big") for part in parts)
    return f"file:{hashlib.sha256(lengths + b''.join(parts)).hexdigest()}"


def digest_of(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise UnfinishedFile(f"it is not UTF-8 (at byte {exc.start})") from exc
    except ValueError as exc:
        raise UnfinishedFile(f"it is not valid JSON: {exc}" if data.strip() else "it is empty") from exc
    except RecursionError as exc:
        raise BadFile("its JSON is nested too deeply") from exc
    if type(found) is not dict:
        raise BadFile("its JSON is not an object with an id and a prompt")
    return found


def _id(value: object) -> TaskId:
    if type(value) is not str and type(value) is not int:
        raise BadFile("its id must be a text or a whole number")
    text = str(value)
    if not text or "/" in text or not text.isprintable() or len(_text(text, "id").encode()) > FILE_NAME_BYTES_MAX:
        raise BadFile(
            "its id can't be part of the name of a result file: "
            f"it must be 1 to {FILE_NAME_BYTES_MAX} printable bytes without a slash"
        )
    return value


def _folder(value: object) -> str:
    if value is None:
        return ""
    if type(value) is not str or "\0" in value:
        raise BadFile("its working_dir must be a text without NUL characters")
    return _text(value, "working_dir")


def _as_text(value: object) -> str:
    return value if type(value) is str else json.dumps(value, ensure_ascii=False)


def _text(value: str, name: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise BadFile(f"its {name} holds half a character (a lone surrogate)") from exc
    return value


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
