"""The wire: batches of records as msgpack, checked on the way in. Pure.

A ZeroMQ message is one frame, and the frame is one array of records, each `[verb, …]`. `docs/protocol.md` says what
each verb means and how it is answered; this file says what a record looks like. Fields after the known ones are
ignored, so that a later version can add some.

`decode` runs once per frame on the hub's hot path. It compares the types of a whole record with one look-up in a
set (0.3 µs a record), which is why the shapes below are written as tuples of types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from .errors import Malformed, PeerError, TooLarge, UnknownVerb
from .limits import (
    BATCH_BYTES,
    BATCH_RECORDS_MAX,
    BODY_BYTES_MAX,
    FRAME_BYTES_MAX,
    LIST_ITEMS_MAX,
    OUTPUT_BYTES_MAX,
    PROGRESS_BYTES_MAX,
    REPORT_BYTES_MAX,
    TEXT_CHARS_MAX,
)

Record = list[Any]

HELLO: Final = 1
WELCOME: Final = 2
SEND: Final = 3
OK: Final = 4
ERROR: Final = 5
DELIVER: Final = 6
ACK: Final = 7
NAK: Final = 8
CREDIT: Final = 9
PROGRESS: Final = 10
RESULT: Final = 11
CANCEL: Final = 12
PING: Final = 13
PONG: Final = 14
CALL: Final = 15
REPLY: Final = 16
REQUEST: Final = 17
RESPONSE: Final = 18
EVENT: Final = 19
BYE: Final = 20

VERBS: Final[dict[int, str]] = {
    value: name for name, value in list(globals().items()) if name.isupper() and type(value) is int and value <= 20
}

MESSAGE: Final = 0
TASK: Final = 1
"""The kinds of a SEND and a DELIVER."""

INT_MAX: Final = 2**63 - 1  # what SQLite can hold

_NONE: Final = type(None)


@dataclass(frozen=True, slots=True)
class Shape:
    """The field types of one verb in one direction.

    Attributes:
        fields: the type of each field, the verb included; a tuple is a choice.
        ref: which field says what an ERROR about such a record refers to; 0 is none.
        blob: which field is a body, and how long it may be; (0, 0) is none.
    """

    fields: tuple[type | tuple[type, ...], ...]
    ref: int = 0
    blob: tuple[int, int] = (0, 0)


FROM_PEER: Final[dict[int, Shape]] = {
    # version oldest, newest, address, epoch, credit, slots, queues, holding [[seq, lease]…], about {}
    HELLO: Shape((int, int, int, str, bytes, int, int, list, list, dict)),
    # n, to, kind, body, options
    SEND: Shape((int, int, str, int, bytes, (dict, _NONE)), ref=1, blob=(4, BODY_BYTES_MAX)),
    # stage, [seq, lease, seq, lease…]
    ACK: Shape((int, int, list)),
    # lease, seq, code, text, delay_ms
    NAK: Shape((int, int, int, str, str, int)),
    # messages to add, task slots from now on (or nil: as before)
    CREDIT: Shape((int, int, (int, _NONE))),
    # seq, lease, data
    PROGRESS: Shape((int, int, int, bytes), blob=(3, PROGRESS_BYTES_MAX)),
    # n, seq, lease, outcome, report, output
    RESULT: Shape((int, int, int, int, str, dict, bytes), ref=1, blob=(6, OUTPUT_BYTES_MAX)),
    # token
    PING: Shape((int, int)),
    # id, method, params
    CALL: Shape((int, int, str, dict), ref=1),
    # id, to, deadline_ms, body
    REQUEST: Shape((int, int, str, int, bytes), ref=1, blob=(4, BODY_BYTES_MAX)),
    # id, code ("" is success), body
    RESPONSE: Shape((int, int, str, bytes), blob=(3, BODY_BYTES_MAX)),
    # code, text
    BYE: Shape((int, str, str)),
}

FROM_HUB: Final[dict[int, Shape]] = {
    # version, address, session, generation, time_ms, kept [seq…], limits {}
    WELCOME: Shape((int, int, str, int, int, int, list, dict)),
    # first n, first seq, count
    OK: Shape((int, int, int, int)),
    # verb, ref, code, text
    ERROR: Shape((int, int, int, str, str)),
    # lease, attempt, seq, from, to, kind, time_ms, options, body
    DELIVER: Shape((int, int, int, int, str, str, int, int, (dict, _NONE), bytes)),
    # seq, attempt, data
    PROGRESS: Shape((int, int, int, bytes)),
    # seq, attempt, state, report, output
    RESULT: Shape((int, int, int, str, dict, bytes)),
    # seq, lease, why
    CANCEL: Shape((int, int, int, str)),
    # token
    PONG: Shape((int, int)),
    # id, result
    REPLY: Shape((int, int, dict)),
    # id, from, deadline_ms, body
    REQUEST: Shape((int, int, str, int, bytes)),
    # id, body
    RESPONSE: Shape((int, int, bytes)),
    # name, data
    EVENT: Shape((int, str, dict)),
    # code, text
    BYE: Shape((int, str, str)),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that was not taken, and what its sender is told."""

    verb: int
    ref: int
    error: PeerError


class Decoder:
    """Decode frames that come from one direction. Holds no state between frames."""

    def __init__(self, shapes: dict[int, Shape]) -> None:
        self._shapes = shapes
        self._length = {verb: len(shape.fields) for verb, shape in shapes.items()}
        self._accepted = {verb: frozenset(_choices(shape)) for verb, shape in shapes.items()}
        self._ints = {
            verb: tuple(i for i, field in enumerate(shape.fields) if i and _may_be_int(field))
            for verb, shape in shapes.items()
        }
        self._blobs = {verb: shape.blob for verb, shape in shapes.items() if shape.blob[0]}

    def decode(self, frame: bytes) -> tuple[list[Record], list[Fault]]:
        """Return the records of `frame` that can be acted on, and a fault for each that can't.

        Raises:
            TooLarge: if the frame, or its number of records, is above the limit; nothing of it is taken.
            Malformed: if it is not one array of arrays; nothing of it is taken.
        """
        if len(frame) > FRAME_BYTES_MAX:
            raise TooLarge(f"frame is {len(frame)} bytes; the limit is {FRAME_BYTES_MAX}")
        try:
            batch = msgpack.unpackb(
                frame,
                raw=False,
                strict_map_key=True,
                max_bin_len=FRAME_BYTES_MAX,
                max_str_len=4 * TEXT_CHARS_MAX,
                max_array_len=LIST_ITEMS_MAX,
                max_map_len=LIST_ITEMS_MAX,
                max_ext_len=0,
            )
        except (ValueError, TypeError, RecursionError, OverflowError) as exc:
            raise Malformed(f"frame is not one msgpack value within the limits: {type(exc).__name__}") from exc
        if type(batch) is not list:
            raise Malformed("frame is not an array of records")
        if len(batch) > BATCH_RECORDS_MAX:
            raise TooLarge(f"batch has {len(batch)} records; the limit is {BATCH_RECORDS_MAX}")
        records: list[Record] = []
        faults: list[Fault] = []
        for record in batch:
            if type(record) is not list or not record:
                raise Malformed("a record is not an array that begins with a verb")
            fault = self._fault_of(record)
            if fault is None:
                records.append(record)
            else:
                faults.append(fault)
        return records, faults

    def _fault_of(self, record: Record) -> Fault | None:
        verb = record[0]
        if type(verb) is not int or verb not in self._length:
            shown = verb if type(verb) is int else f"of type {type(verb).__name__}"  # a deep list has no repr
            return Fault(0, 0, UnknownVerb(f"verb {shown} is not known"))
        length = self._length[verb]
        if len(record) != length:
            del record[length:]
        if tuple(map(type, record)) not in self._accepted[verb]:
            return Fault(
                verb, self._ref_of(record), Malformed(f"{VERBS[verb]} does not have the fields it should have")
            )
        for place in self._ints[verb]:
            value = record[place]
            if value is not None and not 0 <= value <= INT_MAX:
                error = Malformed(f"{VERBS[verb]} has the integer {value} in field {place}; it must be 0 to 2^63-1")
                return Fault(verb, self._ref_of(record), error)
        blob = self._blobs.get(verb)
        if blob is not None and len(record[blob[0]]) > blob[1]:
            error_large = TooLarge(f"body is {len(record[blob[0]])} bytes; the limit is {blob[1]}")
            return Fault(verb, self._ref_of(record), error_large)
        return None

    def _ref_of(self, record: Record) -> int:
        place = self._shapes[record[0]].ref
        ref = record[place] if 0 < place < len(record) else 0
        return ref if type(ref) is int and 0 <= ref <= INT_MAX else 0


def _may_be_int(field: type | tuple[type, ...]) -> bool:
    return field is int or (isinstance(field, tuple) and int in field)


def _choices(shape: Shape) -> Iterator[tuple[type, ...]]:
    """Give each tuple of types that a record of this shape may have."""
    found: list[tuple[type, ...]] = [()]
    for field in shape.fields:
        options = field if isinstance(field, tuple) else (field,)
        found = [(*head, option) for head in found for option in options]
    yield from found


pack: Final[Callable[[Any], bytes]] = msgpack.Packer(use_bin_type=True, autoreset=True).pack
"""Encode one batch, or anything else that msgpack can hold, as bytes. Not safe across threads."""


def encode(records: Sequence[Record]) -> Iterator[bytes]:
    """Give the frames that carry `records` in their order, none of them above the limits of a batch."""
    if len(records) == 1:
        yield pack(records)
        return
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += weight(record)
        if size >= BATCH_BYTES or len(batch) >= BATCH_RECORDS_MAX:
            yield pack(batch)
            batch, size = [], 0
    if batch:
        yield pack(batch)


_BLOB_AT: Final = {SEND: 4, DELIVER: 9, PROGRESS: 3, REQUEST: 4}


def weight(record: Record) -> int:
    """Estimate the bytes of a record from its body; exact enough to close a batch by."""
    place = _BLOB_AT.get(record[0])
    if place is not None:
        size = 100 + len(record[place])
        if place == 9 and record[8] is not None:
            size += len(record[8].get("checkpoint", b""))
        return size
    verb = record[0]
    if verb in (RESULT, RESPONSE):
        return REPORT_BYTES_MAX // 4 + len(record[-1])  # most reports are small; a batch of large ones still is a frame
    if verb == REPLY:
        return BATCH_BYTES  # of any size: it rides last in its batch
    return 100
