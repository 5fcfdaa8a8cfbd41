from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.state import StateFolder

from ..system.programs import Place


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place where `orchestra up` runs, for all the tests of a file: each uses names of its own."""
    place = Place(tmp_path_factory.mktemp("desk"))
    try:
        place.up()
        yield place
    finally:
        place.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place where nothing runs yet."""
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def known(desk: Place) -> Callable[[str], str]:
    """Let a peer in, so that messages can be sent to it and commands run as it; give back its address."""

    def let_in(address: str) -> str:
        asyncio.run(enrol_here(StateFolder(desk.state), parse_peer(address)))
        return address

    return let_in
