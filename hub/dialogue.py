"""What is said on one WebSocket: JSON messages from a client to records of the wire, and records back. Pure.

There are two manners of speaking. A client that offers the subprotocol `orchestra.v1` is told everything with full
addresses and numbers. Any other is spoken to as agents and matrices of the earlier system expect it, and hears nothing
that it did not ask for. Both may say the same. docs/gateway.md is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from orchestra.address import Address, Kind
from orchestra.errors import BadOption, HubFull, Malformed, PeerError, StaleLease
from orchestra.limits import (
    CREDIT_DEFAULT,
    CREDIT_MAX,
    GATEWAY_OPEN_MAX,
    GATEWAY_PRESENCE_MAX,
    LIST_ROWS_MAX,
    SLOTS_MAX,
)
from orchestra.stage import STAGES
from orchestra.task import TaskState
from orchestra.version import WIRE_VERSION
from orchestra.wire import (
    ACK,
    BYE,
    CALL,
    CANCEL,
    CREDIT,
    DELIVER,
    ERROR,
    EVENT,
    HELLO,
    MESSAGE,
    NAK,
    OK,
    PROGRESS,
    REPLY,
    REQUEST,
    RESPONSE,
    RESULT,
    SEND,
    TASK,
    WELCOME,
    Record,
)

from . import vocabulary
from .calls import METHODS
from .presence import SETTABLE
from .vocabulary import Message, body_of, seq_of

MODERN: Final = "orchestra.v1"
"""The subprotocol of clients that are told everything."""

_ID_CHARS_MAX: Final = 64
_TEXT_CHARS_MAX: Final = 1000
_RESULT_STATES: Final = {
    "completed": TaskState.COMPLETED,
    "error": TaskState.FAILED,
    "failed": TaskState.FAILED,
    "canceled": TaskState.CANCELED,
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client says of itself in the address it connects to.

    Attributes:
        is_modern: whether it speaks `orchestra.v1`.
        acks: whether it acknowledges what it is sent; otherwise a successful write counts as delivered.
        credit: how many messages may be on their way to it; 0 is none at all.
        slots: how many tasks an agent takes at once.
        queues: which queues it serves.
        answers: whether it answers live requests.
    """

    is_modern: bool = False
    acks: bool = False
    credit: int = CREDIT_DEFAULT
    slots: int = 0
    queues: tuple[str, ...] = ()
    answers: bool = False


def read_wishes(query: str, *, kind: Kind, is_modern: bool) -> Wishes:
    """Read the query of the address, but for the token.

    Raises:
        BadOption: if it wishes for what does not exist.
    """
    found: dict[str, Any] = {"is_modern": is_modern, "slots": int(kind is Kind.AGENT)}
    queues: list[str] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "token":
            continue
        if name == "ack" and value in ("0", "1"):
            found["acks"] = value == "1"
        elif name == "answers" and value in ("0", "1"):
            found["answers"] = value == "1"
        elif name == "protocol" and value == MODERN:
            found["is_modern"] = True
        elif name == "credit" and value.isdecimal() and int(value) <= CREDIT_MAX:
            found["credit"] = int(value)
        elif name == "slots" and value.isdecimal() and int(value) <= SLOTS_MAX:
            found["slots"] = int(value)
        elif name == "queue":
            queues.append(vocabulary.address_of(value, kind=Kind.QUEUE))
        else:
            raise BadOption(
                f"{name[:40]}={value[:40]} is not known here; there are ack=0|1, answers=0|1, credit=0..{CREDIT_MAX}, "
                f"slots=0..{SLOTS_MAX}, queue=NAME and protocol={MODERN}"
            )
    return Wishes(**found, queues=tuple(queues))


@dataclass(slots=True)
class _Asked:
    """Something that was said and waits for its answer."""

    type: str
    id: object = None
    more: Any = None


@dataclass(frozen=True, slots=True)
class _Form:
    """The fields of one type of message that a client may say."""

    hear: Callable[[Dialogue, Message], list[Record]]
    required: dict[str, tuple[type, ...]] = field(default_factory=dict)
    optional: dict[str, tuple[type, ...]] = field(default_factory=dict)


class Dialogue:
    """One client's side. It numbers what is said, and remembers what waits for an answer."""

    def __init__(self, address: Address, wishes: Wishes, *, moment: Callable[[int], str]) -> None:
        """Args:
        moment: writes milliseconds since 1970 as people do.
        """
        self.address = address
        self.wishes = wishes
        self._moment = moment
        self._last = 0
        self._open: dict[int, _Asked] = {}
        self._leases: dict[int, int] = {}
        """Messages it was told and did not acknowledge: seq → lease."""
        self._written: list[int] = []
        """Of those, the ones of which nobody but the gateway will say that they are delivered."""
        self._shown: list[int] = []
        """Messages that an old client took and has not spoken since."""
        self._credit_due = 0
        self._owed: list[Record] = []
        """What else the hub is to be asked."""
        self._is_registered = False
        self._presence: dict[str, str] = {}
        """Of a matrix of the earlier system: who came or went since it was told last, and how they stand now."""
        self._tasks: dict[int, int] = {}
        """Tasks it was given: seq → lease."""
        self._questions: dict[int, tuple[int, Any]] = {}
        """Of those, what was asked last: seq → (number, step)."""
        self._answers: list[Message] = []

    def hello(self, *, epoch: bytes, about: dict[str, str]) -> list[Record]:
        """Return what the gateway says for a client that has just connected."""
        wishes = self.wishes
        if wishes.answers:
            about = {**about, "answers": "requests"}
        credit = 0 if self._is_old_matrix else wishes.credit  # it is given with `registered`, which comes first
        said: list[Record] = [
            [
                HELLO,
                WIRE_VERSION,
                WIRE_VERSION,
                str(self.address),
                epoch,
                credit,
                wishes.slots,
                list(wishes.queues),
                [],
                about,
            ]
        ]
        if self._is_old_matrix:
            said.append(self._call("registered", None, "presence.watch", {}, more=[]))
        return said

    def hear(self, text: str | bytes) -> tuple[list[Record], list[Message]]:
        """Take what the client said; return the records for the hub, and what is answered at once."""
        answers: list[Message] = []
        self._answers = answers
        ref: object = None
        try:
            message = vocabulary.read_message(text)
            form = _FORMS.get(message["type"])
            if form is None:
                raise Malformed(f"type {message['type'][:40]!r} is not known; there are {', '.join(sorted(_FORMS))}")
            ref = _id_of(message)
            _check(form, message)
            return self._read() + form.hear(self, message), answers
        except PeerError as error:
            return [], [*answers, _error(ref, error.code, str(error))]

    def _read(self) -> list[Record]:
        """An old client spoke: it is alive, and has shown what it took before. It has no word for that itself, and
        what nobody reads would fill its mailbox."""
        shown, self._shown = self._shown[:LIST_ROWS_MAX], self._shown[LIST_ROWS_MAX:]
        return [self._call("quiet", None, "inbox.read", {"seqs": shown})] if shown else []

    def refused(self, record: Record, error: PeerError) -> list[Message]:
        """Return what is answered where a record of `hear` can't be put on the wire."""
        asked = self._open.pop(record[1], None) if record[0] in _NUMBERED else None
        return [_error(asked.id if asked else None, error.code, str(error))]

    def tell(self, record: Record) -> list[Message]:
        """Return what the client is told of one record of the hub."""
        told = _TOLD.get(record[0])
        return told(self, record) if told is not None else []

    def written(self) -> list[Record]:
        """All that was told is on its way: return what the hub is owed for it."""
        said: list[Record] = []
        if self._written:
            pairs: list[int] = []
            for seq in self._written:
                pairs += (seq, self._leases.pop(seq))
            self._credit_due += len(self._written)
            if not self.wishes.is_modern:
                self._shown += self._written
            self._written.clear()
            said.append([ACK, 1, pairs])
        if self._credit_due:
            said.append([CREDIT, self._credit_due, None])
            self._credit_due = 0
        owed, self._owed = self._owed, []
        return said + owed

    @property
    def owes(self) -> bool:
        """Whether `written` has something to say."""
        return bool(self._written or self._credit_due or self._owed)

    def news(self) -> list[Message]:
        """Return who came and went since the last call; where that were too many, `written` asks for everybody anew.

        So of 1,000 matrices that connect at once none is told 1,000 times.
        """
        changed, self._presence = self._presence, {}
        if len(changed) > GATEWAY_PRESENCE_MAX:
            self._owed.append(self._call("registered", None, "presence.watch", {}, more=[]))
            return []
        return [{"type": "presence", "matrix_id": name, "status": status} for name, status in changed.items()]

    def is_shared(self, record: Record) -> bool:
        """Whether every client that speaks like this one is told the same one message of `record`."""
        return self.wishes.is_modern and record[0] in _SHARED

    @property
    def _is_old_matrix(self) -> bool:
        return self.address.kind is Kind.MATRIX and not self.wishes.is_modern

    def _number(self, asked: _Asked) -> int:
        if len(self._open) >= GATEWAY_OPEN_MAX:
            raise HubFull(f"{GATEWAY_OPEN_MAX} messages wait for an answer; wait for some")
        self._last += 1
        self._open[self._last] = asked
        return self._last

    def _call(self, kind: str, ref: object, method: str, params: Message, *, more: Any = None) -> Record:
        return [CALL, self._number(_Asked(kind, ref, more)), method, params]

    # What clients say.

    def _hear_ping(self, message: Message) -> list[Record]:
        self._answers.append({"type": "pong", **_with_id(_id_of(message))})
        return []

    def _hear_pong(self, message: Message) -> list[Record]:
        return []

    def _hear_call(self, message: Message) -> list[Record]:
        name, params = message["method"], dict(message.get("params", {}))
        method = METHODS.get(name)
        if method is not None:
            for each in params:
                if bytes in (method.required.get(each), method.optional.get(each)):
                    params[each] = body_of(params[each], name=each)
        return [self._call("call", _id_of(message), name, params, more=name)]

    def _hear_send(self, message: Message) -> list[Record]:
        to = vocabulary.address_of(message["to"], kind=self.address.kind)
        return [self._send(_Asked("send", _id_of(message)), to, MESSAGE, body_of(message["content"]), message)]

    def _hear_submit(self, message: Message) -> list[Record]:
        to = vocabulary.address_of(message["to"], kind=Kind.AGENT)
        return [self._send(_Asked("send", _id_of(message)), to, TASK, vocabulary.job_of(message), message)]

    def _send(self, asked: _Asked, to: str, kind: int, body: bytes, message: Message) -> Record:
        return [SEND, self._number(asked), to, kind, body, message.get("options") or None]

    def _hear_message(self, message: Message) -> list[Record]:
        to = vocabulary.address_of(message.get("to", "*"), kind=Kind.MATRIX)
        options = {"metadata": message["metadata"]} if message.get("metadata") else {}
        asked = _Asked("send" if "id" in message else "message", _id_of(message))
        return [self._send(asked, to, MESSAGE, body_of(message["content"]), {"options": options})]

    def _hear_presence(self, message: Message) -> list[Record]:
        if message["status"] not in SETTABLE:
            raise BadOption(f"status must be {' or '.join(SETTABLE)}; who is not connected is offline by that")
        return [self._call("quiet", _id_of(message), "presence.set", {"state": message["status"]})]

    def _hear_ack(self, message: Message) -> list[Record]:
        stage = message.get("stage", "acked")
        if stage not in STAGES[1:]:
            raise BadOption(f"stage must be one of {', '.join(STAGES[1:])}")
        pairs: list[int] = []
        later: list[int] = []
        for each in message["ids"]:
            seq = seq_of(each, name="ids")
            lease = self._leases.pop(seq, None)
            if lease is None:
                later.append(seq)
            else:
                pairs += (seq, lease)
        said: list[Record] = []
        if pairs:
            said += [ACK, STAGES.index(stage), pairs], [CREDIT, len(pairs) // 2, None]
        self._written = [seq for seq in self._written if seq in self._leases]
        if later and stage != STAGES[1]:
            if len(later) > LIST_ROWS_MAX:
                raise BadOption(f"ids has {len(later)} messages; the limit is {LIST_ROWS_MAX}")
            params = {"seqs": later, "ack": stage == STAGES[3]}
            said.append(self._call("quiet", _id_of(message), "inbox.read", params))
        return said

    def _hear_nak(self, message: Message) -> list[Record]:
        seq = seq_of(message.get("id", message.get("taskId")), name="id")
        lease = self._tasks.pop(seq, 0) or self._leases.pop(seq, 0)
        if not lease:
            raise StaleLease(f"{seq} was not given to you, or is dealt with")
        self._written = [each for each in self._written if each != seq]
        return [[NAK, lease, seq, "", message.get("message", "")[:_TEXT_CHARS_MAX], message.get("delay_ms", 0)]]

    def _hear_credit(self, message: Message) -> list[Record]:
        return [[CREDIT, message.get("messages", 0), message.get("slots")]]

    def _hear_progress(self, message: Message) -> list[Record]:
        seq, lease = self._held(message)
        return [[PROGRESS, seq, lease, body_of(message["data"], name="data")]]

    def _hear_result(self, message: Message) -> list[Record]:
        seq, lease = self._held(message)
        state = _RESULT_STATES.get(message["status"])
        if state is None:
            raise BadOption(f"status must be one of {', '.join(_RESULT_STATES)}")
        whole = body_of(message.get("output", ""), name="output")
        output, is_cut = vocabulary.cut(whole)
        report: Message = {"output_bytes": len(whole), "is_cut": is_cut}
        for name in ("duration_ms", "exit_code", "cost_usd", "is_permanent"):
            if name in message:
                report[name] = message[name]
        if state is TaskState.FAILED:
            text = message.get("message") or message.get("error") or whole[:200].decode("utf-8", "replace")
            report |= {"code": "failed", "text": text[:_TEXT_CHARS_MAX]}
        elif state is TaskState.CANCELED:
            report |= {"code": "canceled", "text": message.get("message", "")[:_TEXT_CHARS_MAX]}
        number = self._number(_Asked("result", _id_of(message), seq))
        return [[RESULT, number, seq, lease, state.value, report, output]]

    def _hear_checkpoint(self, message: Message) -> list[Record]:
        """Keep what the agent says as its checkpoint; where it needs guidance, ask for it as well."""
        seq, lease = self._held(message)
        step, status, summary = message.get("step"), message["status"], message.get("summary", "")
        if status not in ("progressing", "blocked", "need_guidance"):
            raise BadOption("status must be progressing, blocked or need_guidance")
        kept = vocabulary.write_message({"step": step, "status": status, "summary": summary})
        needs_answer = status != "progressing"
        more = (seq, step)
        asked = self._call(
            "kept" if needs_answer else "checkpoint",
            _id_of(message),
            "task.checkpoint",
            {"seq": seq, "lease": lease, "data": kept},
            more=more,
        )
        said: list[Record] = [[PROGRESS, seq, lease, vocabulary.encoded(f"[{step}] {summary}\n")], asked]
        if needs_answer:
            number = self._questions.get(seq, (0, None))[0] + 1
            self._questions[seq] = (number, step)
            question = summary or f"step {step}: {status}"
            params = {"seq": seq, "lease": lease, "number": number, "question": question}
            said.append(self._call("kept", _id_of(message), "task.ask", params, more=more))
        return said

    def _hear_request(self, message: Message) -> list[Record]:
        to = vocabulary.address_of(message["to"], kind=self.address.kind)
        number = self._number(_Asked("request", _id_of(message)))
        return [[REQUEST, number, to, message.get("timeout_ms", 30_000), body_of(message["content"])]]

    def _hear_response(self, message: Message) -> list[Record]:
        code = message.get("code", "")
        body = vocabulary.encoded(message.get("message", "")) if code else body_of(message.get("content", ""))
        return [[RESPONSE, message["request"], code, body]]

    def _held(self, message: Message) -> tuple[int, int]:
        seq = seq_of(message["taskId"], name="taskId")
        lease = self._tasks.get(seq)
        if lease is None:
            raise StaleLease(f"task {seq} is not yours now; stop working on it")
        return seq, lease

    # What clients are told.

    def _tell_welcome(self, record: Record) -> list[Message]:
        if not self.wishes.is_modern and self.address.kind is not Kind.OPERATOR:
            return []
        _, version, address, session, generation, time_ms, _, limits = record
        told = {"address": address, "session": session, "generation": generation, "time_ms": time_ms}
        return [{"type": "welcome", "version": version, **told, "limits": limits}]

    def _tell_ok(self, record: Record) -> list[Message]:
        _, first, seq, count = record
        told: list[Message] = []
        for place in range(count):
            asked = self._open.pop(first + place, None)
            if asked is None or asked.type == "message":
                continue
            if asked.type == "result":
                self._tasks.pop(asked.more, None)
                self._questions.pop(asked.more, None)
                if asked.id is None:
                    continue
            told.append({"type": "ok", **_with_id(asked.id), "seq": seq + place})
        return told

    def _tell_error(self, record: Record) -> list[Message]:
        _, verb, ref, code, text = record
        asked = self._open.pop(ref, None) if verb in _NUMBERED else None
        if asked is not None and asked.type == "registered":
            # Who is there now can't be told. Clients wait for the first answer; a later one would only be wrong.
            return [] if self._is_registered else [self._registered(asked.more)]
        if asked is not None and asked.type == "result" and code == StaleLease.code:
            self._tasks.pop(asked.more, None)
        return [_error(asked.id if asked is not None else None, code, text)]

    def _tell_deliver(self, record: Record) -> list[Message]:
        _, lease, attempt, seq, sender, to, kind, time_ms, options, body = record
        options = options or {}
        if kind == TASK:
            self._tasks[seq] = lease
            self._questions.pop(seq, None)
            return [self._task(record)]
        if lease:
            if seq in self._leases:  # its lease has lapsed, and took a message of credit with it
                self._credit_due += 1
            self._leases[seq] = lease
            if not self.wishes.acks:
                self._written.append(seq)
        if to.startswith("channel/"):
            told = {"type": "entry", "id": seq, "channel": to, "from": sender, "content": body, "time_ms": time_ms}
            return [{**told, "options": options}]
        if self.wishes.is_modern:
            told = {"type": "message", "id": seq, "from": sender, "to": to, "content": body, "time_ms": time_ms}
            return [{**told, "attempt": attempt, "options": options}]
        content = vocabulary.shown(body)
        metadata = dict(options.get("metadata") or {})
        if type(content) is not str:  # what is no text comes as base64, and says so
            content, metadata["encoding"] = content["base64"], "base64"  # type: ignore[index]
        sender = vocabulary.bare(sender, kind=self.address.kind)
        told = {"type": "message", "id": seq, "from": sender, "content": content, "timestamp": self._moment(time_ms)}
        return [{**told, "metadata": metadata}]

    def _task(self, record: Record) -> Message:
        _, lease, attempt, seq, sender, to, _, time_ms, options, body = record
        options = options or {}
        told: Message = {
            "type": "task",
            "id": str(seq),
            **vocabulary.asked_of(body),
            "priority": options.get("priority", "normal"),
            "assigned_at": self._moment(time_ms),
        }
        if self.wishes.is_modern:
            told |= {"seq": seq, "lease": lease, "attempt": attempt, "from": sender, "to": to, "options": options}
        elif "checkpoint" in options:
            told["checkpoint"] = options["checkpoint"]
        return told

    def _tell_progress(self, record: Record) -> list[Message]:
        _, seq, attempt, data = record
        return [{"type": "progress", "seq": seq, "attempt": attempt, "data": data}]

    def _tell_result(self, record: Record) -> list[Message]:
        _, seq, attempt, state, report, output = record
        return [{"type": "result", "seq": seq, "attempt": attempt, "state": state, "report": report, "output": output}]

    def _tell_cancel(self, record: Record) -> list[Message]:
        _, seq, _, why = record
        return [{"type": "cancel", "id": str(seq), "reason": why}]

    def _tell_reply(self, record: Record) -> list[Message]:
        _, ref, result = record
        asked = self._open.pop(ref, None)
        if asked is None or asked.type in ("quiet", "kept"):
            return [{"type": "ok", **_with_id(asked.id)}] if asked is not None and asked.id is not None else []
        if asked.type == "registered":
            return self._tell_registered([*asked.more, *result["peers"]], is_cut=result["is_cut"])
        if asked.type == "checkpoint":
            return [self._checkpoint_response(*asked.more, guidance=None)]
        return [{"type": "reply", **_with_id(asked.id), "result": vocabulary.with_jobs(asked.more, result)}]

    def _tell_registered(self, peers: list[Message], *, is_cut: bool) -> list[Message]:
        if is_cut:
            params = {"after": peers[-1]["address"]}
            self._owed.append(self._call("registered", None, "presence.watch", params, more=peers))
            return []
        return [self._registered(peers)]

    def _registered(self, peers: Iterable[Message]) -> Message:
        if not self._is_registered:
            self._is_registered = True
            self._credit_due += self.wishes.credit
        others = vocabulary.online(peers, kind=Kind.MATRIX, but=str(self.address))
        return {"type": "registered", "matrix_id": self.address.name, "online_matrices": others}

    def _checkpoint_response(self, seq: int, step: Any, *, guidance: str | None) -> Message:
        told = {"type": "checkpoint_response", "taskId": str(seq), "step": step, "action": "continue"}
        return told if guidance is None else {**told, "guidance": guidance}

    def _tell_request(self, record: Record) -> list[Message]:
        _, number, sender, wait_ms, body = record
        return [{"type": "request", "request": number, "from": sender, "timeout_ms": wait_ms, "content": body}]

    def _tell_response(self, record: Record) -> list[Message]:
        asked = self._open.pop(record[1], None)
        return [{"type": "response", **_with_id(asked.id if asked is not None else None), "content": record[2]}]

    def _tell_event(self, record: Record) -> list[Message]:
        _, name, data = record
        if name == "answer" and not self.wishes.is_modern:
            _, step = self._questions.get(data["seq"], (0, None))
            return [self._checkpoint_response(data["seq"], step, guidance=data["text"])]
        if self._is_old_matrix and name == "presence":
            address, kind = data["address"], f"{Kind.MATRIX}/"
            if not address.startswith(kind) or address == str(self.address):
                return []
            self._presence[address.removeprefix(kind)] = data["state"]
            return []
        return [{**data, "type": "event", "event": name}]

    def _tell_bye(self, record: Record) -> list[Message]:
        return [{"type": "error", "code": record[1], "message": record[2]}]


_TOLD: Final[dict[int, Callable[[Dialogue, Record], list[Message]]]] = {
    WELCOME: Dialogue._tell_welcome,
    OK: Dialogue._tell_ok,
    ERROR: Dialogue._tell_error,
    DELIVER: Dialogue._tell_deliver,
    PROGRESS: Dialogue._tell_progress,
    RESULT: Dialogue._tell_result,
    CANCEL: Dialogue._tell_cancel,
    REPLY: Dialogue._tell_reply,
    REQUEST: Dialogue._tell_request,
    RESPONSE: Dialogue._tell_response,
    EVENT: Dialogue._tell_event,
    BYE: Dialogue._tell_bye,
}

_TEXT, _NUMBER, _MAP = (str,), (int,), (dict,)
_BODY: Final = (str, dict)
_TASK_ID: Final = (str, int)
_FORMS: Final[dict[str, _Form]] = {
    "ping": _Form(Dialogue._hear_ping),
    "pong": _Form(Dialogue._hear_pong),
    "call": _Form(Dialogue._hear_call, {"method": _TEXT}, {"params": _MAP}),
    "send": _Form(Dialogue._hear_send, {"to": _TEXT, "content": _BODY}, {"options": _MAP}),
    "submit": _Form(
        Dialogue._hear_submit,
        {"to": _TEXT},
        {
            "prompt": _TEXT,
            "argv": (list,),
            "cwd": _TEXT,
            "timeout_s": (int, float),
            "context": _TEXT,
            "options": _MAP,
        },
    ),
    "message": _Form(Dialogue._hear_message, {"content": _BODY}, {"to": _TEXT, "metadata": _MAP}),
    "presence": _Form(Dialogue._hear_presence, {"status": _TEXT}),
    "ack": _Form(Dialogue._hear_ack, {"ids": (list,)}, {"stage": _TEXT}),
    "nak": _Form(Dialogue._hear_nak, {}, {"taskId": _TASK_ID, "message": _TEXT, "delay_ms": _NUMBER}),
    "credit": _Form(Dialogue._hear_credit, {}, {"messages": _NUMBER, "slots": _NUMBER}),
    "progress": _Form(Dialogue._hear_progress, {"taskId": _TASK_ID, "data": _BODY}),
    "result": _Form(
        Dialogue._hear_result,
        {"taskId": _TASK_ID, "status": _TEXT},
        {
            "output": _BODY,
            "duration_ms": (int, float),
            "exit_code": _NUMBER,
            "cost_usd": (int, float),
            "message": _TEXT,
            "error": _TEXT,
            "is_permanent": (bool,),
        },
    ),
    "checkpoint": _Form(
        Dialogue._hear_checkpoint, {"taskId": _TASK_ID, "status": _TEXT}, {"step": (str, int), "summary": _TEXT}
    ),
    "request": _Form(Dialogue._hear_request, {"to": _TEXT, "content": _BODY}, {"timeout_ms": _NUMBER}),
    "response": _Form(
        Dialogue._hear_response, {"request": _NUMBER}, {"content": _BODY, "code": _TEXT, "message": _TEXT}
    ),
}
"""What a client may say. Fields that are not named here are ignored, as those of older clients are."""

_NUMBERED: Final = frozenset({SEND, CALL, REQUEST, RESULT})
_SHARED: Final = frozenset({EVENT, PROGRESS, RESULT})


def _check(form: _Form, message: Message) -> None:
    for name in form.required:
        if name not in message:
            raise BadOption(f"{message['type']} needs the field {name!r}")
    for name, types in (*form.required.items(), *form.optional.items()):
        if name in message and type(message[name]) not in types:
            wanted = " or ".join(each.__name__ for each in types)
            raise BadOption(f"field {name!r} of {message['type']} must be of type {wanted}")


def _id_of(message: Message) -> object:
    """Return the `id` that the answer to this message carries.

    Raises:
        BadOption: if it is neither a number nor a short text.
    """
    found = message.get("id")
    if (
        found is None
        or (type(found) is int and abs(found) < 2**53)
        or (type(found) is str and len(found) <= _ID_CHARS_MAX)
    ):
        return found
    raise BadOption(f"id must be a whole number or a text of at most {_ID_CHARS_MAX} characters")


def _with_id(ref: object) -> Message:
    return {} if ref is None else {"id": ref}


def _error(ref: object, code: str, text: str) -> Message:
    return {"type": "error", **_with_id(ref), "code": code, "message": text}
