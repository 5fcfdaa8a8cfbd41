"""Frames of msgpack over pipes and sockets: four bytes of length, then one value; deadlines that hold."""

from __future__ import annotations

import os
import select
import time
from typing import Any, Final

import msgpack

from orchestra.errors import IndexFault
from orchestra.limits import INDEX_FRAME_BYTES_MAX

_CHUNK: Final = 1 << 16
_HEAD: Final = 4


def packed(value: Any) -> bytes:
    body = msgpack.packb(value)
    return len(body).to_bytes(_HEAD, "little") + bytes(body)


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


class Reader:
    """Reads frames from a descriptor that does not block. What came of one before its deadline is kept for later."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = bytearray()

    def receive(self, *, deadline: float) -> Any:
        """Read one frame, by a time of the steady clock.

        Raises:
            TimeoutError: if it did not come in time; it may be asked for again.
            EOFError: if the other side is gone.
            IndexFault: if it is no frame.
        """
        self._fill(_HEAD, deadline)
        size = int.from_bytes(self._held[:_HEAD], "little")
        if size > INDEX_FRAME_BYTES_MAX:
            raise IndexFault(f"a frame of {size} bytes; the limit is {INDEX_FRAME_BYTES_MAX}")
        self._fill(_HEAD + size, deadline)
        body = bytes(self._held[_HEAD : _HEAD + size])
        del self._held[: _HEAD + size]
        try:
            return msgpack.unpackb(body, strict_map_key=False)
        except (ValueError, msgpack.UnpackException) as exc:
            raise IndexFault("a frame that is none") from exc

    def _fill(self, size: int, deadline: float) -> None:
        while len(self._held) < size:
            _wait(self._descriptor, select.POLLIN, deadline)
            try:
                chunk = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                continue
            if not chunk:
                raise EOFError
            self._held += chunk


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, (deadline - time.monotonic()) * 1000)):  # what is there is taken, however late
        raise TimeoutError
