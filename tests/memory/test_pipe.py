from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from orchestra.errors import IndexFault
from orchestra.limits import INDEX_FRAME_BYTES_MAX
from orchestra.memory import pipe

LATER = 30.0


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    for each in (read, write):
        os.set_blocking(each, False)
    yield read, write
    os.close(read)


def test_frames_come_as_they_were_sent(ends: tuple[int, int]) -> None:
    read, write = ends
    reader, deadline = pipe.Reader(read), time.monotonic() + LATER
    for value in (["open"], [True, {"a": b"\0\xff"}], {7: 1.5}):
        pipe.send(write, value, deadline=deadline)
    assert [reader.receive(deadline=deadline) for _ in range(3)] == [["open"], [True, {"a": b"\0\xff"}], {7: 1.5}]
    os.close(write)
    with pytest.raises(EOFError):
        reader.receive(deadline=deadline)


def test_what_came_of_a_frame_before_the_deadline_is_kept_and_what_is_there_is_taken_after_it(
    ends: tuple[int, int],
) -> None:
    read, write = ends
    reader, whole = pipe.Reader(read), pipe.packed("a text")
    for part in (whole[:2], whole[2:5]):
        os.write(write, part)
        with pytest.raises(TimeoutError):
            reader.receive(deadline=0.0)
    os.write(write, whole[5:] + whole)
    os.close(write)
    assert [reader.receive(deadline=0.0) for _ in range(2)] == ["a text", "a text"]


def test_a_reader_that_takes_nothing_does_not_hold_up_who_writes(ends: tuple[int, int]) -> None:
    with pytest.raises(TimeoutError):
        pipe.send(ends[1], b"x" * 1_000_000, deadline=time.monotonic() + 0.01)
    os.close(ends[1])


@pytest.mark.parametrize("garbage", [(INDEX_FRAME_BYTES_MAX + 1).to_bytes(4, "little"), b"\x01\0\0\0\xc1"])
def test_what_is_no_frame_is_a_fault(ends: tuple[int, int], garbage: bytes) -> None:
    os.write(ends[1], garbage)
    os.close(ends[1])
    with pytest.raises(IndexFault):
        pipe.Reader(ends[0]).receive(deadline=time.monotonic() + LATER)
