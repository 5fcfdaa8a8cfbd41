from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.memory.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".orchestra" / "memory.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store
