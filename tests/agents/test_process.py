"""One task as a process: real ones, small and quick."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra.agents import process
from orchestra.agents.output import Output
from orchestra.agents.plan import Plan
from orchestra.agents.process import Ending
from orchestra.agents.warden import Watch
from orchestra.limits import OUTPUT_BYTES_MAX

from ..system.programs import is_alive, wait_until

BOUND_S = 20.0


class FakeWarden:
    """Remembers what it is told, by the processes themselves through a pipe as with the real one."""

    def __init__(self) -> None:
        self._pipe, self._told_by = os.pipe()

    def watch(self) -> Watch:
        return Watch(self._told_by, 1)

    def told(self) -> list[str]:
        """Return the lines, and close."""
        os.close(self._told_by)
        with os.fdopen(self._pipe) as lines:
            return lines.read().splitlines()


class Ran:
    """How a plan went."""

    def __init__(self, ending: Ending, output: bytes, printed: bytes, told: list[str]) -> None:
        self.ending, self.output, self.printed, self.told = ending, output, printed, told

    @property
    def pids(self) -> list[int]:
        return [int(word) for word in self.output.split() if word.isdigit()]


class Running:
    """A plan being run. `stop` ends it; `wait_printed` waits for its output."""

    def __init__(
        self,
        argv: tuple[str, ...],
        *,
        stdin: bytes | None = None,
        cwd: str = "",
        timeout_s: float = BOUND_S,
        environment: dict[str, str] | None = None,
        waited: Callable[[], float] = lambda: 0.0,
        spool: Path = Path("/nonexistent/spool"),
    ) -> None:
        self.stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._warden = FakeWarden()
        self._printed = bytearray()
        self._arrived = asyncio.Event()
        self._output = Output(spool)
        self._task = asyncio.ensure_future(
            process.run(
                Plan(argv, stdin, cwd),
                self._output,
                environment=environment or {},
                timeout_s=timeout_s,
                warden=self._warden,  # type: ignore[arg-type]
                stop=self.stop,
                printed=self._print,
                waited=waited,
            )
        )

    def _print(self, data: bytes) -> None:
        self._printed += data
        self._arrived.set()

    async def wait_printed(self, text: bytes) -> None:
        async with asyncio.timeout(BOUND_S):
            while text not in self._printed:
                self._arrived.clear()
                await self._arrived.wait()

    async def end(self) -> Ran:
        try:
            ending = await asyncio.wait_for(self._task, 2 * BOUND_S)
        finally:
            self.told = self._warden.told()
        output = self._output.result()
        self._output.close()
        return Ran(ending, output, bytes(self._printed), self.told)


def _run(*argv: str, **options: object) -> Ran:
    async def scenario() -> Ran:
        return await Running(argv, **options).end()  # type: ignore[arg-type]

    return asyncio.run(scenario())


def _sh(script: str, **options: object) -> Ran:
    return _run("sh", "-c", script, **options)


def _assert_gone(pids: list[int]) -> None:
    assert pids
    wait_until(lambda: not any(map(is_alive, pids)), "the processes of the task to be gone")


@pytest.fixture(autouse=True)
def _quick_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait two seconds for programs that ignore SIGTERM."""
    monkeypatch.setattr(process, "KILL_GRACE_S", 0.2)


def test_a_program_that_ends_well_has_exit_code_0_and_no_code() -> None:
    ran = _run("echo", "hello")
    assert (ran.ending.exit_code, ran.ending.code, ran.ending.text) == (0, "", "")
    assert ran.output == ran.printed == b"hello\n"
    assert ran.ending.duration_ms >= 0


def test_an_exit_code_is_reported() -> None:
    ending = _sh("exit 42").ending
    assert (ending.exit_code, ending.code, ending.text) == (42, "exit_code", "exit code 42")


@pytest.mark.parametrize(("number", "name"), [("9", "SIGKILL"), ("SEGV", "SIGSEGV")])
def test_a_signal_is_reported_by_name(number: str, name: str) -> None:
    ending = _sh(f"kill -{number} $$").ending
    assert (ending.exit_code, ending.code, ending.text) == (None, "signal", f"it was ended by {name}")


@pytest.mark.skipif(sys.platform != "linux", reason="real-time signals are Linux'")
def test_a_signal_without_a_name_is_reported_by_number() -> None:
    ending = _sh("kill -40 $$").ending
    assert (ending.code, ending.text) == ("signal", "it was ended by signal 40")


def test_standard_output_and_standard_error_come_in_their_order() -> None:
    assert _sh("echo 1; echo 2 >&2; echo 3; echo 4 >&2").output == b"1\n2\n3\n4\n"


def test_a_prompt_on_standard_input_arrives_whole_and_ends() -> None:
    prompt = bytes(range(256)) * 2000  # more than a pipe holds
    ran = _run("sh", "-c", "wc -c; echo end", stdin=prompt)
    assert ran.output.split() == [b"512000", b"end"]


def test_a_program_that_does_not_read_its_prompt_still_ends_well() -> None:
    ran = _run("true", stdin=b"x" * 1_000_000)
    assert ran.ending.exit_code == 0


def test_without_a_prompt_standard_input_is_empty() -> None:
    assert _run("cat").ending.exit_code == 0


def test_a_program_that_does_not_exist_is_not_started() -> None:
    ending = _run("no-such-program").ending
    assert (ending.exit_code, ending.code) == (None, "not_started")
    assert ending.text == "program 'no-such-program' is not found on the agent's machine"


def test_a_name_of_any_length_does_not_make_the_sentence_long() -> None:
    ending = _run("x" * 100_000).ending
    assert ending.code == "not_started"
    assert len(ending.text) < 300


def test_a_program_that_may_not_be_run_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    ending = _run(str(tmp_path / "program")).ending
    assert (ending.code, ending.text.endswith("can't be started: Permission denied")) == ("not_started", True)


@pytest.mark.parametrize("folder", ["/no/such/folder", "/dev/null", "/" + "x" * 5000])
def test_what_is_not_a_folder_is_named(folder: str) -> None:
    ending = _run("true", cwd=folder).ending
    assert ending.code == "not_started"
    assert ending.text.startswith(f"working directory '{folder[:190]}")
    assert ending.text.endswith("is not a folder on the agent's machine; give another with --cwd")


def test_arguments_that_the_system_does_not_take_are_refused_with_another_way() -> None:
    ending = _run("true", "x" * 3_000_000).ending
    assert ending.code == "not_started"
    assert ending.text.endswith("an agent started with --prompt-by stdin takes long prompts")


def test_what_can_not_be_in_an_environment_is_no_crash() -> None:
    ending = _run("true", environment={"CONTEXT": "a\0b"}).ending
    assert (ending.exit_code, ending.code) == (None, "not_started")


def test_it_runs_in_its_folder_with_its_environment_added_to_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "kept")
    ran = _sh('pwd -P; echo "$OURS $ADDED"', cwd=str(tmp_path), environment={"ADDED": "too"})
    assert ran.output.decode().splitlines() == [str(tmp_path.resolve()), "kept too"]


def test_a_timeout_kills_the_program_and_its_children() -> None:
    ran = _sh("sleep 600 & echo $$ $!; wait", timeout_s=0.3)
    assert (ran.ending.exit_code, ran.ending.code) == (None, "timeout")
    assert ran.ending.text == "it ran longer than its 0.3 s and was killed with its children"
    assert len(ran.pids) == 2
    _assert_gone(ran.pids)


def test_the_time_that_a_task_waits_for_an_answer_does_not_count_against_its_timeout() -> None:
    began = time.monotonic()
    ran = _sh("sleep 0.6; echo done", timeout_s=0.3, waited=lambda: min(time.monotonic() - began, 30.0))
    assert (ran.ending.code, ran.output) == ("", b"done\n")
    ran = _sh("sleep 600", timeout_s=0.1, waited=lambda: 0.1)
    assert ran.ending.code == "timeout"


def test_a_timeout_kills_also_what_ignores_being_asked() -> None:
    ran = _sh("trap '' TERM; (trap '' TERM; sleep 600) & echo $$ $!; while :; do sleep 1; done", timeout_s=0.3)
    assert ran.ending.code == "timeout"
    _assert_gone(ran.pids)


def test_a_program_may_clean_up_when_it_is_asked_to_end() -> None:
    ran = _sh("trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done", timeout_s=0.5)
    assert ran.ending.code == "timeout"
    assert ran.output.startswith(b"ready\n")
    assert ran.output.endswith(b"cleaned\n")


def test_a_child_that_outlives_its_parent_is_killed_though_it_keeps_the_pipe_open() -> None:
    ran = _sh("sleep 600 & echo $!")
    assert (ran.ending.exit_code, ran.ending.code) == (0, "")
    _assert_gone(ran.pids)


def test_a_child_that_outlives_its_parent_is_killed_also_without_the_pipe() -> None:
    ran = _sh("sleep 600 >/dev/null 2>&1 & echo $!; exit 3")
    assert ran.ending.exit_code == 3
    _assert_gone(ran.pids)


def test_a_program_that_closes_its_output_still_runs_to_its_end() -> None:
    ran = _sh("exec >&- 2>&-; sleep 0.2; exit 5")
    assert ran.ending.exit_code == 5


def test_stopping_ends_the_whole_group_and_says_why() -> None:
    async def scenario() -> Ran:
        running = Running(("sh", "-c", "sleep 600 & echo $$ $! ready; wait"))
        await running.wait_printed(b"ready")
        running.stop.set_result("canceled by operator/me")
        return await running.end()

    ran = asyncio.run(scenario())
    assert (ran.ending.code, ran.ending.text) == ("stopped", "canceled by operator/me")
    _assert_gone(ran.pids)


def test_what_was_stopped_before_it_began_does_not_run_on() -> None:
    async def scenario() -> Ran:
        running = Running(("sleep", "600"))
        running.stop.set_result("too late")
        return await running.end()

    assert asyncio.run(scenario()).ending.code == "stopped"


def test_cancelling_the_runner_kills_the_group() -> None:
    async def scenario() -> list[str]:
        running = Running(("sh", "-c", "sleep 600 & echo $$ $! ready; wait"))
        await running.wait_printed(b"ready")
        running._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running.end()
        return running.told

    begin, end = asyncio.run(scenario())
    _assert_gone([int(begin.split()[1])])
    assert end == "-1"


def test_the_warden_knows_the_group_for_as_long_as_it_may_live() -> None:
    ran = _run("sh", "-c", "echo $$; read x", stdin=b"")
    assert ran.told == [f"+1 {ran.pids[0]}", "-1"]


def test_what_did_not_begin_is_not_watched() -> None:
    assert _run("no-such-program").told[-1] == "-1"


def test_output_that_can_not_be_kept_ends_the_task_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = _run("sh", "-c", "yes", spool=tmp_path / "file" / "spool")
    assert ran.ending.code == "output_failed"
    assert "its output can't be kept" in ran.ending.text


def test_a_long_output_is_whole_in_the_spool(tmp_path: Path) -> None:
    size = OUTPUT_BYTES_MAX * 2
    ran = _run("sh", "-c", f"head -c {size} /dev/zero", spool=tmp_path / "spool")
    assert ran.ending.exit_code == 0
    assert len(ran.output) <= OUTPUT_BYTES_MAX
    assert (tmp_path / "spool").stat().st_size == size
    assert len(ran.printed) == size


def test_no_descriptor_is_left_open() -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("our own descriptors are read from /proc")

    def count() -> int:
        return len(list(folder.iterdir()))

    async def scenario() -> tuple[int, int]:
        await Running(("true",)).end()
        before = count()
        for _ in range(5):
            await Running(("sh", "-c", "sleep 600 & cat"), stdin=b"x").end()
            await Running(("no-such-program",)).end()
        return before, count()

    before, after = asyncio.run(scenario())
    assert after <= before


LEAVES = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(child.pid, flush=True)
os._exit(0)
"""


def test_a_child_that_left_the_group_does_not_keep_the_task_from_ending() -> None:
    ran = _run(sys.executable, "-c", LEAVES)
    try:
        assert (ran.ending.exit_code, ran.ending.code) == (0, "")
    finally:
        for pid in ran.pids:
            os.kill(pid, signal.SIGKILL)
