"""What a task asks for: the body of a task, as its sender packs it and its agent reads it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

from .errors import BadOption
from .wire import pack

TIMEOUT_S_DEFAULT = 3600.0
"""How long an attempt may take when the sender does not say."""


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt, or an argv to run as it is; never both.

    Attributes:
        cwd: the working directory on the agent's machine; empty is the agent's own.
        timeout_s: seconds that one attempt may take.
        context: anything the agent's program should know; it finds it in `ORCHESTRA_TASK_CONTEXT`.
    """

    prompt: str = ""
    argv: tuple[str, ...] = ()
    cwd: str = ""
    timeout_s: float = TIMEOUT_S_DEFAULT
    context: str = ""

    def __post_init__(self) -> None:
        if bool(self.prompt) == bool(self.argv):
            raise BadOption("a task needs a prompt or an argv, and not both")
        if not self.timeout_s > 0:
            raise BadOption(f"timeout_s is {self.timeout_s}; it must be more than 0")
        for text in (*self.argv, self.cwd):
            if "\0" in text:
                raise BadOption("argv and cwd can't hold NUL characters")

    @property
    def title(self) -> str:
        """One line for lists and logs, without the control characters that could drive a terminal."""
        return _line(" ".join(self.argv) or self.prompt)

    def encode(self) -> bytes:
        fields = (
            ("prompt", self.prompt),
            ("argv", self.argv),
            ("cwd", self.cwd),
            ("timeout_s", self.timeout_s),
            ("context", self.context),
        )
        return pack({name: value for name, value in fields if value})


def title_of(body: bytes) -> str:
    """Return the title of a task from its body, or from the beginning of one; empty where it is no job."""
    try:
        return decode_job(body).title
    except BadOption:
        return _title_of_head(body)


def _title_of_head(body: bytes) -> str:
    unpacker = msgpack.Unpacker(raw=False, unicode_errors="replace")
    unpacker.feed(body)
    words: list[str] = []
    start = 0
    try:
        if unpacker.read_map_header() and (name := unpacker.unpack()) in ("prompt", "argv"):
            for _ in range(unpacker.read_array_header() if name == "argv" else 1):
                start = unpacker.tell()
                words.append(str(unpacker.unpack()))
    except (ValueError, msgpack.OutOfData):  # the rest was cut off, in the middle of a text
        if start < len(body):
            words.append(body[start + _TEXT_HEADER_BYTES.get(body[start], 1) :].decode("utf-8", "replace"))
    return _line(" ".join(words))


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


_TEXT_HEADER_BYTES = {0xD9: 2, 0xDA: 3, 0xDB: 5}  # of a text of 32 bytes or more: its kind and its length
_TYPES: dict[str, tuple[type, ...]] = {
    "prompt": (str,),
    "argv": (list,),
    "cwd": (str,),
    "timeout_s": (float, int),
    "context": (str,),
}


def decode_job(body: bytes) -> Job:
    """Read the body of a task.

    Raises:
        BadOption: if it is none.
    """
    try:
        found: Any = msgpack.unpackb(body, raw=False)
    except (ValueError, TypeError, RecursionError) as exc:
        raise BadOption("the task's body is not a job; submit it with this library or the command line") from exc
    if type(found) is not dict:
        raise BadOption("the task's body is not a map")
    for name, value in found.items():
        if type(value) not in _TYPES.get(name, ()):
            raise BadOption(f"the task's field {str(name)[:40]!r} is unknown or has the wrong type")
    argv = found.pop("argv", [])
    if any(type(each) is not str for each in argv):
        raise BadOption("the task's argv must be texts")
    return Job(argv=tuple(argv), **found)
