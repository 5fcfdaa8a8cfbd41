"""Terms on the command line: dependencies, times, retries, and many tasks from one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..system.programs import Place, wait_until


def _submit(desk: Place, *words: str) -> int:
    return int(desk.run("task", "submit", "--json", *words).data["seq"])


def _show(desk: Place, seq: int) -> dict[str, Any]:
    found: dict[str, Any] = desk.run("task", "show", str(seq), "--json").data
    return found


def _batch(folder: Path, *lines: dict[str, Any]) -> str:
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_a_task_waits_for_another_and_show_says_for_which(desk: Place) -> None:
    first = _submit(desk, "x", "--to", "queue/nobody")
    second = _submit(desk, "y", "--to", "queue/nobody", "--depends-on", str(first))
    found = _show(desk, second)
    assert (found["state"], found["depends_on"]) == ("blocked", [first])
    assert f"blocked by task {first} (queued)" in desk.run("task", "show", str(second)).stdout
    assert "no agent serves queue/nobody" in desk.run("task", "show", str(first)).stdout
    desk.run("task", "cancel", str(first))
    assert f"dead: dependency {first} was canceled" in desk.run("task", "show", str(second)).stdout
    ended = desk.run("task", "retry", str(second))
    assert ended.assert_is_one_sentence(5).endswith(
        f"depends on task {first}, which is not completed; retry that one first"
    )


def test_a_task_for_later_is_scheduled(desk: Place) -> None:
    seq = _submit(desk, "x", "--in", "2h", "--expires", "1d", "--budget", "5 USD")
    shown = desk.run("task", "show", str(seq)).stdout
    assert "scheduled" in shown
    assert "5 USD" in shown
    assert "after 86400 s" in shown
    assert "scheduled " in desk.run("task", "list", "--only", "scheduled").stdout
    assert desk.run("task", "cancel", str(seq)).stdout == f"task {seq} is canceled\n"
    both = desk.run("task", "submit", "x", "--in", "1h", "--not-before", "14:05")
    assert both.code == 2
    wrong = desk.run("task", "submit", "x", "--not-before", "soon")
    assert "'soon' is not a time" in wrong.stderr


def test_a_task_that_fails_is_tried_again_and_its_attempts_are_shown(desk: Place, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 3"
    words = ("--max-attempts", "5", "--backoff", "0.01", "--wait", "--json", "--", "sh", "-c", script)
    ended = desk.run("task", "submit", *words)
    assert ended.code == 0
    found = ended.data
    assert (found["state"], found["attempt"]) == ("completed", 3)
    assert [each["outcome"] for each in _show(desk, found["seq"])["attempts"]] == ["failed", "failed", "completed"]
    assert desk.run("task", "show", str(found["seq"])).stdout.count("exit code 1") == 2
    assert desk.run("task", "retry", str(found["seq"])).code == 5


def test_a_task_that_can_not_be_started_is_not_tried_again(desk: Place) -> None:
    ended = desk.run("task", "submit", "--max-attempts", "9", "--wait", "--json", "--", "no-such-program")
    assert (ended.code, ended.data["attempt"], ended.data["report"]["is_permanent"]) == (1, 1, True)


def test_an_exit_code_that_is_permanent_is_not_tried_again(desk: Place) -> None:
    desk.agent("strict", "--permanent-exit-code", "65")
    ended = desk.run(
        "task", "submit", "--to", "agent/strict", "--max-attempts", "9", "--wait", "--json", "--", "sh", "-c", "exit 65"
    )
    assert (ended.code, ended.data["attempt"]) == (1, 1)


def test_a_failed_task_is_tried_again_by_hand(desk: Place, tmp_path: Path) -> None:
    seq = _submit(desk, "--", "test", "-e", str(tmp_path / "here"))
    wait_until(lambda: _show(desk, seq)["state"] == "failed", "it failed")
    (tmp_path / "here").touch()
    assert "is queued again" in desk.run("task", "retry", str(seq)).stdout
    wait_until(lambda: _show(desk, seq)["state"] == "completed", "it completed")


def test_a_file_of_tasks_runs_in_the_order_of_its_dependencies(desk: Place, tmp_path: Path) -> None:
    path = _batch(
        tmp_path,
        {"id": "last", "argv": ["sh", "-c", "cat a b"], "cwd": str(tmp_path), "depends_on": ["a", "b"]},
        {"id": "a", "argv": ["sh", "-c", "echo a > a"], "cwd": str(tmp_path)},
        {"id": "b", "argv": ["sh", "-c", "echo b > b"], "cwd": str(tmp_path), "depends_on": ["a"]},
    )
    ended = desk.run("task", "submit", "--from", path, "--wait", "--json")
    assert ended.code == 0
    assert [(each["id"], each["state"]) for each in ended.data] == [(each, "completed") for each in ("a", "b", "last")]
    assert ended.data[2]["output"] == "a\nb\n"


def test_a_file_of_tasks_of_which_one_fails_ends_with_1_and_says_which(desk: Place) -> None:
    lines = [{"id": "good", "argv": ["true"]}, {"id": "bad", "argv": ["false"]}]
    text = "\n".join(json.dumps(line) for line in lines)
    ended = desk.run("task", "submit", "--from", "-", "--wait", stdin=text)
    assert ended.code == 1
    assert "\tbad\tfailed\texit code 1\n" in ended.stdout
    assert ended.stderr == "1 of 2 tasks completed\n"


def test_a_file_without_wait_tells_the_numbers(desk: Place, tmp_path: Path) -> None:
    ended = desk.run("task", "submit", "--from", _batch(tmp_path, *[{"argv": ["true"]}] * 600), "--json")
    assert ended.code == 0
    assert len({each["seq"] for each in ended.data}) == 600


def test_a_file_with_faults_sends_nothing(desk: Place, tmp_path: Path) -> None:
    before = desk.run("task", "list", "--json").data[0]["seq"]
    path = _batch(tmp_path, {"argv": ["true"]}, {"prompt": "x", "max_attempts": 0})
    ended = desk.run("task", "submit", "--from", path)
    assert ended.code == 2
    assert "line 2: max_attempts must be 1 to 100" in ended.stderr
    loop = _batch(
        tmp_path, {"id": "a", "prompt": "x", "depends_on": ["b"]}, {"id": "b", "prompt": "x", "depends_on": ["a"]}
    )
    assert "a → b → a" in desk.run("task", "submit", "--from", loop).stderr
    assert desk.run("task", "submit", "--from", path, "words").code == 2
    assert "--max-attempts is for one task" in desk.run("task", "submit", "--from", path, "--max-attempts", "2").stderr
    assert desk.run("task", "submit", "--from", str(tmp_path / "nothing")).code == 2
    assert desk.run("task", "list", "--json").data[0]["seq"] == before


def test_a_file_on_a_terminal_shows_a_bar_and_a_table(desk: Place, tmp_path: Path) -> None:
    path = _batch(tmp_path, *[{"id": f"t{i}", "argv": ["true"]} for i in range(3)])
    ended = desk.run_on_terminal("task", "submit", "--from", path, "--wait")
    assert ended.code == 0
    assert "3/3" in ended.stdout
    assert "completed" in ended.stdout


def test_what_is_submitted_under_a_key_is_done_once(desk: Place, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/count; cat {tmp_path}/count"
    words = ("--key", "nightly", "--wait", "--json", "--", "sh", "-c", script)
    first, second = (desk.run("task", "submit", *words).data for _ in range(2))
    assert (first["seq"], first["output"]) == (second["seq"], second["output"])
    path = _batch(tmp_path, {"argv": ["true"], "key": "a"}, {"argv": ["true"], "key": "b"})
    one, two = (desk.run("task", "submit", "--from", path, "--json").data for _ in range(2))
    assert one == two
