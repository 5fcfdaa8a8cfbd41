"""Frames of msgpack over pipes and sockets: four bytes of length, then one value; deadlines that hold."""

from __future__ import annotations

import os
import select
import time
from typing import Any

import msgpack

from orchestra.errors import IndexFault
from orchestra.limits import INDEX_FRAME_BYTES_MAX

_CHUNK = 1 << 16


def packed(value: Any) -> bytes:
    body = msgpack.packb(value)
    return len(body).to_bytes(4, "little") + bytes(body)


def send(descriptor: int, value: Any, *, deadline: float) -> None:
    """Write one frame to a descriptor that does not block, by a time of the steady clock.

    Raises:
        TimeoutError: if it was not taken in time.
        OSError: if nobody reads.
    """
    rest = memoryview(packed(value))
    while rest:
        _wait(descriptor, select.POLLOUT, deadline)
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            continue


def receive(descriptor: int, *, deadline: float) -> Any:
    """Read one frame from a descriptor that does not block, by a time of the steady clock.

    Raises:
        TimeoutError: if it did not come in time.
        EOFError: if the other side is gone.
        IndexFault: if it is no frame.
    """
    size = int.from_bytes(_exactly(descriptor, 4, deadline), "little")
    if size > INDEX_FRAME_BYTES_MAX:
        raise IndexFault(f"a frame of {size} bytes; the limit is {INDEX_FRAME_BYTES_MAX}")
    try:
        return msgpack.unpackb(_exactly(descriptor, size, deadline), strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as exc:
        raise IndexFault("a frame that is none") from exc


def _exactly(descriptor: int, size: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < size:
        _wait(descriptor, select.POLLIN, deadline)
        try:
            chunk = os.read(descriptor, min(_CHUNK, size - len(found)))
        except BlockingIOError:
            continue
        if not chunk:
            raise EOFError
        found += chunk
    return bytes(found)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left_ms = (deadline - time.monotonic()) * 1000
    if left_ms < 0 or not poll.poll(left_ms):
        raise TimeoutError
