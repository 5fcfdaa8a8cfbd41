"""A GitHub for tests: a real HTTP server on this machine that keeps issues, and a program `gh` that speaks to it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "a-secret-token"


@dataclass
class FakeGitHub:
    """What it holds, what it was asked, and how it misbehaves.

    `rejects_labels`: as where the user may not set them. `when_created` is called once an issue is made, before the
    answer; it may end the asking program.
    """

    repository: str = "ann/web"
    issues: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    rejects_labels: bool = False
    status: int = 0
    when_created: Callable[[], None] = lambda: None
    url: str = ""

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        self.asked.append(f"{method} {target}")
        split = urlsplit(target)
        if self.status:
            return self.status, {"message": "Out of order"}
        if split.path != f"/repos/{self.repository}/issues":
            return 404, {"message": "Not Found"}
        if method == "GET":
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            size, page = int(query["per_page"]), int(query["page"])
            assert (query["state"], query["sort"], query["direction"]) == ("all", "created", "desc")
            return 200, self.issues[::-1][(page - 1) * size : page * size]
        if body.get("labels") and self.rejects_labels:
            return 422, {"message": "Validation Failed"}
        return 201, self.create(**body)

    def create(self, title: str, body: str, labels: tuple[str, ...] = ()) -> dict[str, Any]:
        number = len(self.issues) + 1
        issue = {
            "number": number,
            "html_url": f"https://github.com/{self.repository}/issues/{number}",
            "title": title,
            "body": body,
            "labels": list(labels),
            "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self.issues.append(issue)
        self.when_created()
        return issue


@contextmanager
def fake_github() -> Iterator[FakeGitHub]:
    fake = FakeGitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say("GET", None)

        def do_POST(self) -> None:
            self._say("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _say(self, method: str, body: Any) -> None:
            fake.tokens.add(self.headers.get("Authorization", ""))
            try:
                status, answer = fake.answer(method, self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # who asked was killed, or is to get no answer
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


_GH = """#!{python}
# What `gh api` does with these arguments, in the words of its manual.
import json, sys, urllib.error, urllib.request

words = sys.argv[1:]
assert words.pop(0) == "api", words
method, headers, has_input = "GET", {{}}, False
while words[0].startswith("--"):
    option, value = words.pop(0), words.pop(0)
    if option == "--method":
        method = value
    elif option == "--header":
        headers.update([value.split(": ", 1)])
    else:
        assert (option, value) == ("--input", "-"), option
        has_input = True
(path,) = words
data = sys.stdin.buffer.read() if has_input else None
try:
    with urllib.request.urlopen(urllib.request.Request("{url}/" + path, data, headers, method=method)) as answer:
        sys.stdout.buffer.write(answer.read())
except urllib.error.HTTPError as error:
    body = error.read()
    sys.stdout.buffer.write(body)
    sys.exit(f"gh: {{json.loads(body)['message']}} (HTTP {{error.code}})")
"""


def install_gh(folder: Path, fake: FakeGitHub) -> Path:
    """Put a program `gh` into a folder, for the PATH; it speaks to `fake`."""
    folder.mkdir(exist_ok=True)
    program = folder / "gh"
    program.write_text(_GH.format(python=sys.executable, url=fake.url), encoding="utf-8")
    program.chmod(0o700)
    return folder
