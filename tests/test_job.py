"""What a task asks for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BadOption
from orchestra.job import TIMEOUT_S_DEFAULT, Job, decode_job, title_of
from orchestra.wire import pack

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(
    st.one_of(
        st.tuples(TEXTS.filter(bool), st.just(())),
        st.tuples(st.just(""), st.lists(TEXTS, min_size=1, max_size=5).map(tuple)),
    ),
    TEXTS,
    st.floats(0.001, 1e9),
    TEXTS,
)
def test_a_job_comes_out_as_it_went_in(
    what: tuple[str, tuple[str, ...]], cwd: str, timeout_s: float, context: str
) -> None:
    job = Job(prompt=what[0], argv=what[1], cwd=cwd, timeout_s=timeout_s, context=context)
    assert decode_job(job.encode()) == job


@given(st.binary(max_size=100))
def test_any_body_is_a_job_or_a_bad_option(body: bytes) -> None:
    try:
        decode_job(body)
        return
    except BadOption as error:
        sentence = str(error)
    assert len(sentence) < 200


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": ""},
        {"prompt": "x", "argv": ["y"]},
        {"argv": []},
        {"argv": [1]},
        {"argv": [["x"]]},
        {"argv": "rm -rf"},
        {"argv": ["a\0b"]},
        {"prompt": "x", "cwd": "/tmp\0"},
        {"prompt": "x", "timeout_s": 0},
        {"prompt": "x", "timeout_s": -1},
        {"prompt": "x", "timeout_s": float("nan")},
        {"prompt": "x", "timeout_s": True},
        {"prompt": "x", "timeout_s": "9"},
        {"prompt": "x", "unknown": 1},
        {"prompt": b"x"},
        {"prompt": None},
    ],
)
def test_a_body_that_is_no_job_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        decode_job(pack(fields))


@pytest.mark.parametrize("body", [b"", b"\xc1", pack([]), pack("x"), pack({1: 2}), b"\x91" * 5000])
def test_what_is_no_map_is_refused(body: bytes) -> None:
    with pytest.raises(BadOption):
        decode_job(body)


def test_a_job_that_does_not_say_has_the_default_timeout() -> None:
    assert decode_job(pack({"prompt": "x"})).timeout_s == TIMEOUT_S_DEFAULT


def test_a_title_is_one_line() -> None:
    assert Job(prompt="fix\n\n  the \t bug").title == "fix the bug"
    assert Job(argv=("git", "log", "-3")).title == "git log -3"


@pytest.mark.parametrize(
    "job",
    [
        Job(prompt="x"),
        Job(prompt="say \n hello " * 5, cwd="/tmp"),
        Job(prompt="é" * 200),
        Job(prompt="word " * 20_000, context="x"),
        Job(argv=("git", "log", "--oneline")),
        Job(argv=("echo", *(["many"] * 400))),
    ],
)
def test_the_title_begins_the_same_where_the_body_was_cut(job: Job) -> None:
    body = job.encode()
    assert title_of(body) == job.title
    for size in (12, 40, 300, 1000):
        cut = title_of(body[:size])
        assert job.title.startswith(cut.rstrip("\N{REPLACEMENT CHARACTER}"))
        assert len(cut) >= min(len(job.title), size // 4 - 20)


@given(st.binary(max_size=100))
def test_any_body_has_a_title_of_one_line(body: bytes) -> None:
    assert len(title_of(body).splitlines()) <= 1
