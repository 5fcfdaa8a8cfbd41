"""wscat, the program that people try a WebSocket with: installed from npm, run as they run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestra.state import this_operator

from .gateways import hub_with_gateway
from .programs import BOUND_S, Place

Wscat = Callable[..., tuple[int, list[Any], str]]

PROGRAM = Path(os.environ.get("ORCHESTRA_TEST_WSCAT", "wscat"))
"""Where tox has put it."""

pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None and "CI" not in os.environ, reason="wscat is not installed here: npm install -g wscat"
)


@pytest.fixture
def wscat() -> Wscat:
    """Return what runs wscat: exit code, the JSON it printed, and its talk."""

    def run(url: str, *options: str) -> tuple[int, list[Any], str]:
        words = (PROGRAM, "--no-color", "-c", url, *options)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(words, text=True, **pipes) as started:
            started.wait(BOUND_S)  # its input stays open until then: it ends with that
            said, talk = started.stdout.read(), started.stderr.read()
        return started.returncode, [json.loads(line) for line in said.splitlines() if line.startswith("{")], talk

    return run


def test_wscat_sends_and_receives_with_a_good_token_and_is_refused_with_a_bad_one(place: Place, wscat: Wscat) -> None:
    _, gateway = hub_with_gateway(place)
    # As the README says it: by the name, which some programs take for ::1 first.
    url = gateway.replace("http://127.0.0.1", "ws://localhost")
    token = place.run("token", "create", "--url").stdout.strip()
    assert place.run("status", "--json").data["gateway"] == gateway

    send = json.dumps({"type": "send", "id": 1, "to": str(this_operator()), "content": "grüße"})
    code, told, talk = wscat(f"{url}/?token={token}", "-x", send, "-w", "1")
    assert (code, talk) == (0, "")
    assert {each["type"] for each in told} == {"welcome", "message", "ok"}
    (message,) = [each for each in told if each["type"] == "message"]
    assert message["content"] == "grüße"
    assert "grüße" in place.run("inbox").stdout

    code, told, talk = wscat(
        f"{url}/?protocol=orchestra.v1", "-H", f"Authorization: Bearer {token}", "-x", '{"type":"ping"}', "-w", "1"
    )
    assert code == 0
    assert {"type": "pong"} in told

    for bad in ("", "?token=nonsense", f"?token={token[:-3]}"):
        code, told, talk = wscat(f"{url}/{bad}", "-x", "{}", "-w", "1")
        assert code != 0
        assert told == []
        assert "401" in talk
