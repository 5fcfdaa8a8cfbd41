"""Many tasks from one file: a JSON object per line, checked as a whole before anything is sent. Pure.

Lines may name one another: `{"id": "test", "depends_on": ["build", 17], "argv": ["make", "test"]}` waits for the line
whose id is "build", and for the task 17 of the hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from .address import Kind, parse_address
from .errors import BadAddress, BadOption
from .job import TIMEOUT_S_DEFAULT, Job
from .limits import BATCH_TASKS_MAX, DEPENDENCIES_MAX, KEY_CHARS_MAX
from .task import Priority
from .terms import PLAIN, Terms

_FAULTS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One task of a file. `after` are the ids of the lines it depends on; `terms.depends_on` the tasks of the hub."""

    number: int
    id: str
    to: str
    job: Job
    priority: str | None
    key: str | None
    terms: Terms
    after: tuple[str, ...]


def read_batch(lines: Iterable[str], *, to: str, cwd: str = "", parent: int = 0) -> list[Line]:
    """Read a file of tasks; return them so that each comes after those it depends on.

    Args:
        to: where a line goes that does not say.
        cwd: where the command of a line runs that does not say.
        parent: the task that a line is done for that does not say.

    Raises:
        BadOption: with every fault and its line, or with the members of a cycle.
    """
    found: list[Line] = []
    faults: list[str] = []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            found.append(_line(number, text, to, cwd, parent))
        except (BadOption, BadAddress) as error:
            faults.append(f"line {number}: {error}")
        if len(found) > BATCH_TASKS_MAX:
            raise BadOption(f"there are more than {BATCH_TASKS_MAX} tasks; split the file")
    by_id: dict[str, Line] = {}
    for line in found:
        if line.id in by_id:
            faults.append(f"line {line.number}: the id {line.id!r} is taken by line {by_id[line.id].number}")
        by_id.setdefault(line.id, line)
    for line in found:
        faults += [
            f"line {line.number}: it depends on {name!r}, and no line has that id"
            for name in line.after
            if name not in by_id
        ]
    if faults:
        more = f"\n… and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise BadOption("nothing was sent:\n" + "\n".join(faults[:_FAULTS_SHOWN]) + more)
    if not found:
        raise BadOption("there is no task in it: write one JSON object per line")
    return _in_order(found, by_id)


def _in_order(lines: list[Line], by_id: dict[str, Line]) -> list[Line]:
    """Sort so that dependencies come first, and otherwise as they stand."""
    ordered: list[Line] = []
    done: set[str] = set()
    path: dict[str, None] = {}
    for first in lines:
        todo = [(first, False)]
        while todo:
            line, is_left = todo.pop()
            if is_left:
                path.pop(line.id)
                done.add(line.id)
                ordered.append(line)
            elif line.id not in done:
                if line.id in path:
                    names = [*path]
                    cycle = [*names[names.index(line.id) :], line.id]
                    raise BadOption(f"nothing was sent: the tasks wait for each other: {' → '.join(cycle)}")
                path[line.id] = None
                todo.append((line, True))
                todo += [(by_id[name], False) for name in reversed(line.after) if name not in done]
    return ordered


def _line(number: int, text: str, to: str, cwd: str, parent: int) -> Line:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadOption(f"it is not JSON: {exc}") from exc
    if type(found) is not dict:
        raise BadOption("it is not a JSON object")
    values: dict[str, Any] = {}
    for name, value in found.items():
        read = _FIELDS.get(name)
        if read is None:
            raise BadOption(f"the field {name[:40]!r} is not known; there are {', '.join(_FIELDS)}")
        values[name] = read(name, value)
    address = parse_address(values.get("to", to))
    if address.kind not in (Kind.AGENT, Kind.QUEUE):
        raise BadOption(f"{address} takes no tasks; write agent/NAME or queue/NAME")
    argv = tuple(values.get("argv", ()))
    job = Job(
        prompt=values.get("prompt", ""),
        argv=argv,
        cwd=values.get("cwd", cwd if argv else ""),
        timeout_s=values.get("timeout_s", TIMEOUT_S_DEFAULT),
        context=values.get("context", ""),
    )
    after, seqs = values.get("depends_on", ((), ()))
    if len(after) + len(seqs) > DEPENDENCIES_MAX:
        raise BadOption(f"depends_on has {len(after) + len(seqs)} tasks; the limit is {DEPENDENCIES_MAX}")
    terms = replace(
        PLAIN, depends_on=seqs, parent=parent, **{_MS[name]: values[name] for name in _MS if name in values}
    )
    terms = replace(terms, **{name: values[name] for name in ("max_attempts", "budget", "parent") if name in values})
    return Line(
        number=number,
        id=values.get("id", f"line {number}"),
        to=str(address),
        job=job,
        priority=values.get("priority"),
        key=values.get("key"),
        terms=terms,
        after=after,
    )


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise BadOption(f"{name} must be a text")
    return value


def _id(name: str, value: Any) -> str:
    if type(value) is not str or not value:
        raise BadOption(f"{name} must be a text")
    return value


def _key(name: str, value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= KEY_CHARS_MAX:
        raise BadOption(f"{name} must be a text of 1 to {KEY_CHARS_MAX} characters")
    return value


def _texts(name: str, value: Any) -> list[str]:
    if type(value) is not list or any(type(each) is not str for each in value):
        raise BadOption(f"{name} must be a list of texts")
    return value


def _priority(name: str, value: Any) -> str:
    if value not in list(Priority):
        raise BadOption(f"{name} must be one of {', '.join(Priority)}")
    return str(value)


def _seconds(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e10:
        raise BadOption(f"{name} must be a number of seconds")
    return float(value)


def _ms(name: str, value: Any) -> int:
    return round(_seconds(name, value) * 1000)


def _as_it_is(name: str, value: Any) -> Any:
    return value  # `Terms` checks it


def _dependencies(name: str, value: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if type(value) is not list or any(type(each) not in (str, int) for each in value):
        raise BadOption(f"{name} must be a list of ids of lines, or of numbers of tasks")
    names = tuple(dict.fromkeys(each for each in value if type(each) is str))
    return names, tuple(dict.fromkeys(each for each in value if type(each) is int))


_MS: Final = {
    "backoff_s": "backoff_ms",
    "backoff_max_s": "backoff_max_ms",
    "expires_s": "expires_ms",
    "not_before_s": "not_before_ms",
}
_FIELDS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "id": _id,
    "prompt": _text,
    "argv": _texts,
    "to": _text,
    "cwd": _text,
    "timeout_s": _seconds,
    "context": _text,
    "priority": _priority,
    "depends_on": _dependencies,
    "max_attempts": _as_it_is,
    "backoff_s": _ms,
    "backoff_max_s": _ms,
    "expires_s": _ms,
    "not_before_s": _ms,
    "key": _key,
    "budget": _as_it_is,
    "parent": _as_it_is,
}
