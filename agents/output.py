"""The output of one task: bounded in memory and in its result, whole in a file where it is long."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final

from orchestra.limits import KIB, MIB, OUTPUT_BYTES_MAX

HEAD_BYTES: Final = 64 * KIB
_NOTE_BYTES: Final = 1 * KIB
TAIL_BYTES: Final = OUTPUT_BYTES_MAX - HEAD_BYTES - _NOTE_BYTES
SPOOL_BYTES_MAX: Final = 1024 * MIB  # a task that prints for ever must not fill the disk


class Output:
    """Collects what a task prints. Makes `spool` only when the output outgrows a result."""

    def __init__(self, spool: Path) -> None:
        self.bytes = 0
        self._spool = spool
        self._file: IO[bytes] | None = None
        self._head = bytearray()
        self._tail = bytearray()

    @property
    def is_cut(self) -> bool:
        return self.bytes > OUTPUT_BYTES_MAX

    @property
    def file(self) -> Path | None:
        """Where the whole output is, if it is not all in `result`."""
        return self._spool if self._file is not None else None

    def add(self, data: bytes) -> None:
        """Take in what was printed next.

        Raises:
            OSError: if the spool file can't be written.
        """
        self.bytes += len(data)
        if self.is_cut:
            self._keep_whole(data)
        room = max(0, HEAD_BYTES - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        # Not cut yet: head and tail together are the whole output. Afterwards only the end is needed.
        if self.is_cut and len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def result(self) -> bytes:
        """Return the output, or its head and its tail with a line between them that says what is missing."""
        if not self.is_cut:
            return bytes(self._head + self._tail)
        tail = self._tail[-TAIL_BYTES:]
        missing = self.bytes - len(self._head) - len(tail)
        where = f"; the whole output is in {self._spool} on the agent's machine" if self._file else ""
        note = f"\n[... {missing} bytes are cut here{where} ...]\n".encode()
        return bytes(self._head) + note[:_NOTE_BYTES] + bytes(tail)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _keep_whole(self, data: bytes) -> None:
        if self._file is None:
            self._spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self._spool.open("wb")
            self._file.write(self._head)
            self._file.write(self._tail)
        room = SPOOL_BYTES_MAX - self._file.tell()
        if room > 0:
            self._file.write(data[:room])
        self._file.flush()  # the result that names it is told before the file is closed, if it ever is
