"""A clone writes messages while its process and the hub are killed again and again: each comes, and comes once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from orchestra.matrix import letters, link
from orchestra.matrix.identity import Matrix, matrix_of
from orchestra.matrix.meeting import Met
from orchestra.memory.store import Store

from .programs import BOUND_S, PYTHON, Place, free_port

KILLS = 10  # of the writer; of the hub half as many

WRITER = """
import asyncio, sys, time
from pathlib import Path
from orchestra.errors import ConnectionFault
from orchestra.matrix import letters, link, unsent
from orchestra.matrix.identity import matrix_of
from orchestra.memory.store import Store

memory, life = Path(sys.argv[1]), sys.argv[2]

async def nothing(client, met):
    return met

with Store(memory) as store:
    for number in range(1_000_000):
        text, now_ms = f"{life}-{number}", time.time_ns() // 1_000_000
        me = matrix_of(memory)
        entry = letters.written(text, sender=str(me.address), to="matrix/api", project="web", now_ms=now_ms)
        unsent.add(store, entry, now_ms=now_ms)
        print(text, flush=True)
        try:
            asyncio.run(link.meet(memory, me, project="web", then=nothing))
        except ConnectionFault:
            pass
"""


@pytest.fixture
def place(place: Place) -> Place:
    """A place with two clones."""
    for name in ("web", "api"):
        (place.folder / name / ".git").mkdir(parents=True)
    return place


def test_every_message_that_was_kept_comes_once(place: Place) -> None:
    port = free_port()
    hub = place.hub(port=port)
    web, api = (place.folder / name / ".orchestra" / "memory.db" for name in ("web", "api"))
    for name in ("web", "api"):
        assert place.run("memory", "message", "--outbox", folder=place.folder / name).code == 1
    kept: list[str] = []
    for life in range(KILLS):
        writer = place.start((*PYTHON, "-c", WRITER, str(web), str(life)))
        writer.wait_output(f"{life}-{2 + life % 4}\n")
        if life % 2:
            hub.kill()
            writer.wait_output(f"{life}-{4 + life % 4}\n")
        writer.kill()
        if life % 2:
            hub = place.hub(port=port)
        kept += writer.stdout.split("\n")[:-1]
    for memory in (web, api):
        asyncio.run(_meet(memory, matrix_of(memory, state=place.state)))
    with Store(api) as store:
        found = Counter(letters.text_of(each) for each in letters.inbox(store, me="matrix/api", limit=100_000))
    assert len(kept) >= 3 * KILLS
    assert set(kept) <= set(found), "what was said to be kept has come"
    assert set(found.values()) == {1}


async def _meet(memory: Path, matrix: Matrix) -> None:
    async def nothing(client: object, met: Met) -> None:
        assert not met.refused

    await link.meet(memory, matrix, project="x", then=nothing, within_s=BOUND_S)
