"""An issue goes to GitHub once: through the program gh and through the REST API, whatever breaks in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.errors import BadOption, GitHubFault, NotFound
from orchestra.github import promotion
from orchestra.github.api import Gh, GitHub, Rest
from orchestra.limits import MEMORY_TEXT_CHARS_MAX
from orchestra.memory.store import Store

from ..memory.memories import add, issue, learning
from .fakegithub import TOKEN, FakeGitHub, fake_github, install_gh


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / ".orchestra" / "memory.db") as store:
        yield store


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    with fake_github() as fake:
        yield fake


@pytest.fixture(params=["gh", "rest"])
def github(request: pytest.FixtureRequest, fake: FakeGitHub, tmp_path: Path) -> GitHub:
    if request.param == "gh":
        return Gh(str(install_gh(tmp_path / "bin", fake) / "gh"), fake.repository)
    return Rest(fake.url, TOKEN, fake.repository)


def _promote(store: Store, github: GitHub, id: int = 1, **options: Any) -> tuple[str, bool]:
    entry, is_new = promotion.promote(store, id, github, now_ms=time.time_ns() // 1_000_000, **options)
    return entry.link, is_new


def test_an_issue_is_created_with_all_it_says_and_labels(store: Store, github: GitHub, fake: FakeGitHub) -> None:
    add(store, issue("It | hangs", severity="critical", component="chromadb", repro="a | b", fix="a lock", body="more"))
    also: list[Any] = []
    assert _promote(store, github, also=also.append) == ("https://github.com/ann/web/issues/1", True)
    assert len(also) == 1
    (made,) = fake.issues
    assert made["title"] == "It | hangs"
    assert made["labels"] == ["bug", "priority:critical", "component:chromadb"]
    for text in ("**Severity:** critical", "**Component:** chromadb", "## How to see it\n\na | b", "a lock", "more"):
        assert text in made["body"]
    assert store.rows("SELECT link FROM memory") == [(made["html_url"],)]
    assert store.rows("SELECT * FROM promotion") == []


def test_asking_twice_creates_one(store: Store, github: GitHub, fake: FakeGitHub) -> None:
    add(store, issue())
    link, _ = _promote(store, github)
    assert _promote(store, github) == (link, False)
    assert len(fake.asked) == 1, "the second time GitHub is not even asked"


def test_labels_that_may_not_be_set_are_left_out(store: Store, github: GitHub, fake: FakeGitHub) -> None:
    fake.rejects_labels = True
    add(store, issue())
    assert _promote(store, github)[1]
    assert [each["labels"] for each in fake.issues] == [[]]


def test_an_answer_that_was_lost_is_found_again(store: Store, github: GitHub, fake: FakeGitHub) -> None:
    add(store, issue("lost"), issue("another"))

    def lose() -> None:
        raise ConnectionAbortedError

    fake.when_created = lose
    with pytest.raises(GitHubFault):
        _promote(store, github)
    fake.when_created = lambda: None
    for number in range(150):  # what others report meanwhile; two pages
        fake.create(f"of others {number}", "their text")
    assert _promote(store, github) == ("https://github.com/ann/web/issues/1", False)
    assert len(fake.issues) == 151
    assert _promote(store, github, 2)[1], "another issue is no match"


def test_one_that_was_not_created_after_all_is_created_then(store: Store, github: GitHub, fake: FakeGitHub) -> None:
    add(store, issue())
    fake.status = 503
    with pytest.raises(GitHubFault, match="503"):
        _promote(store, github)
    fake.status = 0
    assert _promote(store, github)[1]
    assert [line.split()[0] for line in fake.asked] == ["POST", "GET", "POST"]


def test_many_at_once_create_one(store: Store, fake: FakeGitHub) -> None:
    add(store, issue())
    found: list[tuple[str, bool]] = []

    def once() -> None:
        with Store(store.path) as own:
            found.append(_promote(own, Rest(fake.url, TOKEN, fake.repository)))

    threads = [threading.Thread(target=once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(is_new for _, is_new in found) == [False, False, False, True]
    assert len(fake.issues) == 1


def test_what_can_not_be_promoted_says_why(store: Store, github: GitHub, fake: FakeGitHub) -> None:
    add(store, learning(), issue())
    with pytest.raises(BadOption, match="#1 is a learning"):
        _promote(store, github)
    with pytest.raises(NotFound):
        _promote(store, github, 9)
    fake.repository = "bob/web"
    with pytest.raises(GitHubFault, match="Not Found"):
        _promote(store, github, 2)


def test_a_text_of_any_length_fits(store: Store, github: GitHub, fake: FakeGitHub) -> None:
    long = "x" * MEMORY_TEXT_CHARS_MAX
    add(store, issue("t" * 500, body=long, repro=long, fix=long))
    assert _promote(store, github)[1]
    (made,) = fake.issues
    assert (len(made["title"]), len(made["body"]) < 65_536) == (256, True)
    assert "t" * 500 in made["body"]
