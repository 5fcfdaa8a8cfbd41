"""The desk: where the programs of an agent's tasks ask questions and leave checkpoints.

A Unix socket that only this user can reach. A program sends one line of JSON and gets one back:

    {"task": 7, "attempt": 1, "ask": "Which branch?"}            → {"answer": "main"}
    {"task": 7, "attempt": 1, "checkpoint": "…base64…"}          → {}
                                                  or, to both    → {"error": "stale_lease", "text": "…"}
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from orchestra.errors import BadOption, OrchestraError
from orchestra.limits import CHECKPOINT_BYTES_MAX, KIB
from orchestra.state import IPC_PATH_BYTES_MAX

_LINE_BYTES_MAX: Final = 2 * CHECKPOINT_BYTES_MAX + 16 * KIB

Ask = Callable[[int, int, str], Awaitable[str]]
Save = Callable[[int, int, bytes], Awaitable[None]]


class Desk:
    """Serves the socket at `path` between `open` and `close`."""

    def __init__(self, path: Path, *, ask: Ask, save: Save) -> None:
        """Args:
        path: where the socket shall be, in a folder that only this user may enter; where it is too long for a socket,
            it is in the system's folder for temporary files.
        ask: is given a task, its attempt and a question, and returns the answer.
        save: is given a task, its attempt and a checkpoint.
        """
        self._ask = ask
        self._save = save
        self.path = path
        self._folder: Path | None = None
        self._inode = 0
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        if len(os.fsencode(self.path.absolute())) > IPC_PATH_BYTES_MAX:
            self._folder = Path(tempfile.mkdtemp(prefix="orchestra-"))  # of mode 0700
            self.path = self._folder / "desk"
        self.path = self.path.absolute()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It takes the place of a socket that an agent of this name left when it was killed.
        self._server = await asyncio.start_unix_server(self._accept, self.path, limit=_LINE_BYTES_MAX)
        self._inode = self.path.stat().st_ino

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:  # or it is that of the agent that replaced this one
                self.path.unlink()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.ensure_future(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                reply = await self._reply(reader)
                if reply is not None:
                    writer.write(json.dumps(reply).encode() + b"\n")
                    await writer.drain()
        finally:
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader) -> dict[str, str] | None:
        """Return what is said to the program, or None where it has gone."""
        try:
            line = await reader.readline()
            if not line:
                return None
            working = asyncio.ensure_future(self._serve(line))
        except ValueError:  # longer than a line may be
            return _fault(BadOption(f"a line may have {_LINE_BYTES_MAX} bytes"))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        except OrchestraError as error:
            return _fault(error)
        finally:
            for each in (working, leaving):
                each.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    async def _serve(self, line: bytes) -> dict[str, str]:
        task, attempt, question, checkpoint = _read(line)
        if checkpoint is not None:
            await self._save(task, attempt, checkpoint)
            return {}
        return {"answer": await self._ask(task, attempt, question)}


def _read(line: bytes) -> tuple[int, int, str, bytes | None]:
    try:
        found: Any = json.loads(line)
        task, attempt = found["task"], found["attempt"]
        if "checkpoint" in found:
            return int(task), int(attempt), "", base64.b64decode(found["checkpoint"], validate=True)
        return int(task), int(attempt), str(found["ask"]), None
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as exc:
        raise BadOption(f"the line is not understood: {type(exc).__name__}") from exc


def _fault(error: OrchestraError) -> dict[str, str]:
    return {"error": error.code, "text": str(error)}
