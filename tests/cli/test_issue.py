"""`orchestra memory issue` and GitHub, with real programs that are killed at the worst moment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..github.fakegithub import TOKEN, FakeGitHub, fake_github, install_gh
from ..system.programs import ORCHESTRA, Place, Program


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    with fake_github() as fake:
        yield fake


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Place]:
    clone = Place(tmp_path / "web")
    clone.folder.mkdir()
    subprocess.run(["git", "init", "-q", str(clone.folder)], check=True)
    subprocess.run(
        ["git", "-C", str(clone.folder), "remote", "add", "origin", "git@github.com:ann/web.git"], check=True
    )
    yield clone
    clone.close()


@pytest.fixture(params=["gh", "rest"])
def env(request: pytest.FixtureRequest, clone: Place, fake: FakeGitHub, tmp_path: Path) -> dict[str, str]:
    if request.param == "gh":
        return clone.env(PATH=f"{install_gh(tmp_path / 'bin', fake)}:{clone.env()['PATH']}")
    return clone.env(GITHUB_TOKEN=TOKEN, ORCHESTRA_GITHUB_API=fake.url)


def test_an_issue_is_promoted_once_and_keeps_its_link(clone: Place, env: dict[str, str], fake: FakeGitHub) -> None:
    clone.run("memory", "issue", "Saving hangs", "-s", "critical", "-c", "chromadb", env=env)
    link = "https://github.com/ann/web/issues/1"
    promoted = clone.run("memory", "issue", "--promote", "1", env=env)
    assert (promoted.code, promoted.stdout, promoted.stderr) == (0, f"issue #1 is now on GitHub: {link}\n", "")
    assert fake.issues[0]["labels"] == ["bug", "priority:critical", "component:chromadb"]
    again = clone.run("memory", "issue", "-p", "1", env=env)
    assert (again.code, again.stdout) == (0, f"issue #1 is already on GitHub: {link}\n")
    assert clone.run("memory", "issue", "-p", "1", "--json", env=env).data["link"] == link
    assert clone.run("memory", "issue", "--list", env=env).code == 1, "it is on GitHub, so not listed any more"
    assert link in clone.run("memory", "issue", "--close", "1", env=env).stderr
    assert len(fake.issues) == 1


def test_a_process_that_is_killed_between_creating_and_noting_creates_no_second(
    clone: Place, env: dict[str, str], fake: FakeGitHub
) -> None:
    clone.run("memory", "issue", "Saving hangs", env=env)
    started: list[Program] = []
    fake.when_created = lambda: started[0].process.kill()
    started.append(clone.start([*ORCHESTRA, "memory", "issue", "--promote", "1"], env=env))
    assert started[0].wait_end().code < 0
    fake.when_created = lambda: None
    assert "link" not in clone.run("memory", "recall", "#1", "--json", env=env).data["found"][0]
    promoted = clone.run("memory", "issue", "--promote", "1", env=env)
    assert promoted.stdout == "issue #1 is already on GitHub: https://github.com/ann/web/issues/1\n"
    assert len(fake.issues) == 1


def test_report_and_promote_in_one_go(clone: Place, env: dict[str, str], fake: FakeGitHub) -> None:
    ended = clone.run("memory", "issue", "Saving hangs", "--github", env=env)
    assert ended.stdout.splitlines()[0] == "issue #1 is stored"
    assert ended.stdout.splitlines()[1].endswith("/issues/1")
    assert len(fake.issues) == 1
    fake.status = 500
    failed = clone.run("memory", "issue", "Another", "-g", env=env)
    assert (failed.code, failed.stdout) == (1, "issue #2 is stored\n")
    assert failed.stderr.startswith("error: ")


def test_without_a_way_to_github_nothing_is_stored(clone: Place, tmp_path: Path) -> None:
    env = clone.env(PATH=str(tmp_path))
    env.pop("GITHUB_TOKEN", None)
    said = clone.run("memory", "issue", "Saving hangs", "--github", env=env, bound_s=60).assert_is_one_sentence(1)
    assert "--repository" in said, "git is not on that path either, so the repository is not known"
    words = ("memory", "issue", "Saving hangs", "--github", "--repository", "ann/web")
    assert "GITHUB_TOKEN" in clone.run(*words, env=env).assert_is_one_sentence(1)
    assert clone.run("memory", "issue", "--list").code == 1
