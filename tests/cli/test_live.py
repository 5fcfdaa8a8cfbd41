"""`orchestra request` and `orchestra respond`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from ..system.programs import ORCHESTRA, Place, Program, is_alive, wait_until


@pytest.fixture
def responds(desk: Place, known: Callable[[str], str]) -> Callable[..., Program]:
    """Start `orchestra respond` as a peer of this name."""

    def start(name: str, script: str) -> Program:
        address = known(f"matrix/{name}")
        words = (*ORCHESTRA, "respond", "--as", address, "--json", "--", "sh", "-c", script)
        program = desk.start(words, name=name)
        wait_until(lambda: f"answers the live requests to {address}" in program.stderr, "it to be ready")
        return program

    return start


def test_a_command_answers_what_is_asked(desk: Place, responds: Callable[..., Program]) -> None:
    program = responds("answering", 'echo "$ORCHESTRA_REQUEST_FROM: $(cat)"; exit 0')
    asked = desk.run("request", "matrix/answering", "which branch?")
    assert asked.code == 0
    assert asked.stdout.startswith("operator/")
    assert asked.stdout.endswith(": which branch?\n")
    told = json.loads(program.wait_output("}\n"))["data"]
    assert (told["bytes"], told["answer_bytes"]) == (13, len(asked.stdout))
    program.signal(signal.SIGINT)
    assert program.wait_end().code == 130
    assert "matrix/answering is not connected" in desk.run("request", "matrix/answering", "x").assert_is_one_sentence(
        75
    )


def test_a_command_that_fails_or_is_late_is_told_so_and_nothing_is_left(
    desk: Place, responds: Callable[..., Program]
) -> None:
    pids = desk.state / "pids"
    responds("failing", f'case "$(cat)" in fail) exit 3;; die) kill -KILL $$;; esac; echo $$ >> {pids}; exec sleep 600')
    assert "sh ended with exit code 3" in desk.run("request", "matrix/failing", "fail").assert_is_one_sentence(1)
    assert "sh ended with SIGKILL" in desk.run("request", "matrix/failing", "die").assert_is_one_sentence(1)
    late = desk.run("request", "matrix/failing", "wait", "--timeout", "1")
    assert "matrix/failing did not answer in time" in late.assert_is_one_sentence(75)
    (pid,) = pids.read_text().split()
    wait_until(lambda: not is_alive(int(pid)), "the command to be killed")


def test_who_takes_no_requests_and_what_is_no_program_are_one_sentence(desk: Place) -> None:
    sentence = desk.run("request", "agent/exec-1", "hi").assert_is_one_sentence(75)
    assert "has no session that answers requests; send a message instead" in sentence
    assert "there is no program" in desk.run("respond", "--", "no-such-program").stderr
