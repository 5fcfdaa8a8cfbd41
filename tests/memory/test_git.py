from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from orchestra.memory import git
from orchestra.memory.git import Work, work_in

GIT = ("git", "-c", "user.name=A Person", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")


def _git(folder: Path, *words: str) -> None:
    subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "-q")
    (tmp_path / "a file.txt").write_text("x")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "First\n\nwith a body")
    return tmp_path


def test_branch_commits_and_changed_files_are_told(clone: Path) -> None:
    (clone / "new.txt").write_text("x")
    work = work_in(clone)
    assert work.branch == "main"
    assert [line.split(" ", 1)[1] for line in work.commits] == ["First"]
    assert set(work.files) == {"new.txt", "a file.txt"}


def test_only_what_came_since_the_last_session(clone: Path) -> None:
    assert work_in(clone, since_ms=(int(time.time()) + 3600) * 1000).commits == ()
    assert len(work_in(clone, since_ms=1000).commits) == 1


def test_outside_of_a_clone_or_without_git_nothing_is_told(
    tmp_path: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nothing"))
    assert work_in(tmp_path) == Work()
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert work_in(clone) == Work()


def test_a_git_that_hangs_is_not_waited_for(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = clone / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(git, "GIT_WAIT_S", 0.05)
    assert work_in(clone) == Work()
