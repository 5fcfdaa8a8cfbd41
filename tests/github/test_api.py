"""The ways to GitHub: which is taken, and what their faults say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestra.errors import BadOption, GitHubFault
from orchestra.github import api
from orchestra.github.api import Gh, Rest, github_for

from .fakegithub import TOKEN, fake_github, install_gh


def _clone(folder: Path, remote: str) -> Path:
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "remote", "add", "origin", remote], check=True)
    return folder


@pytest.mark.parametrize(
    "remote",
    [
        "git@github.com:ann/web.git",
        "https://github.com/ann/web",
        "https://user:word@github.com/ann/web.git/",
        "ssh://git@github.com:22/ann/web.git",
    ],
)
def test_the_repository_is_that_of_the_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: str) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    found = github_for(_clone(tmp_path / "web", remote), repository=None, api="http://127.0.0.1:1")
    assert found.repository == "ann/web"


def test_gh_is_taken_where_it_is_and_no_other_api_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_github() as fake:
        monkeypatch.setenv("PATH", str(install_gh(tmp_path / "bin", fake)))
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        assert isinstance(github_for(tmp_path, repository="ann/web", api=None), Gh)
        assert isinstance(github_for(tmp_path, repository="ann/web", api=fake.url), Rest)


def test_without_a_way_or_a_repository_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    with pytest.raises(GitHubFault, match="GITHUB_TOKEN"):
        github_for(tmp_path, repository="ann/web", api=None)
    with pytest.raises(GitHubFault, match="--repository"):
        github_for(tmp_path, repository=None, api=None)
    with pytest.raises(BadOption, match="OWNER/NAME"):
        github_for(tmp_path, repository="web", api=None)
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    with pytest.raises(BadOption, match="https"):
        github_for(tmp_path, repository="ann/web", api="ftp://x")


def test_the_token_goes_to_the_api_alone_and_never_into_a_message() -> None:
    with fake_github() as fake:
        rest = Rest(fake.url, TOKEN, "ann/web")
        fake.status = 401
        with pytest.raises(GitHubFault, match="GitHub says 401: Out of order") as caught:
            rest.call("GET", "user")
        assert caught.value.status == 401
        assert fake.tokens == {f"Bearer {TOKEN}"}
        fake.status = 302
        with pytest.raises(GitHubFault, match="302"):
            rest.call("GET", "user")
    with pytest.raises(GitHubFault, match="can't be reached") as caught:
        rest.call("GET", "user")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo nonsense", "is not JSON"),
        ("printf 'oh\\033[2J no' >&2; exit 4", "oh\N{REPLACEMENT CHARACTER}"),
        ("sleep 60", "did not answer within"),
    ],
)
def test_a_gh_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, sentence: str
) -> None:
    program = tmp_path / "gh"
    program.write_text(f"#!/bin/sh\nexec 2>&1; {script}\n" if "oh" not in script else f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(api, "GITHUB_WAIT_S", 5.0 if "sleep" not in script else 0.1)
    with pytest.raises(GitHubFault, match=sentence):
        Gh(str(program), "ann/web").call("GET", "user")
