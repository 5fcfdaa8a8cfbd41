"""The words of the gateway's JSON, as values: bodies, tasks, and what JSON itself allows. Pure.

What is said with them, and when, is in `dialogue.py`; users read docs/gateway.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import shlex
from collections.abc import Iterable
from typing import Any, Final

from orchestra.address import Kind, parse_address
from orchestra.errors import BadOption, Malformed
from orchestra.job import Job, decode_job, title_of
from orchestra.limits import OUTPUT_BYTES_MAX
from orchestra.wire import TASK

Message = dict[str, Any]
"""One JSON object, with its `type`."""

_SHOWN: Final = 40
_CUT_MARK: Final = b"\n[... cut by the hub's gateway ...]\n"


def read_message(text: str | bytes) -> Message:
    """Parse what a client said. A field that is null is left out: many programs write so what they do not know.

    Raises:
        Malformed: if it is not one JSON object with a `type`, or holds what no other client could be told.
    """
    if type(text) is not str:
        raise Malformed("this is a binary frame; send JSON as text")
    try:
        found = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as exc:
        reason = "nested too deeply" if isinstance(exc, RecursionError) else str(exc)[:200]
        raise Malformed(f"this is not JSON: {reason}") from exc
    if type(found) is not dict or type(found.get("type")) is not str:
        raise Malformed('a message is a JSON object with a "type", such as {"type":"ping"}')
    return {name: value for name, value in found.items() if value is not None}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # 1e400 is JSON, and what it becomes is none
        raise ValueError(f"{text[:_SHOWN]} is too large a number")
    return value


def write_message(message: Message) -> bytes:
    """Encode one message as JSON in UTF-8. Bytes become text, or `{"base64": …}` where they are not UTF-8."""
    try:
        return json.dumps(message, default=shown, ensure_ascii=False, allow_nan=False, separators=_TIGHT).encode()
    except (TypeError, ValueError):  # a peer put into a report what JSON does not have
        return json.dumps(_tamed(message), ensure_ascii=False, separators=_TIGHT).encode("utf-8", "replace")


_TIGHT: Final = (",", ":")


def shown(body: object) -> object:
    """Return bytes as JSON can hold them."""
    if not isinstance(body, bytes | bytearray | memoryview):
        return str(body)
    try:
        return bytes(body).decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


def _tamed(value: object) -> object:
    if isinstance(value, dict):
        return {key if type(key) is str else str(shown(key)): _tamed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_tamed(each) for each in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else shown(value)


def body_of(value: object, *, name: str = "content") -> bytes:
    """Return the bytes that a client means: a text, or `{"base64": …}`.

    Raises:
        BadOption: if it is neither.
    """
    if type(value) is str:
        return encoded(value)
    if type(value) is dict and value.keys() == {"base64"} and type(value["base64"]) is str:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, ValueError) as exc:
            raise BadOption(f"{name} is no valid base64") from exc
    raise BadOption(f'{name} must be a text, or {{"base64": "…"}} for what is no text')


def encoded(text: str) -> bytes:
    """Raises:
    Malformed: if `text` holds half of a surrogate pair, which JSON can write and UTF-8 can't.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise Malformed("a text holds half of a surrogate pair") from exc


def address_of(text: str, *, kind: Kind) -> str:
    """Return the address that `text` names; a bare name is one of `kind`, as the earlier system's clients write it."""
    return str(parse_address(text if "/" in text or text == Kind.EVERYONE else f"{kind}/{text}"))


def bare(address: str, *, kind: Kind) -> str:
    """Return the name alone of an address of this kind, and any other whole."""
    return address.removeprefix(f"{kind}/")


def seq_of(value: object, *, name: str) -> int:
    """Return the number of a message or task, which may be written as text.

    Raises:
        BadOption: if it is none.
    """
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if type(value) is int and value >= 0:
        return value
    raise BadOption(f"{name} must be the number of a message or task")


def job_of(message: Message) -> bytes:
    """Return the body of the task that a `submit` asks for.

    Raises:
        BadOption: if it asks for none.
    """
    argv = message.get("argv", [])
    if any(type(each) is not str for each in argv):
        raise BadOption("argv must be a list of texts")
    given: dict[str, Any] = {name: message[name] for name in ("cwd", "context") if name in message}
    if "timeout_s" in message:
        given["timeout_s"] = float(message["timeout_s"])
    return Job(prompt=message.get("prompt", ""), argv=tuple(argv), **given).encode()


def asked_of(body: bytes) -> Message:
    """Return what a task asks for as JSON says it: `prompt`, which for a command is how a shell would write it."""
    try:
        job = decode_job(body)
    except BadOption:  # in a list, long ones are cut
        return {"title": title_of(body), "prompt": title_of(body)}
    found: Message = {"title": job.title, "prompt": job.prompt or shlex.join(job.argv)}
    found |= {"context": job.context, "timeout_s": job.timeout_s}
    if job.argv:
        found["argv"] = list(job.argv)
    if job.cwd:
        found["cwd"] = job.cwd
    return found


def with_jobs(method: str, result: Message) -> Message:
    """Return the result of a CALL with the packed bodies of tasks read."""
    if method == "task.get":
        return _with_job(result)
    if method == "task.list":
        return {**result, "tasks": [_with_job(each) for each in result.get("tasks", ())]}
    if method == "dead.list":
        return {**result, "dead": [_with_job(each, is_task=each["kind"] == TASK) for each in result["dead"]]}
    if method == "dead.get":
        return _with_job(result, is_task=result.get("kind") == TASK)
    return result


def _with_job(facts: Message, *, is_task: bool = True) -> Message:
    if not is_task or "body" not in facts:
        return facts
    return {**{name: value for name, value in facts.items() if name != "body"}, **asked_of(facts["body"])}


def cut(output: bytes) -> tuple[bytes, bool]:
    """Return an output as a result may hold it, its head and tail where it is too long, and whether it was cut."""
    if len(output) <= OUTPUT_BYTES_MAX:
        return output, False
    half = (OUTPUT_BYTES_MAX - len(_CUT_MARK)) // 2
    return output[:half] + _CUT_MARK + output[-half:], True


def online(peers: Iterable[Message], *, kind: Kind, but: str) -> list[str]:
    """Return the names of the peers of one kind that are connected, without `but`."""
    return [
        bare(each["address"], kind=kind)
        for each in peers
        if each["state"] != "offline" and each["address"].startswith(f"{kind}/") and each["address"] != but
    ]
