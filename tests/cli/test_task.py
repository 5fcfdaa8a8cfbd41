from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..system.programs import ORCHESTRA, Place, is_alive, wait_until


@pytest.fixture(scope="module", autouse=True)
def _prompted(desk: Place) -> None:
    """An agent beside the two of `orchestra up`: it gives prompts to `echo`."""
    desk.agent("echoer", "--queue", "prompts", command=["echo", "asked:"])


def _submit(desk: Place, *words: str) -> int:
    return int(desk.run("task", "submit", "--json", *words).data["seq"])


def _state(desk: Place, seq: int) -> str:
    return str(desk.run("task", "show", str(seq), "--json").data["state"])


# Submitting and waiting.


def test_a_command_runs_and_its_output_alone_is_on_standard_output(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--", "printf", r"two\nlines, no end")
    assert (ended.code, ended.stdout) == (0, "two\nlines, no end")
    assert re.fullmatch(r"task \d+ completed after \d+\.\d s\n", ended.stderr)


def test_output_that_is_no_text_comes_through_byte_by_byte(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--", "sh", "-c", r"printf '\000\377\r\n\033[1m'")
    assert ended.stdout_bytes == b"\0\xff\r\n\x1b[1m"


def test_standard_error_of_the_command_is_part_of_its_output(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--", "sh", "-c", "echo out; echo err >&2")
    assert ended.stdout == "out\nerr\n"


def test_a_command_that_fails_shows_its_exit_code_and_its_output_and_ends_with_1(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--", "sh", "-c", "echo so far; exit 7")
    assert (ended.code, ended.stdout) == (1, "so far\n")
    assert re.fullmatch(r"task \d+ failed after \d+\.\d s: exit code 7\n", ended.stderr)


def test_a_command_that_takes_too_long_is_killed_with_its_children_and_says_so(desk: Place) -> None:
    script = "sleep 600 & echo $$ $!; wait"
    ended = desk.run("task", "submit", "--wait", "--timeout", "0.5", "--", "sh", "-c", script)
    assert ended.code == 1
    assert "it ran longer than its 0.5 s and was killed with its children" in ended.stderr
    assert not [pid for pid in ended.stdout.split() if is_alive(int(pid))]


def test_a_program_that_does_not_exist_fails_with_its_name(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--", "no-such-program")
    assert ended.code == 1
    assert "program 'no-such-program' is not found on the agent's machine" in ended.stderr


def test_a_command_runs_in_the_folder_where_it_was_submitted(desk: Place, tmp_path: Path) -> None:
    here = tmp_path / "a folder"
    here.mkdir()
    ended = desk.run("task", "submit", "--wait", "--", "pwd", "-P", folder=here)
    assert ended.stdout == f"{here.resolve()}\n"


def test_cwd_says_where_else(desk: Place, tmp_path: Path) -> None:
    ended = desk.run("task", "submit", "--wait", "--cwd", str(tmp_path), "--", "pwd", "-P")
    assert ended.stdout == f"{tmp_path.resolve()}\n"
    ended = desk.run("task", "submit", "--wait", "--cwd", "/nowhere", "--", "pwd")
    assert ended.code == 1
    assert "working directory '/nowhere' is not a folder on the agent's machine" in ended.stderr


def test_the_options_of_a_command_belong_to_the_command(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--", "echo", "--json", "--to", "--", "x")
    assert ended.stdout == "--json --to -- x\n"


def test_a_command_finds_its_task_in_its_environment(desk: Place) -> None:
    script = 'echo "$ORCHESTRA_TASK_ID $ORCHESTRA_TASK_ATTEMPT $ORCHESTRA_TASK_CONTEXT $ORCHESTRA_STATE"'
    ended = desk.run("task", "submit", "--wait", "--context", "issue 7", "--", "sh", "-c", script)
    (seq,) = re.findall(r"task (\d+) completed", ended.stderr)
    assert ended.stdout == f"{seq} 1 issue 7 {desk.state}\n"


def test_a_prompt_is_given_to_the_program_of_the_agent(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--to", "queue/prompts", "Review the last commit")
    assert (ended.code, ended.stdout) == (0, "asked: Review the last commit\n")


def test_a_prompt_to_an_agent_that_runs_commands_fails_and_says_what_to_type(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "Review the last commit")
    assert ended.code == 1
    assert "submit one as: orchestra task submit -- COMMAND" in ended.stderr


def test_a_command_to_an_agent_that_takes_prompts_is_refused_by_it(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--to", "agent/echoer", "--", "id")
    assert (ended.code, ended.stdout) == (1, "")
    assert "this agent takes prompts, not commands" in ended.stderr


def test_without_wait_it_says_how_to_follow_the_task(desk: Place) -> None:
    ended = desk.run("task", "submit", "--", "echo", "later")
    (seq,) = re.findall(r"^task (\d+) to queue/default is stored; follow it with: orchestra task watch", ended.stdout)
    watched = desk.run("task", "watch", seq)
    assert (watched.code, watched.stdout) == (0, "later\n")


def test_as_json_with_wait_there_is_one_document_and_no_talk(desk: Place) -> None:
    ended = desk.run("task", "submit", "--wait", "--json", "--", "sh", "-c", "echo out; exit 3")
    assert ended.code == 1
    data = ended.data
    assert (data["state"], data["attempt"], data["output"]) == ("failed", 1, "out\n")
    assert data["report"] | {"duration_ms": 0} == {
        "exit_code": 3,
        "code": "exit_code",
        "text": "exit code 3",
        "duration_ms": 0,
        "output_bytes": 4,
        "is_cut": False,
    }


def test_a_long_output_is_cut_in_the_middle_and_says_where_the_whole_is(desk: Place) -> None:
    script = "echo first; head -c 400000 /dev/zero | tr '\\0' x; echo last"
    ended = desk.run("task", "submit", "--wait", "--", "sh", "-c", script)
    assert ended.stdout.startswith("first\nxxx")
    assert ended.stdout.endswith("xxxlast\n")
    (where,) = re.findall(r"bytes are cut here; the whole output is in (\S+) on the agent's machine", ended.stdout)
    assert Path(where).read_text() == "first\n" + "x" * 400_000 + "last\n"


def test_on_a_terminal_the_output_is_shown_once_as_it_comes(desk: Place, tmp_path: Path) -> None:
    script = "echo early; sleep 0.2; echo late"
    ended = desk.run_on_terminal("task", "submit", "--wait", "--", "sh", "-c", script)
    assert ended.code == 0
    assert ended.stdout.count("early") == ended.stdout.count("late") == 1
    assert ended.stdout.index("early") < ended.stdout.index("late") < ended.stdout.index("completed")


def test_ctrl_c_while_waiting_leaves_the_task_at_work_and_says_how_to_stop_it(desk: Place, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    waiting = desk.start((*ORCHESTRA, "task", "submit", "--wait", "--", "sh", "-c", f"touch {begun}; sleep 600"))
    wait_until(begun.exists, "the task to begin")
    waiting.signal(signal.SIGINT)
    ended = waiting.wait_end()
    assert ended.code == 130
    (seq,) = re.findall(r"^task (\d+) goes on; stop it with: orchestra task cancel \1$", ended.stderr, re.MULTILINE)
    assert "Traceback" not in ended.stderr
    assert _state(desk, int(seq)) == "working"
    assert desk.run("task", "cancel", seq).code == 0
    assert desk.run("task", "watch", seq).code == 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--to", "agent/nobody", "--", "true"], 1, "no peer agent/nobody is known here"),
        (["--to", "matrix/x", "--", "true"], 2, "takes no tasks; submit to agent/NAME or queue/NAME"),
        (["--to", "x", "--", "true"], 2, "'x' is not an address"),
        (["--timeout", "0", "--", "true"], 2, "timeout_s is 0.0; it must be more than 0"),
        (["--timeout", "nan", "--", "true"], 2, "must be more than 0"),
        (["--as", "agent/idle", "--", "true"], 3, "agent/idle may not submit tasks to queue/default"),
        (["--as", "matrix/nobody", "--", "true"], 3, "matrix-nobody.key; it is made by: orchestra join"),
        (["", "--to", "agent/echoer"], 2, "a task needs a prompt or an argv"),
    ],
)
def test_what_can_not_be_submitted_is_one_sentence(
    desk: Place, known: Callable[[str], str], words: list[str], code: int, sentence: str
) -> None:
    known("agent/idle")
    assert sentence in desk.run("task", "submit", *words).assert_is_one_sentence(code)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give a prompt"),
        (["two", "words"], "a prompt is one text; quote it"),
        (["--"], "give a prompt"),
        (["--wait", "--priority", "asap", "x"], "asap"),
    ],
)
def test_wrong_usage_of_submit_is_explained(desk: Place, words: list[str], sentence: str) -> None:
    ended = desk.run("task", "submit", *words)
    assert ended.code == 2
    assert sentence in ended.stderr


# Looking, following, ending.


def test_a_task_nobody_serves_waits_and_its_sender_is_told_so(desk: Place) -> None:
    ended = desk.run("task", "submit", "--to", "queue/unserved", "--", "true")
    assert ended.code == 0
    assert ended.stderr == "no agent serves queue/unserved now; the task waits until one does\n"
    (seq,) = re.findall(r"^task (\d+) ", ended.stdout)
    assert _state(desk, int(seq)) == "queued"
    assert "1 for queue/unserved" in desk.run("status").stdout

    ended = desk.run("task", "cancel", seq)
    assert (ended.code, ended.stdout) == (0, f"task {seq} is canceled\n")
    assert _state(desk, int(seq)) == "canceled"
    assert f"task {seq} is over" in desk.run("task", "cancel", seq).assert_is_one_sentence(5)
    assert desk.run("task", "watch", seq).code == 1


def test_canceling_a_running_task_stops_its_processes(desk: Place, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = 'sleep 600 & echo $$ $! > "$0.new"; mv "$0.new" "$0"; wait'
    seq = _submit(desk, "--", "sh", "-c", script, str(told))
    wait_until(told.exists, "the task to begin")
    pids = [int(pid) for pid in told.read_text().split()]
    assert len(pids) == 2
    ended = desk.run("task", "cancel", str(seq))
    assert (ended.code, ended.stdout.split(";")[0]) == (0, f"task {seq} is being stopped")
    watched = desk.run("task", "watch", str(seq))
    assert watched.code == 1
    assert watched.stderr.startswith(f"task {seq} canceled after ")
    assert not [pid for pid in pids if is_alive(pid)]


def test_show_tells_everything_about_one_task(desk: Place) -> None:
    seq = _submit(desk, "--", "sh", "-c", "echo out; exit 4")
    desk.run("task", "watch", str(seq))
    shown = desk.run("task", "show", str(seq))
    assert shown.code == 0
    head, _, output = shown.stdout.partition("\n\n")
    assert output == "out\n"
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in head.splitlines())
    assert facts["task"] == f"{seq}  sh -c echo out; exit 4"
    assert facts["state"] == "failed: exit code 4"
    assert facts["exit code"] == "4"
    assert facts["to"] == "queue/default"
    assert facts["agent"].startswith("agent/exec-")
    data: dict[str, Any] = desk.run("task", "show", str(seq), "--json").data
    assert (data["argv"], data["prompt"]) == (["sh", "-c", "echo out; exit 4"], "")
    assert (data["output"], data["report"]["exit_code"]) == ("out\n", 4)


@pytest.mark.parametrize("command", ["show", "watch"])
def test_a_task_that_does_not_exist_is_not_found(desk: Place, command: str) -> None:
    assert "there is no task 999999" in desk.run("task", command, "999999").assert_is_one_sentence(1)


@pytest.mark.parametrize("seq", ["0", "-1", "x", "1.5"])
def test_a_task_number_is_a_number(desk: Place, seq: str) -> None:
    assert desk.run("task", "show", "--", seq).code == 2


def test_list_shows_the_newest_first_and_only_what_was_asked_for(desk: Place) -> None:
    seqs = [_submit(desk, "--", "echo", f"number {number}") for number in range(3)]
    for seq in seqs:
        desk.run("task", "watch", str(seq))
    rows = [line.split("\t") for line in desk.run("task", "list", "--limit", "2").stdout.splitlines()]
    assert rows[0] == ["ID", "STATE", "TO", "AGENT", "SENT", "WHAT"]
    assert [(row[0], row[1], row[5]) for row in rows[1:]] == [
        (str(seqs[2]), "completed", "echo number 2"),
        (str(seqs[1]), "completed", "echo number 1"),
    ]
    assert {each["state"] for each in desk.run("task", "list", "--only", "completed", "--json").data} == {"completed"}


def test_an_empty_list_says_so_and_ends_with_1(desk: Place) -> None:
    ended = desk.run("task", "list", "--only", "dead")
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", "no tasks\n")
    assert desk.run("task", "list", "--only", "dead", "--json").data == []


def test_the_words_of_a_task_can_not_drive_a_terminal(desk: Place) -> None:
    seq = _submit(desk, "--to", "queue/unseen", "--", "true", "\x1b]0;owned\x07")
    for ended in (desk.run("task", "list"), desk.run("task", "show", str(seq))):
        assert "owned" in ended.stdout
        assert not set("\x1b\x07") & set(ended.stdout)
    assert "\x1b]0" not in desk.run_on_terminal("task", "list").stdout
