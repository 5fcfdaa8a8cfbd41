from __future__ import annotations

import asyncio

from orchestra.agents.progress import Progress

KIB = 1024
BOUND_S = 5.0


def _told(*rounds: list[bytes]) -> list[bytes]:
    """Return what is passed on when each round of pieces is printed at once and flushed."""
    told: list[bytes] = []

    async def scenario() -> None:
        progress = Progress(told.append)
        for pieces in rounds:
            for piece in pieces:
                progress.add(piece)
            progress.flush()

    asyncio.run(scenario())
    return told


def test_what_is_printed_together_travels_together() -> None:
    assert _told([b"a", b"b", b"c\n"]) == [b"abc\n"]


def test_each_flush_passes_on_what_came_since_the_last() -> None:
    assert _told([b"one"], [b"two"], []) == [b"one", b"two"]


def test_nothing_printed_is_nothing_told() -> None:
    assert _told([], [b""]) == []


def test_a_task_that_prints_too_fast_shows_its_newest_output_and_how_much_is_not_shown() -> None:
    (told,) = _told([b"x" * 64 * KIB, b"y" * 64 * KIB, b"z" * 10])
    note, _, shown = told.partition(b"\n")
    assert note == b"[... %d bytes are not shown ...]" % (64 * KIB + 10)
    assert shown == b"y" * (64 * KIB - 10) + b"z" * 10


def test_what_was_skipped_is_told_once() -> None:
    first, second = _told([b"x" * 65 * KIB], [b"next"])
    assert b"not shown" in first
    assert second == b"next"


def test_what_is_printed_is_passed_on_without_a_flush() -> None:
    async def scenario() -> bytes:
        told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        progress = Progress(told.set_result)
        progress.add(b"soon")
        return await asyncio.wait_for(told, BOUND_S)

    assert asyncio.run(scenario()) == b"soon"


def test_after_a_flush_no_timer_is_left() -> None:
    calls: list[bytes] = []

    async def scenario() -> None:
        progress = Progress(calls.append)
        progress.add(b"x")
        progress.flush()
        later: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, later.set_result, None)
        await later

    asyncio.run(scenario())
    assert calls == [b"x"]
