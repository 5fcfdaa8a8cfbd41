from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.memory.model import is_installed
from orchestra.memory.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".orchestra" / "memory.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


@pytest.fixture(scope="session")
def models() -> Path:
    """Return the folder in which `orchestra memory model install` has put the model."""
    folder = Path(os.environ.get("ORCHESTRA_TEST_MODELS", "/nowhere"))
    if not is_installed(folder):
        assert "TOX_ENV_NAME" not in os.environ, "tox installs the model, and must not skip this"
        pytest.skip("no model: ORCHESTRA_MODELS=X orchestra memory model install, then ORCHESTRA_TEST_MODELS=X")
    return folder
