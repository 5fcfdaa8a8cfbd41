"""GitHub's REST API, through `gh` where it is there, or directly with a token.

Both speak the same paths and JSON (docs.github.com/rest/issues), so that what is done with issues is written once.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from orchestra.ending import how_ended
from orchestra.errors import BadOption, GitHubFault
from orchestra.limits import GIT_WAIT_S, GITHUB_WAIT_S
from orchestra.version import VERSION

API: Final = "https://api.github.com"
_HEADERS: Final = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+")


class GitHub(Protocol):
    """Says one thing to the API. `repository` is OWNER/NAME."""

    repository: str

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON of the answer.

        Raises:
            GitHubFault: if the answer is an error, or there is none.
        """


def github_for(folder: Path, *, repository: str | None, api: str | None) -> GitHub:
    """Return the way to GitHub: `gh` where it is installed and no other API is named, otherwise REST with a token.

    Args:
        folder: a clone; its remote `origin` says which repository, where none is named.
        api: address of the REST API of a GitHub of one's own.

    Raises:
        BadOption: if the repository is not of the form OWNER/NAME.
        GitHubFault: if there is no way, or no repository.
    """
    if repository is not None and not _REPOSITORY.fullmatch(repository):
        raise BadOption(f"repository {repository!r} is not of the form OWNER/NAME")
    repository = repository or _repository_of(folder)
    program = shutil.which("gh")
    if program and not api:
        return Gh(program, repository)
    token = os.environ.get("GITHUB_TOKEN", "")
    if not token:
        raise GitHubFault("neither the program gh nor a GITHUB_TOKEN is here; install and log in to gh, or set that")
    return Rest(api or API, token, repository)


class Gh:
    """Through GitHub's own program, which knows who the user is."""

    def __init__(self, program: str, repository: str) -> None:
        self.repository = repository
        self._program = program

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = [word for name, value in _HEADERS.items() for word in ("--header", f"{name}: {value}")]
        sent = ["--input", "-"] if body is not None else []
        try:
            done = subprocess.run(
                [self._program, "api", "--method", method, *headers, *sent, path],
                input=json.dumps(body).encode() if body is not None else b"",
                capture_output=True,
                timeout=GITHUB_WAIT_S,
                env={**os.environ, "GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"},
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise GitHubFault(f"gh did not answer within {GITHUB_WAIT_S:.0f} s") from exc
        except OSError as exc:
            raise GitHubFault(f"gh can't be run: {exc.strerror}") from exc
        if done.returncode != 0:
            said = _line(done.stderr.decode("utf-8", "replace")) or how_ended(done.returncode)
            status = re.search(r"\(HTTP (\d{3})\)", said)
            raise GitHubFault(f"gh: {said.removeprefix('gh: ')}", status=int(status[1]) if status else 0)
        return _json(done.stdout, "gh")


class Rest:
    """With a token of the user's. It is sent to `api` alone: a redirect to another host is refused."""

    def __init__(self, api: str, token: str, repository: str) -> None:
        if not api.startswith(("https://", "http://")):
            raise BadOption(f"{api!r} is no address of an API; it begins with https://")
        self.repository = repository
        self._api = api.rstrip("/")
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {**_HEADERS, "Authorization": f"Bearer {self._token}", "User-Agent": f"agent-orchestra/{VERSION}"}
        data = json.dumps(body).encode() if body is not None else None
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self._api}/{path}", data, headers, method=method)
        try:
            with self._opener.open(request, timeout=GITHUB_WAIT_S) as answer:
                return _json(answer.read(), self._api)
        except urllib.error.HTTPError as exc:
            with exc:
                raise GitHubFault(f"GitHub says {exc.code}: {_message(exc)}", status=exc.code) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise GitHubFault(f"{self._api} can't be reached: {getattr(exc, 'reason', None) or exc}") from exc


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def _repository_of(folder: Path) -> str:
    """Return OWNER/NAME of a clone's remote `origin`."""
    try:
        done = subprocess.run(
            ["git", "remote", "get-url", "origin"],
            cwd=folder,
            capture_output=True,
            timeout=GIT_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        url = ""
    else:
        url = done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""
    found = re.search(r"[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", url)
    if not found:
        raise GitHubFault("this clone's remote origin names no repository on GitHub; say --repository OWNER/NAME")
    return found[1]


def _json(raw: bytes, whose: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as exc:
        raise GitHubFault(f"the answer of {whose} is not JSON") from exc


def _message(exc: urllib.error.HTTPError) -> str:
    try:
        return _line(str(json.loads(exc.read())["message"]))
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        return _line(str(exc.reason))


def _line(text: str) -> str:
    """Return what others say as one line that drives no terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))[:500]
