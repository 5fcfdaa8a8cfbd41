from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestra.memory.place import make_folder, memory_of, project_of


def test_the_memory_is_that_of_the_nearest_clone_or_matrix(tmp_path: Path) -> None:
    inner = tmp_path / "workspace" / "clone" / "src" / "deep"
    inner.mkdir(parents=True)
    workspace, clone = tmp_path / "workspace", tmp_path / "workspace" / "clone"
    (workspace / ".orchestra").mkdir()
    assert memory_of(inner) == workspace / ".orchestra" / "memory.db"
    (clone / ".git").write_text("gitdir: elsewhere")  # a worktree
    assert memory_of(inner) == clone / ".orchestra" / "memory.db"
    assert project_of(inner) == "clone"


def test_outside_of_any_clone_it_is_the_folder_itself(tmp_path: Path) -> None:
    assert memory_of(tmp_path) == tmp_path / ".orchestra" / "memory.db"


def test_its_folder_is_private_and_kept_out_of_git(tmp_path: Path) -> None:
    make_folder(tmp_path / ".orchestra")
    assert stat.S_IMODE((tmp_path / ".orchestra").stat().st_mode) == 0o700
    assert (tmp_path / ".orchestra" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_is_there_is_left_as_it_is_and_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / ".orchestra").mkdir()
    make_folder(tmp_path / ".orchestra")
    assert list((tmp_path / ".orchestra").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_a_folder_of_ones_own_gets_no_such_file(tmp_path: Path) -> None:
    make_folder(tmp_path / "notes")
    assert list((tmp_path / "notes").iterdir()) == []
