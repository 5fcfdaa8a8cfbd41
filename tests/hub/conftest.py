from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .fakehub import FakeHub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    hub = FakeHub(tmp_path)
    yield hub
    hub.close()
