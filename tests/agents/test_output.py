from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.agents.output import HEAD_BYTES, TAIL_BYTES, Output
from orchestra.limits import OUTPUT_BYTES_MAX

NOTE = re.compile(rb"\n\[\.\.\. (\d+) bytes are cut here(.*?) \.\.\.\]\n", re.DOTALL)
PIECES = st.lists(st.integers(0, 100_000), max_size=12)


def _printed(sizes: list[int]) -> list[bytes]:
    """Return pieces of text in which every place can be told from every other."""
    whole = b"".join(b"%07d\n" % number for number in range(sum(sizes) // 8 + 1))
    pieces, start = [], 0
    for size in sizes:
        pieces.append(whole[start : start + size])
        start += size
    return pieces


def _collect(spool: Path, pieces: list[bytes]) -> Output:
    output = Output(spool)
    for piece in pieces:
        output.add(piece)
    return output


@settings(max_examples=60, deadline=None)
@given(PIECES)
def test_whatever_is_printed_the_result_is_all_of_it_or_its_head_and_tail_within_the_limit(sizes: list[int]) -> None:
    pieces = _printed(sizes)
    whole = b"".join(pieces)
    with tempfile.TemporaryDirectory() as folder:
        output = _collect(Path(folder) / "outputs" / "task-1-1.log", pieces)
        result = output.result()
        output.close()
        assert output.bytes == len(whole)
        assert output.is_cut == (len(whole) > OUTPUT_BYTES_MAX)
        if not output.is_cut:
            assert result == whole
            assert output.file is None
            assert list(Path(folder).iterdir()) == []
            return
        assert len(result) <= OUTPUT_BYTES_MAX
        assert output.file is not None
        assert output.file.read_bytes() == whole
    head, missing, where, tail = NOTE.split(result)
    assert (len(head), len(tail)) == (HEAD_BYTES, TAIL_BYTES)
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) + int(missing) + len(tail) == len(whole)
    assert b"task-1-1.log on the agent's machine" in where


@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES, HEAD_BYTES + 1, OUTPUT_BYTES_MAX - 1, OUTPUT_BYTES_MAX])
def test_up_to_the_limit_nothing_is_cut_and_no_file_is_made(tmp_path: Path, size: int) -> None:
    pieces = _printed([size])
    output = _collect(tmp_path / "spool", pieces)
    assert not output.is_cut
    assert output.result() == pieces[0]
    assert not (tmp_path / "spool").exists()


def test_one_byte_above_the_limit_is_cut(tmp_path: Path) -> None:
    pieces = _printed([OUTPUT_BYTES_MAX, 1])
    output = _collect(tmp_path / "spool", pieces)
    assert output.is_cut
    assert len(output.result()) <= OUTPUT_BYTES_MAX
    output.close()
    assert (tmp_path / "spool").read_bytes() == b"".join(pieces)


def test_what_was_printed_is_in_the_file_before_it_is_closed(tmp_path: Path) -> None:
    pieces = _printed([OUTPUT_BYTES_MAX, 1, 1])
    output = _collect(tmp_path / "spool", pieces)
    assert (tmp_path / "spool").read_bytes() == b"".join(pieces)
    output.close()


def test_a_spool_with_a_long_path_leaves_the_result_within_the_limit(tmp_path: Path) -> None:
    spool = tmp_path.joinpath(*["x" * 200] * 8, "spool")
    output = _collect(spool, _printed([OUTPUT_BYTES_MAX + 1000]))
    assert len(output.result()) <= OUTPUT_BYTES_MAX
    output.close()


def test_the_spool_is_bounded_and_the_tail_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.output.SPOOL_BYTES_MAX", 2 * OUTPUT_BYTES_MAX)
    pieces = _printed([50_000] * 20)
    output = _collect(tmp_path / "spool", pieces)
    result = output.result()
    output.close()
    assert (tmp_path / "spool").stat().st_size == 2 * OUTPUT_BYTES_MAX
    assert b"".join(pieces).startswith((tmp_path / "spool").read_bytes())
    assert result.endswith(pieces[-1])


def test_the_folder_of_the_spool_is_for_this_user_alone(tmp_path: Path) -> None:
    output = _collect(tmp_path / "outputs" / "spool", _printed([OUTPUT_BYTES_MAX + 1]))
    output.close()
    assert (tmp_path / "outputs").stat().st_mode & 0o077 == 0


def test_a_spool_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file in the way")
    with pytest.raises(OSError, match="outputs"):
        _collect(tmp_path / "outputs" / "spool", _printed([OUTPUT_BYTES_MAX + 1]))
