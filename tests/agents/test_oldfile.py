"""The shapes of the old protocol's files."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.agents.oldfile import OldResult, OldTask, agent_id, key_of, read_result, read_task, task_of
from orchestra.errors import BadFile, BadOption, UnfinishedFile
from orchestra.job import Job
from orchestra.task import Priority

FULL = {
    "id": "t-1",
    "prompt": "Mend it",
    "context": "in main",
    "priority": "high",
    "working_dir": "/srv/clone",
    "session_id": "s9",
    "auto_save_session": True,
}


def read(**fields: Any) -> OldTask:
    return read_task(json.dumps({"id": 1, "prompt": "x", **fields}).encode(), stem="file")


def test_a_task_file_becomes_a_job_and_what_it_says_of_the_session_travels_in_the_context() -> None:
    task = read_task(json.dumps(FULL).encode(), stem="file")
    job = task.job()
    assert (task.id, task.priority, job.prompt, job.cwd) == ("t-1", Priority.HIGH, "Mend it", "/srv/clone")
    assert json.loads(job.context) == {"context": "in main", "session_id": "s9", "auto_save_session": True}
    assert task_of(job, task_id="t-1", priority=Priority.HIGH) == task, "and comes back from there"


def test_a_context_alone_is_passed_on_as_it_is_and_one_that_is_no_text_as_json() -> None:
    assert read(context="as it is").job().context == "as it is"
    assert read(context={"a": [1]}).job().context == '{"a": [1]}'
    assert read(context=None).job().context == ""


def test_only_id_and_prompt_have_to_be_there_and_unknown_fields_do_no_harm() -> None:
    assert read(more=1).job() == Job(prompt="x")
    assert read_task(b'{"prompt": "x"}', stem="file").id == "file"
    assert read_task(b'\xef\xbb\xbf{"id": 1, "prompt": "x"}', stem="file").id == 1, "a byte order mark does no harm"


@pytest.mark.parametrize(
    ("word", "priority", "odd"),
    [
        (None, "normal", ""),
        ("low", "low", ""),
        ("HIGH", "high", ""),
        ("urgent", "urgent", ""),
        ("critical", "normal", "'critical'"),
        (3, "normal", "3"),
    ],
)
def test_a_word_for_the_priority_that_is_not_known_counts_as_normal(word: object, priority: str, odd: str) -> None:
    task = read(priority=word)
    assert (task.priority, task.odd_priority) == (priority, odd)


BAD: list[tuple[bytes, str]] = [
    (b'{"id": 1}', "no prompt"),
    (b'{"id": 1, "prompt": "  "}', "no prompt"),
    (b'{"id": 1, "prompt": ["x"]}', "no prompt"),
    (b'["x"]', "not an object"),
    (b'{"id": [1], "prompt": "x"}', "id must be"),
    (b'{"id": true, "prompt": "x"}', "id must be"),
    (b'{"id": "../../etc/passwd", "prompt": "x"}', "name of a result file"),
    (b'{"id": "", "prompt": "x"}', "name of a result file"),
    (b'{"id": "a\\nb", "prompt": "x"}', "name of a result file"),
    (b'{"id": "%s", "prompt": "x"}' % (b"x" * 201), "name of a result file"),
    (b'{"id": 1, "prompt": "x\\ud800"}', "half a character"),
    (b'{"id": 1, "prompt": "x", "working_dir": 7}', "working_dir"),
    (b'{"id": 1, "prompt": "x", "working_dir": "a\\u0000b"}', "working_dir"),
    (b"[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("data", "why"), BAD)
def test_what_can_not_be_run_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadFile, match=why) as caught:
        read_task(data, stem="file")
    assert not isinstance(caught.value, UnfinishedFile), "waiting does not mend it"


@pytest.mark.parametrize(
    "data", [b"", b"  ", b'{"id": 1, "prom', b'{"id": 1, "prompt": "\xff"}', '{"id":1}'.encode("utf-16")]
)
def test_what_may_be_half_written_is_told_from_what_is_wrong(data: bytes) -> None:
    with pytest.raises(UnfinishedFile):
        read_task(data, stem="file")


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text() | st.booleans(), st.lists).map(
        lambda value: json.dumps({"id": value, "prompt": value, "context": value, "priority": value}).encode()
    )
)
def test_reading_raises_nothing_but_our_errors_and_what_was_read_can_be_sent(data: bytes) -> None:
    with suppress(BadFile):
        read_task(data, stem="file").job().encode()


def test_no_beginning_of_a_task_file_is_taken_for_a_task() -> None:
    data = json.dumps(FULL).encode()
    for length in range(len(data)):
        with pytest.raises(UnfinishedFile):
            read_task(data[:length], stem="file")


def test_a_command_is_nothing_for_an_old_agent() -> None:
    with pytest.raises(BadOption, match="prompts, not commands"):
        task_of(Job(argv=("true",)), task_id=1, priority=Priority.NORMAL)


def test_a_result_that_was_written_is_read_again() -> None:
    written = OldResult("t-1", 3, "error", "no such branch", "2026-01-31T14:05:00Z", "2026-01-31T14:05:01Z", 1000)
    read_back = read_result(written.encode(), task_id="t-1")
    assert (read_back.status, read_back.output, read_back.duration_ms) == ("error", "no such branch", 1000)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"task_id": 8}, "task_id is not 7"),
        ({"status": "done"}, "status must be"),
        ({"output": "\ud800"}, "half a char"),
    ],
)
def test_a_result_of_another_task_or_without_a_status_is_none(fields: dict[str, Any], why: str) -> None:
    data = json.dumps({"task_id": 7, "agent_id": 1, "status": "completed", "output": "x", **fields}).encode()
    with pytest.raises(BadFile, match=why):
        read_result(data, task_id="7")


def test_an_error_of_an_old_agent_may_stand_in_a_field_of_its_own() -> None:
    data = json.dumps({"task_id": 7, "agent_id": 1, "status": "error", "error": "out of memory"}).encode()
    assert read_result(data, task_id=7).output == "out of memory"


def test_the_key_of_a_file_changes_with_its_folder_its_name_and_its_content() -> None:
    keys = {
        key_of("/in/1", b"a", b"xy"),
        key_of("/in/2", b"a", b"xy"),
        key_of("/in/1", b"ax", b"y"),
        key_of("/in/1", b"a", b"x"),
    }
    assert len(keys) == 4
    assert key_of("/in/1", b"\xff", b"xy") == key_of("/in/1", b"\xff", b"xy")


def test_an_agents_id_is_a_number_where_its_folder_is_one() -> None:
    assert (agent_id("12"), agent_id("coder"), agent_id("²")) == (12, "coder", "²")
