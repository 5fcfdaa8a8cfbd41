"""A service that makes vectors, against a real HTTP server on loopback."""

from __future__ import annotations

import json
import socket
import threading
from array import array
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from orchestra.errors import BadOption, EmbedFault, RowRefused
from orchestra.memory import endpoint
from orchestra.memory.endpoint import Endpoint, unit


class Service(ThreadingHTTPServer):
    """Answers with what `reply` says: a status and a body; None says nothing until the end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply: tuple[int, Any] | None = (200, {})
        self.asked: list[tuple[str, str | None, Any]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        if self.server.reply is None:
            self.server.ended.wait()
            return
        status, answer = self.server.reply
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization"), None))
        self.send_error(403)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


def _vectors(*rows: tuple[int, list[float]]) -> tuple[int, Any]:
    return 200, {"data": [{"index": index, "embedding": numbers} for index, numbers in rows]}


def test_vectors_have_length_one_and_come_in_the_order_of_the_texts(service: Service) -> None:
    service.reply = _vectors((1, [0, 2]), (0, [3, 4]))
    found = Endpoint(service.url, "nomic-embed-text", key="k").embed(["one", ""])
    assert [array("f", each).tolist() for each in found] == [pytest.approx([0.6, 0.8]), [0, 1]]
    assert service.asked == [("/v1/embeddings", "Bearer k", {"model": "nomic-embed-text", "input": ["one", " "]})]


def test_the_key_is_told_to_the_service_alone_and_not_to_where_it_redirects(service: Service) -> None:
    service.reply = (302, b"")
    with pytest.raises(EmbedFault, match="403"):
        Endpoint(service.url, "m", key="k").embed(["one"])
    assert [(path, key) for path, key, _ in service.asked] == [("/v1/embeddings", "Bearer k"), ("/elsewhere", None)]


@pytest.mark.parametrize(
    "reply",
    [
        (500, b""),
        (401, b"no"),
        (200, b"not JSON"),
        (200, {}),
        (200, {"data": [{"index": 0, "embedding": "x"}]}),
        _vectors(),
        _vectors((0, [0, 0])),
        _vectors((0, [float("nan")])),
        _vectors((0, [1]), (1, [1, 2])),
    ],
)
def test_any_other_answer_is_a_fault_of_the_service(service: Service, reply: tuple[int, Any]) -> None:
    service.reply = reply
    with pytest.raises(EmbedFault, match=r"127\.0\.0\.1") as caught:
        Endpoint(service.url, "m", key="secret").embed(["one"])
    assert not isinstance(caught.value, RowRefused)
    assert "secret" not in str(caught.value)


def test_a_text_that_is_refused_is_the_texts_fault(service: Service) -> None:
    service.reply = 400, b"too long"
    with pytest.raises(RowRefused, match="400"):
        Endpoint(service.url, "m", key="").embed(["one"])


def test_a_service_that_says_nothing_is_left(service: Service) -> None:
    service.reply = None
    with pytest.raises(EmbedFault, match="did not answer within"):
        Endpoint(service.url, "m", key="", wait_s=0.05).embed(["one"])


def test_an_answer_without_end_is_left(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "EMBED_REPLY_BYTES_MAX", 1000)
    service.reply = 200, b"x" * 5000
    with pytest.raises(EmbedFault, match="more than 1000 bytes"):
        Endpoint(service.url, "m", key="").embed(["one"])


def test_no_service_is_told() -> None:
    with socket.socket() as silent:  # has a port, and listens not
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(EmbedFault, match="can't be reached"):
            Endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", "m", key="").embed(["one"])


@pytest.mark.parametrize("url", ["", "127.0.0.1:11434", "file:///etc/passwd", "ftp://host/v1"])
def test_only_addresses_of_the_web_are_taken(url: str) -> None:
    with pytest.raises(BadOption, match="no address"):
        Endpoint(url, "m", key="")


def test_a_vector_without_a_direction_is_refused() -> None:
    for numbers in ([], [0.0], [float("inf")]):
        with pytest.raises(ValueError, match="direction"):
            unit(numbers)
