"""Folders that are watched."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from orchestra.agents import watch
from orchestra.agents.watch import Watch

from ..hub.livehub import run, soon


def folders(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.is_dir()]


async def told(watching: Watch, folder: str) -> None:
    """Read on until a folder is given."""
    async with aclosing(watching.changes()) as changes:
        async for names in changes:
            if folder in names:
                return


def test_all_folders_are_given_first_and_then_those_in_which_something_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FILE_SWEEP_S", 3600.0)  # the system alone tells

    async def scenario() -> None:
        for name in ("1", "2"):
            (tmp_path / name).mkdir()
        watching = Watch(tmp_path, folders=lambda: folders(tmp_path))
        async with aclosing(watching.changes()) as changes:
            assert await soon(anext(changes)) == {"1", "2"}
            for write in (
                lambda: (tmp_path / "2" / "a.json").write_text("x"),
                lambda: (tmp_path / "2" / "a.json").write_text("more"),
                lambda: (tmp_path / "2" / ".draft").rename(tmp_path / "2" / "b.json"),
            ):
                (tmp_path / "2" / ".draft").touch()
                write()
                assert await soon(anext(changes)) == {"2"}
            (tmp_path / "3").mkdir()
            assert await soon(anext(changes)) == {"3"}
            (tmp_path / "1" / os.fsdecode(b"\xff.json")).write_text("x")  # which watchfiles gives up at
            assert await soon(anext(changes)) == {"1", "2", "3"}

    run(scenario())


def test_what_no_notification_tells_of_is_found_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FILE_SWEEP_S", 0.02)
    monkeypatch.setattr(watch, "_is_meant", lambda change, path: False)

    async def scenario() -> None:
        watching = Watch(tmp_path, folders=lambda: folders(tmp_path))
        reading = asyncio.ensure_future(told(watching, "1"))
        await asyncio.sleep(0)
        (tmp_path / "1").mkdir()
        await soon(reading)

    run(scenario())


def test_where_the_system_can_not_tell_it_says_so_and_looks_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "_BLIND_S", 0.02)

    async def scenario() -> None:
        watching = Watch(tmp_path / "gone", folders=lambda: folders(tmp_path))
        reading = asyncio.ensure_future(told(watching, "1"))
        await asyncio.sleep(0)
        (tmp_path / "1").mkdir()
        await soon(reading)
        assert "it is looked at every" in caplog.text

    run(scenario())
