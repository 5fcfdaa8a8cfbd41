"""The wire: what goes in comes out, and garbage raises only our errors."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import wire
from orchestra.errors import Malformed, TooLarge
from orchestra.limits import (
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
from orchestra.wire import FROM_HUB, FROM_PEER, INT_MAX, VERBS, Decoder, Record, Shape, encode, pack

from_peer = Decoder(FROM_PEER).decode
from_hub = Decoder(FROM_HUB).decode

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | st.binary()
)
VALUES = st.recursive(
    SCALARS,
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4),
    max_leaves=12,
)
FIELDS: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(0, INT_MAX),
    str: st.text(max_size=40),
    bytes: st.binary(max_size=200),
    list: st.lists(VALUES, max_size=4),
    dict: st.dictionaries(st.text(max_size=8), VALUES, max_size=4),
    type(None): st.none(),
}


def _field(kind: type | tuple[type, ...]) -> st.SearchStrategy[Any]:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return st.one_of(*(FIELDS[each] for each in kinds))


def _record(verb: int, shape: Shape) -> st.SearchStrategy[Record]:
    return st.tuples(st.just(verb), *(_field(kind) for kind in shape.fields[1:])).map(list)


def _records(shapes: dict[int, Shape]) -> st.SearchStrategy[Record]:
    return st.one_of(*(_record(verb, shape) for verb, shape in shapes.items()))


def _same(one: Any, other: Any) -> bool:
    return bool(pack(one) == pack(other))  # NaN is not equal to itself


# What goes in comes out.


@pytest.mark.parametrize("verb", FROM_PEER, ids=VERBS.get)
@given(data=st.data())
def test_every_verb_of_a_peer_comes_out_as_it_went_in(verb: int, data: st.DataObject) -> None:
    record = data.draw(_record(verb, FROM_PEER[verb]))
    records, faults = from_peer(pack([record]))
    assert _same(records, [record])
    assert faults == []


@pytest.mark.parametrize("verb", FROM_HUB, ids=VERBS.get)
@given(data=st.data())
def test_every_verb_of_the_hub_comes_out_as_it_went_in(verb: int, data: st.DataObject) -> None:
    record = data.draw(_record(verb, FROM_HUB[verb]))
    records, faults = from_hub(pack([record]))
    assert _same(records, [record])
    assert faults == []


@given(st.lists(_records(FROM_PEER), max_size=30))
def test_a_batch_keeps_its_order_through_encode_and_decode(batch: list[Record]) -> None:
    assert _same([record for frame in encode(batch) for record in from_peer(frame)[0]], batch)


@given(_records(FROM_PEER), st.lists(VALUES, min_size=1, max_size=3))
def test_fields_that_a_later_version_adds_are_ignored(record: Record, more: list[Any]) -> None:
    records, faults = from_peer(pack([[*record, *more]]))
    assert _same(records, [record])
    assert faults == []


def test_verbs_have_numbers_of_their_own_and_a_shape() -> None:
    numbers = [value for name, value in vars(wire).items() if name.isupper() and type(value) is int and value in VERBS]
    assert set(VERBS) == FROM_PEER.keys() | FROM_HUB.keys() == set(range(1, 21))
    assert len([each for each in numbers if each > 1]) >= 19
    assert {name: getattr(wire, name) for name in VERBS.values()} == {name: verb for verb, name in VERBS.items()}


# Garbage.


@given(st.binary(max_size=300))
def test_random_bytes_raise_only_our_errors(frame: bytes) -> None:
    _decode_or_refuse(frame)


@given(VALUES)
def test_any_msgpack_value_raises_only_our_errors(value: Any) -> None:
    _decode_or_refuse(msgpack.packb(value))


@given(st.lists(st.lists(VALUES, max_size=8), max_size=5))
def test_any_batch_of_arrays_gives_records_or_faults(batch: list[list[Any]]) -> None:
    _decode_or_refuse(msgpack.packb(batch))


@given(_records(FROM_PEER), st.data())
def test_a_mutated_frame_raises_only_our_errors(record: Record, data: st.DataObject) -> None:
    frame = bytearray(pack([record]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(frame) - 1))
        frame[place] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(frame))


@given(st.lists(_records(FROM_PEER), min_size=1, max_size=3), st.data())
def test_a_truncated_frame_is_malformed_as_a_whole(batch: list[Record], data: st.DataObject) -> None:
    frame = pack(batch)
    with pytest.raises(Malformed):
        from_peer(frame[: data.draw(st.integers(0, len(frame) - 1))])


@given(_records(FROM_PEER), st.binary(min_size=1, max_size=9))
def test_bytes_behind_the_batch_are_malformed(record: Record, more: bytes) -> None:
    with pytest.raises(Malformed):
        from_peer(pack([record]) + more)


@given(_records(FROM_PEER), st.data())
def test_a_field_of_a_wrong_type_is_a_fault_with_the_verb(record: Record, data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(record) - 1))
    wanted = FROM_PEER[record[0]].fields[place]
    wrong = data.draw(
        VALUES.filter(lambda value: type(value) not in (wanted if isinstance(wanted, tuple) else (wanted,)))
    )
    records, (fault,) = from_peer(pack([[*record[:place], wrong, *record[place + 1 :]]]))
    assert records == []
    assert (fault.verb, type(fault.error)) == (record[0], Malformed)
    assert 0 <= fault.ref <= INT_MAX


def _decode_or_refuse(frame: bytes) -> None:
    for decode, shapes in ((from_peer, FROM_PEER), (from_hub, FROM_HUB)):
        try:
            records, faults = decode(frame)
            sentences = [str(fault.error) for fault in faults]
        except (Malformed, TooLarge) as error:
            records, sentences = [], [str(error)]
        for record in records:
            assert len(record) == len(shapes[record[0]].fields)
        for sentence in sentences:
            assert len(sentence) < 300
            assert sentence.isprintable()


@pytest.mark.parametrize(
    "frame", [b"", b"\x90\x90", pack({}), pack(None), pack("x"), pack(7), pack({1: 2}), pack(b"x")]
)
def test_what_is_no_array_is_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        from_peer(frame)


@pytest.mark.parametrize("record", [7, None, "x", {}, [], b"\x0d\x01"])
def test_a_batch_with_something_that_is_no_record_is_malformed_as_a_whole(record: Any) -> None:
    with pytest.raises(Malformed):
        from_peer(pack([[wire.PING, 1], record, [wire.PING, 2]]))


def test_an_empty_batch_says_nothing() -> None:
    assert from_peer(pack([])) == ([], [])


@pytest.mark.parametrize("verb", [0, 21, -1, 2**63, wire.OK, wire.WELCOME, "SEND", None, 3.0, True, b"\x03", [3], {}])
def test_an_unknown_verb_is_a_fault_and_its_neighbours_are_taken(verb: Any) -> None:
    records, (fault,) = from_peer(pack([[wire.PING, 1], [verb, 1], [wire.PING, 2]]))
    assert records == [[wire.PING, 1], [wire.PING, 2]]
    assert (fault.verb, fault.ref, fault.error.code) == (0, 0, "unknown_verb")


@pytest.mark.parametrize("depth", [100, 500, 900, 1000, 1020, 2000, 100_000])
@pytest.mark.parametrize("before", [b"\x91\x91", b"\x91\x92\x0d", b"\x91\x94\x0f\x01\xa1x\x81\xa1k"])
def test_nesting_of_any_depth_is_refused_and_never_an_error_of_python(before: bytes, depth: int) -> None:
    frame = before + b"\x91" * depth + b"\xc0"
    try:
        records, faults = from_peer(frame)
    except Malformed:
        return
    assert len(records) + len(faults) == 1
    assert records == [] or records[0][0] == wire.CALL


@pytest.mark.parametrize("value", [-1, -(2**63), 2**63, 2**64 - 1])
@pytest.mark.parametrize("verb", FROM_PEER, ids=VERBS.get)
def test_integers_that_the_database_cannot_hold_are_faults(verb: int, value: int) -> None:
    example: dict[Any, Any] = {int: 1, str: "x", bytes: b"12345678", list: [], dict: {}}
    good = [verb, *(example[kind[0] if isinstance(kind, tuple) else kind] for kind in FROM_PEER[verb].fields[1:])]
    assert from_peer(pack([good])) == ([good], [])
    for place, kind in enumerate(FROM_PEER[verb].fields):
        if place and (kind is int or (isinstance(kind, tuple) and int in kind)):
            records, (fault,) = from_peer(pack([[*good[:place], value, *good[place + 1 :]]]))
            assert records == []
            assert (fault.verb, fault.error.code) == (verb, "malformed")


@pytest.mark.parametrize(
    ("record", "limit"),
    [
        ([wire.SEND, 77, "agent/a", 0, b"", None], BODY_BYTES_MAX),
        ([wire.REQUEST, 77, "agent/a", 1, b""], BODY_BYTES_MAX),
        ([wire.RESULT, 77, 1, 1, "completed", {}, b""], OUTPUT_BYTES_MAX),
    ],
)
def test_a_body_above_its_limit_is_a_fault_with_the_number_of_the_send(record: Record, limit: int) -> None:
    place = FROM_PEER[record[0]].blob[0]
    largest = [*record]
    largest[place] = bytes(limit)
    records, faults = from_peer(pack([largest]))
    assert (len(records), faults) == (1, [])
    largest[place] = bytes(limit + 1)
    records, (fault,) = from_peer(pack([largest, [wire.PING, 1]]))
    assert records == [[wire.PING, 1]]
    assert (fault.verb, fault.ref, fault.error.code) == (record[0], 77, "too_large")
    assert str(limit) in str(fault.error)
    assert str(limit + 1) in str(fault.error)


@pytest.mark.parametrize(("verb", "limit"), [(wire.PROGRESS, PROGRESS_BYTES_MAX), (wire.RESPONSE, BODY_BYTES_MAX)])
def test_other_blobs_are_bounded_too(verb: int, limit: int) -> None:
    head: list[Any] = [verb, 1, 1] if verb == wire.PROGRESS else [verb, 1, ""]
    assert from_peer(pack([[*head, bytes(limit)]]))[1] == []
    assert from_peer(pack([[*head, bytes(limit + 1)]]))[1][0].error.code == "too_large"


def test_a_giant_frame_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(TooLarge, match=str(FRAME_BYTES_MAX)):
        from_peer(bytes(FRAME_BYTES_MAX + 1))


def test_too_many_records_are_refused_as_a_whole() -> None:
    assert len(from_peer(pack([[wire.PING, 1]] * BATCH_RECORDS_MAX))[0]) == BATCH_RECORDS_MAX
    with pytest.raises(TooLarge, match=str(BATCH_RECORDS_MAX)):
        from_peer(pack([[wire.PING, 1]] * (BATCH_RECORDS_MAX + 1)))


@pytest.mark.parametrize(
    "frame",
    [
        pack([[wire.ACK, [1] * (LIST_ITEMS_MAX + 1)]]),
        pack([[wire.CALL, 1, "x", {str(i): 1 for i in range(LIST_ITEMS_MAX + 1)}]]),
        pack([[wire.CALL, 1, "x" * (4 * TEXT_CHARS_MAX + 1), {}]]),
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\x91\xdb\xff\xff\xff\xff",  # a text of four gigabytes
        b"\x91\xc6\xff\xff\xff\xff",  # bytes
        b"\x91\xc9\xff\xff\xff\xff\x01",  # an extension
        b"\x91\x92\x0d\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x91\x94\x0f\x01\xa1x\x81\x01\x02",  # a map with a key that is a number
        b"\x91\x94\x0f\x01\xa1x\x81\x90\x02",  # or an array
        b"\x91\x93\x14\xa1\xff\xa0",  # a text that is not UTF-8
        b"\xc1",  # a byte that msgpack never uses
    ],
)
def test_what_msgpack_can_say_and_a_record_cannot_is_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        from_peer(frame)


# Encoding.


@pytest.mark.parametrize(
    "record",
    [
        [wire.SEND, 1, "agent/" + "a" * 64, 0, bytes(BODY_BYTES_MAX), {"priority": "urgent"}],
        [wire.SEND, 1, "agent/a", 0, bytes(1000), None],
        [wire.SEND, 1, "agent/a", 0, b"", None],
        [wire.DELIVER, 1, 1, 1, "agent/" + "a" * 64, "agent/" + "b" * 64, 0, 1, {"priority": "urgent"}, bytes(250_000)],
        [wire.PROGRESS, 1, 1, bytes(PROGRESS_BYTES_MAX)],
        [wire.RESULT, 1, 1, "completed", {"text": "x" * (REPORT_BYTES_MAX - 20)}, b""],
        [wire.RESULT, 1, 1, "completed", {"text": "x" * (REPORT_BYTES_MAX - 20)}, bytes(OUTPUT_BYTES_MAX)],
        [wire.REQUEST, 1, "agent/a", 1, bytes(BODY_BYTES_MAX)],
        [wire.RESPONSE, 1, bytes(BODY_BYTES_MAX)],
        [wire.ERROR, 3, 1, "unknown_recipient", "x" * 1000],
        [
            wire.EVENT,
            "task",
            {"seq": 2**62, "state": "working", "attempt": 9, "agent": "agent/" + "a" * 64, "updated_ms": 1},
        ],
        [wire.PING, INT_MAX],
    ],
    ids=lambda record: f"{VERBS[record[0]]}-{len(pack(record))}",
)
def test_no_batch_is_above_a_limit_however_many_records_there_are(record: Record) -> None:
    count = min(3000, 12_000_000 // len(pack(record)))
    batch = [record] * count
    found = 0
    for frame in encode(batch):
        assert len(frame) <= FRAME_BYTES_MAX
        records = msgpack.unpackb(frame, strict_map_key=False, max_bin_len=FRAME_BYTES_MAX)
        assert len(records) <= BATCH_RECORDS_MAX
        found += len(records)
    assert found == count


def test_the_largest_body_fits_behind_a_batch_that_is_nearly_full() -> None:
    small = [wire.SEND, 1, "agent/a", 0, bytes(BATCH_BYTES - 200), None]
    large = [wire.SEND, 2, "agent/a", 0, bytes(BODY_BYTES_MAX), None]
    (frame,) = encode([small, large])
    assert [record[1] for record in from_peer(frame)[0]] == [1, 2]


def test_a_reply_of_the_largest_size_fits_behind_a_batch_that_is_nearly_full() -> None:
    small = [wire.DELIVER, 1, 1, 1, "agent/a", "agent/b", 0, 1, None, bytes(BATCH_BYTES - 200)]
    for frame in encode([small, [wire.REPLY, 1, {"body": bytes(BODY_BYTES_MAX)}], [wire.REPLY, 2, {}]]):
        assert len(frame) <= FRAME_BYTES_MAX


def test_nothing_to_say_is_no_frame() -> None:
    assert list(encode([])) == []
