"""A database that can't be written, or not even opened."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from orchestra import aio

from .mounts import with_read_only
from .programs import HUB, Place

BODIES = [b"one", b"two", b"three"]


@pytest.mark.parametrize(("what", "code"), [("hub.db", 75), (".", 5)], ids=["the file", "the folder"])
def test_a_hub_that_cannot_write_says_why_and_changes_nothing(place: Place, what: str, code: int) -> None:
    asyncio.run(_store(place))
    before = _fingerprint(place.state)

    program, *options = with_read_only(place.state / what, [*HUB, "--port", "0"])
    sentence = place.run(*options, program=[program]).assert_is_one_sentence(code)
    assert str(place.state) in sentence
    assert "can't be written" in sentence

    assert _fingerprint(place.state) == before
    assert asyncio.run(_stored(place)) == BODIES


async def _store(place: Place) -> None:
    hub = place.hub()
    async with aio.connect(state=place.state) as client:
        for body in BODIES:
            await client.send(client.address, body)
    hub.kill()  # so that its last commits are in the WAL alone


async def _stored(place: Place) -> list[bytes]:
    place.hub()
    async with aio.connect(state=place.state) as client:
        return [message.body for message in await client.inbox()]


def _fingerprint(state: Path) -> dict[str, str]:
    """Return what is in the database's files, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(state.glob("hub.db*"))}
