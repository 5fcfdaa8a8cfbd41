"""The desk: the socket where the programs of tasks ask and leave checkpoints."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestra.agents.desk import Desk
from orchestra.errors import StaleLease
from orchestra.limits import CHECKPOINT_BYTES_MAX


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _at_desk(
    scenario: Callable[[Desk, list[Any]], Awaitable[None]], path: Path = Path("s/desks/agent-w.sock")
) -> list[Any]:
    said: list[Any] = []

    async def ask(task: int, attempt: int, question: str) -> str:
        said.append((task, attempt, question))
        if question == "never":
            try:
                await asyncio.Event().wait()
            finally:
                said.append("gone")
        if question == "stale":
            raise StaleLease("no longer")
        return question.upper()

    async def save(task: int, attempt: int, data: bytes) -> None:
        said.append((task, attempt, data))

    async def run() -> None:
        desk = Desk(path, ask=ask, save=save)
        await desk.open()
        try:
            async with asyncio.timeout(20):
                await scenario(desk, said)
        finally:
            await desk.close()
        assert not desk.path.exists()

    asyncio.run(run())
    return said


pytestmark = pytest.mark.usefixtures("_folder")


async def _say(desk: Desk, line: bytes) -> Any:
    reader, writer = await asyncio.open_unix_connection(str(desk.path), limit=2**20)
    writer.write(line + b"\n")
    answer = await reader.readline()
    writer.close()
    return json.loads(answer)


async def _until(look: Callable[[], bool]) -> None:
    while not look():  # noqa: ASYNC110  (what happens tells nobody; `_at_desk` bounds the wait)
        await asyncio.sleep(0)


def test_a_program_gets_its_answer() -> None:
    async def scenario(desk: Desk, said: list[Any]) -> None:
        assert await _say(desk, b'{"task": 7, "attempt": 2, "ask": "what"}') == {"answer": "WHAT"}
        assert said == [(7, 2, "what")]
        assert stat.S_IMODE(desk.path.parent.stat().st_mode) == 0o700

    _at_desk(scenario)


def test_a_checkpoint_of_any_bytes_comes_through() -> None:
    data = bytes(range(256)) * (CHECKPOINT_BYTES_MAX // 256)

    async def scenario(desk: Desk, said: list[Any]) -> None:
        line = json.dumps({"task": 7, "attempt": 1, "checkpoint": base64.b64encode(data).decode()})
        assert await _say(desk, line.encode()) == {}
        assert said == [(7, 1, data)]

    _at_desk(scenario)


def test_an_error_is_told_with_its_code() -> None:
    async def scenario(desk: Desk, said: list[Any]) -> None:
        told = await _say(desk, b'{"task": 7, "attempt": 1, "ask": "stale"}')
        assert told == {"error": "stale_lease", "text": "no longer"}

    _at_desk(scenario)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"x", b"[]", b"1", b"{}", b'{"task": 1}', b'{"task": "x", "attempt": 1, "ask": ""}',
        b'{"task": 1, "attempt": 1, "checkpoint": "?"}', b'{"task": 1, "attempt": 1, "checkpoint": 1}',
        b"[" * 10_000, b"\xff", b"x" * 10**6,
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_is_a_bad_option_and_the_desk_goes_on(line: bytes) -> None:
    async def scenario(desk: Desk, said: list[Any]) -> None:
        assert (await _say(desk, line))["error"] == "bad_option"
        assert await _say(desk, b'{"task": 7, "attempt": 1, "ask": "x"}') == {"answer": "X"}

    _at_desk(scenario)


def test_a_program_that_leaves_takes_its_question_with_it() -> None:
    async def scenario(desk: Desk, said: list[Any]) -> None:
        _, writer = await asyncio.open_unix_connection(str(desk.path))
        writer.write(b'{"task": 7, "attempt": 1, "ask": "never"}\n')
        await _until(lambda: bool(said))
        writer.close()
        await _until(lambda: said[-1] == "gone")

    _at_desk(scenario)


def test_a_desk_that_closes_leaves_nobody_waiting() -> None:
    async def scenario(desk: Desk, said: list[Any]) -> None:
        reader, writer = await asyncio.open_unix_connection(str(desk.path))
        writer.write(b'{"task": 7, "attempt": 1, "ask": "never"}\n')
        await _until(lambda: bool(said))
        await desk.close()
        assert await reader.read() == b""
        writer.close()

    assert _at_desk(scenario)[-1] == "gone"


def test_a_path_that_is_too_long_for_a_socket_is_no_trouble(tmp_path: Path) -> None:
    async def scenario(desk: Desk, said: list[Any]) -> None:
        assert str(desk.path).startswith(tempfile.gettempdir())
        assert stat.S_IMODE(desk.path.parent.stat().st_mode) == 0o700
        assert await _say(desk, b'{"task": 7, "attempt": 1, "ask": "x"}') == {"answer": "X"}

    _at_desk(scenario, tmp_path / ("x" * 120) / "desk")


def test_a_desk_takes_the_place_of_one_that_was_killed_and_leaves_that_of_its_successor() -> None:
    async def scenario(desk: Desk, said: list[Any]) -> None:
        async def ask(task: int, attempt: int, question: str) -> str:
            return "the second"

        async def save(task: int, attempt: int, data: bytes) -> None: ...

        second = Desk(desk.path, ask=ask, save=save)
        await second.open()
        await desk.close()
        assert await _say(second, b'{"task": 7, "attempt": 1, "ask": "x"}') == {"answer": "the second"}
        await second.close()

    _at_desk(scenario)
