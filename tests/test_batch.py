"""A file of tasks: read whole, or refused with every fault and its line."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.batch import read_batch
from orchestra.errors import BadOption
from orchestra.job import Job
from orchestra.terms import Terms


def _read(*lines: dict[str, Any] | str) -> list[Any]:
    return read_batch((each if isinstance(each, str) else json.dumps(each) for each in lines), to="queue/q", cwd="/w")


def test_a_line_is_a_task_with_all_it_says() -> None:
    [line] = _read(
        {
            "id": "a", "prompt": "review", "to": "agent/r", "cwd": "/x", "timeout_s": 5, "context": "c",
            "priority": "high", "depends_on": [7], "max_attempts": 3, "backoff_s": 0.5, "backoff_max_s": 9,
            "expires_s": 60, "not_before_s": 1e9, "budget": 1.5, "key": "k",
        }
    )  # fmt: skip
    assert line.job == Job(prompt="review", cwd="/x", timeout_s=5.0, context="c")
    assert (line.id, line.to, line.priority, line.key, line.after) == ("a", "agent/r", "high", "k", ())
    assert line.terms == Terms((7,), 3, 500, 9000, 60_000, 10**12, 1.5)


def test_what_a_line_does_not_say_is_as_for_one_task() -> None:
    command, prompt = _read({"argv": ["make"]}, "", {"prompt": "x"})
    assert (command.to, command.job.cwd, command.number) == ("queue/q", "/w", 1)
    assert (prompt.job.cwd, prompt.number) == ("", 3)
    assert command.terms == Terms()


def test_every_fault_is_told_with_its_line_and_nothing_is_taken() -> None:
    with pytest.raises(BadOption) as told:
        _read({"prompt": "x"}, "{", {"prompt": "x", "colour": 1}, {}, {"prompt": "x", "depends_on": ["no"]}, "[]")
    text = str(told.value)
    assert text.startswith("nothing was sent:\nline 2: it is not JSON")
    for part in ("line 3: the field 'colour'", "line 4: a task needs a prompt", "line 5: it depends on 'no'", "line 6"):
        assert part in text


@pytest.mark.parametrize(
    "fields",
    [
        {"to": "matrix/m"}, {"to": "nonsense"}, {"to": 1}, {"argv": "ls"}, {"timeout_s": "1"}, {"timeout_s": 0},
        {"priority": "soon"}, {"priority": []}, {"depends_on": "a"}, {"depends_on": [1.5]}, {"depends_on": [0]},
        {"max_attempts": 0}, {"backoff_s": -1}, {"expires_s": True}, {"not_before_s": "14:05"}, {"budget": [1]},
        {"id": ""}, {"depends_on": [f"x{i}" for i in range(65)]}, {"key": ""}, {"key": 1}, {"id": 7}, {"cwd": "a\0b"},
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match="line 1: "):
        _read({"prompt": "x", **fields})


def test_two_lines_with_one_id_are_refused() -> None:
    with pytest.raises(BadOption, match="line 2: the id 'a' is taken by line 1"):
        _read({"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"})


def test_a_cycle_is_refused_with_its_members_in_order() -> None:
    lines = [{"id": each, "prompt": "x", "depends_on": [after]} for each, after in ("ab", "bc", "ca", "da")]
    with pytest.raises(BadOption, match="wait for each other: a → b → c → a"):
        _read(*lines)
    with pytest.raises(BadOption, match="a → a"):
        _read({"id": "a", "prompt": "x", "depends_on": ["a"]})


def test_a_file_without_tasks_is_refused() -> None:
    with pytest.raises(BadOption, match="no task"):
        _read("", " ")


def test_a_long_chain_is_no_trouble() -> None:
    lines = [{"id": f"{i}", "prompt": "x", "depends_on": [f"{i + 1}"]} for i in range(5000)]
    assert _read(*lines, {"id": "5000", "prompt": "x"})[0].id == "5000"


@given(st.integers(2, 9).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(*2 * [st.integers(0, n - 1)])))))
def test_dependencies_come_first_or_there_is_a_cycle(graph: tuple[int, set[tuple[int, int]]]) -> None:
    count, edges = graph
    lines = [
        {"id": f"{i}", "prompt": "x", "depends_on": [f"{after}" for each, after in sorted(edges) if each == i]}
        for i in range(count)
    ]
    try:
        ordered = [int(line.id) for line in _read(*lines)]
    except BadOption as error:
        cycle = [int(each) for each in str(error).rpartition(": ")[2].split(" → ")]
        assert cycle[0] == cycle[-1]
        assert all(pair in edges for pair in pairwise(cycle))
        return
    assert sorted(ordered) == list(range(count))
    assert all(ordered.index(after) < ordered.index(each) for each, after in edges)


@given(st.text())
def test_any_text_is_no_task(text: str) -> None:
    with pytest.raises(BadOption):
        read_batch([*text.splitlines(), "{}"], to="queue/q")
