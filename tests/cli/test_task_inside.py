"""What a program does from inside a task: ask a person, and leave checkpoints."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from ..system.programs import ORCHESTRA as PROGRAM
from ..system.programs import Place, wait_until

ORCHESTRA = f"{shlex.quote(sys.executable)} -m orchestra"


def _show(desk: Place, seq: int) -> dict[str, Any]:
    found: dict[str, Any] = desk.run("task", "show", str(seq), "--json").data
    return found


def _submit(desk: Place, script: str, *options: str) -> int:
    return int(desk.run("task", "submit", "--json", *options, "--", "sh", "-c", script).data["seq"])


def test_a_program_asks_and_goes_on_with_the_answer_and_its_clock_stands_still(desk: Place, tmp_path: Path) -> None:
    script = f'A=$({ORCHESTRA} task ask "which branch?"); echo "it is $A"; touch {tmp_path}/asked'
    seq = _submit(desk, script, "--timeout", "60")
    wait_until(lambda: _show(desk, seq)["state"] == "input-required", "it asks")
    shown = desk.run("task", "show", str(seq)).stdout
    assert "which branch?" in shown
    assert f'orchestra task answer {seq} "…"' in shown
    assert desk.run("task", "answer", str(seq), "main").stdout.startswith(f"task {seq} is working again")
    wait_until(lambda: _show(desk, seq)["state"] == "completed", "it goes on")
    assert _show(desk, seq)["output"] == "it is main\n"
    assert desk.run("task", "answer", str(seq), "late").assert_is_one_sentence(5)


def test_who_waits_for_a_task_sees_its_question_on_standard_error(desk: Place) -> None:
    script = f"{ORCHESTRA} task ask 'red or blue?'"
    waits = desk.start((*PROGRAM, "task", "submit", "--wait", "--", "sh", "-c", script), name="waits")

    def asked() -> Any:
        found = desk.run("task", "list", "--only", "input-required", "--json").data
        return next((each for each in found if each["question"] == "red or blue?"), None)

    seq = wait_until(asked, "it asks")["seq"]
    desk.run("task", "answer", str(seq), "blue")
    ended = waits.wait_end()
    assert (ended.code, ended.stdout) == (0, "blue\n")
    assert f"task {seq} asks: red or blue?\nanswer with: orchestra task answer {seq}" in ended.stderr


def test_a_task_that_asks_is_listed_and_can_be_canceled(desk: Place) -> None:
    seq = _submit(desk, f"{ORCHESTRA} task ask 'a or b?'")
    wait_until(lambda: _show(desk, seq)["state"] == "input-required", "it asks")
    assert "a or b?" in desk.run("task", "list", "--only", "input-required", "--json").stdout
    desk.run("task", "cancel", str(seq))
    wait_until(lambda: _show(desk, seq)["state"] == "canceled", "it is canceled")


def test_a_checkpoint_is_found_by_the_next_attempt(desk: Place) -> None:
    script = (
        f'if [ -n "$ORCHESTRA_CHECKPOINT" ]; then cat "$ORCHESTRA_CHECKPOINT"; exit 0; fi; '
        f"printf half | {ORCHESTRA} task checkpoint; exit 1"
    )
    ended = desk.run(
        "task", "submit", "--max-attempts", "2", "--backoff", "0.01", "--wait", "--json", "--", "sh", "-c", script
    )
    assert (ended.code, ended.data["attempt"], ended.data["output"]) == (0, 2, "half")
    assert not list((desk.state / "outputs").glob("*.checkpoint"))


def test_what_a_task_submits_is_canceled_with_it(desk: Place, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f"{ORCHESTRA} task submit --json --to queue/nobody 'help me' > {said}; sleep 60"
    upper = _submit(desk, script)
    wait_until(lambda: said.exists() and said.read_text().endswith("}\n"), "it submits")
    lower = json.loads(said.read_text())["data"]["seq"]
    assert f"below it     {lower}\n" in desk.run("task", "show", str(upper)).stdout
    assert f"task {upper} is being stopped, with 1 below it" in desk.run("task", "cancel", str(upper)).stdout
    assert _show(desk, lower)["state"] == "canceled"
    assert f"for task {upper}" in desk.run("trace", str(lower)).stdout


def test_outside_of_a_task_both_say_so(desk: Place) -> None:
    for words in (("ask", "x"), ("checkpoint",)):
        ended = desk.run("task", *words)
        assert ended.code == 2
        assert "inside a task" in ended.stderr


def test_a_checkpoint_that_is_too_large_is_refused_at_once(desk: Place, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(70_000))
    script = (
        f"{ORCHESTRA} task checkpoint {tmp_path}/big; echo $?; {ORCHESTRA} task checkpoint {tmp_path}/none; echo $?"
    )
    ended = desk.run("task", "submit", "--wait", "--", "sh", "-c", script)
    assert "a checkpoint may have 65536 bytes" in ended.stdout
    assert ended.stdout.count("2\n") == 2


def test_the_inbox_inside_a_task_says_how_that_of_its_agent_is_seen(desk: Place) -> None:
    assert desk.run("send", "agent/exec-1", "the API has changed").code == 0
    look = f"{ORCHESTRA} inbox; {ORCHESTRA} inbox --as $ORCHESTRA_AGENT"
    seq = int(desk.run("task", "submit", "--to", "agent/exec-1", "--json", "--", "sh", "-c", look).data["seq"])
    wait_until(lambda: _show(desk, seq)["state"] == "completed", "it has looked")
    shown = _show(desk, seq)["output"]
    assert "that of the agent which runs this task: orchestra inbox --as agent/exec-1\n" in shown
    assert shown.count("this is the inbox of operator/") == 1, "who says whose it is needs no reminder"
    assert "the API has changed" in shown
    assert "this task" not in desk.run("inbox").stderr
