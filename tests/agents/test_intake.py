"""Which files are taken from a folder, and what becomes of the others."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.agents.folder import Folder
from orchestra.agents.intake import Arrival, Intake
from orchestra.agents.patience import Patience
from orchestra.agents.trust import Trust
from orchestra.errors import BadFile

ME = os.geteuid()
TRUST = Trust(ME, "me", ME, 10_000)
GOOD = json.dumps({"id": 7, "prompt": "x"})


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Path]:
    umask = os.umask(0o022)
    folder = tmp_path / "inbox" / "1"
    folder.mkdir(parents=True)
    yield folder
    os.umask(umask)


def look(inbox: Path, intake: Intake | None = None) -> list[Arrival]:
    with Folder(inbox, TRUST) as folder:
        return list((intake or Intake(TRUST, patience=Patience(settle_s=0))).read(folder, skip=set()))


def a_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_text(GOOD)
    path.symlink_to(target)


def a_hard_link(path: Path) -> None:
    path.write_text(GOOD)
    path.with_name("elsewhere").hardlink_to(path)


def of_others(path: Path) -> None:
    path.write_text(GOOD)
    path.chmod(0o666)


def in_a_folder_of_others(path: Path) -> None:
    path.write_text(GOOD)
    path.parent.chmod(0o777)


def in_a_folder_of_the_group(path: Path) -> None:
    path.write_text(GOOD)
    path.parent.chmod(0o775)


KINDS: list[tuple[Callable[[Path], object], str]] = [
    (a_link, "symbolic link"),
    (a_hard_link, "second name"),
    (of_others, "others may write it"),
    (in_a_folder_of_others, "chmod go-w"),
    (in_a_folder_of_the_group, "chmod go-w"),
    (os.mkfifo, "not a regular file"),
    (Path.mkdir, "not a regular file"),
    (lambda path: path.write_text(json.dumps({"id": 7, "prompt": "x" * 10_000})), "the limit is 10000"),
    (lambda path: path.write_text('{"id": 7, "prompt": "x"'), "not valid JSON"),
    (lambda path: path.write_text(""), "it is empty"),
    (lambda path: path.write_bytes(GOOD.encode("utf-16")), "not UTF-8"),
    (lambda path: path.write_text('{"id": 7}'), "no prompt"),
    (lambda path: path.write_text('{"id": "a/b", "prompt": "x"}'), "name of a result file"),
]


@pytest.mark.parametrize(("make", "why"), KINDS)
def test_what_is_not_to_be_trusted_is_put_away_with_the_reason_and_counted(
    inbox: Path, make: Callable[[Path], object], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(inbox / "a.json")
    intake = Intake(TRUST, patience=Patience(settle_s=0))
    assert look(inbox, intake) == []
    assert os.path.lexists(inbox / ".refused" / "a.json")
    assert not os.path.lexists(inbox / "a.json")
    assert why in (inbox / ".refused" / "a.json.reason").read_text()
    assert intake.refused == 1
    assert "is refused" in caplog.text


def test_a_file_of_another_user_is_not_taken(inbox: Path) -> None:
    (inbox / "a.json").write_text(GOOD)
    theirs = Trust(ME + 1, "them", ME, 10_000)
    with Folder(inbox, theirs) as folder:
        assert list(Intake(theirs).read(folder, skip=set())) == []
    assert f"does not belong to them but to the user {ME}" in (inbox / ".refused" / "a.json.reason").read_text()


def test_a_folder_of_a_stranger_is_trusted_no_more_than_one_that_others_write() -> None:
    with pytest.raises(BadFile, match="does not belong to me"):
        Trust(1000, "me", 1000, 1).check_folder(mode=0o40755, uid=1001, name="1")
    for uid in (0, 1000):
        Trust(1000, "me", 1000, 1).check_folder(mode=0o40755, uid=uid, name="1")


def test_a_folder_that_is_a_link_is_not_entered(inbox: Path) -> None:
    link = inbox.with_name("2")
    link.symlink_to(inbox)
    with pytest.raises(BadFile, match="is a link"):
        look(link)


def test_nothing_is_put_away_through_a_link_that_somebody_laid(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (inbox / ".refused").symlink_to(tmp_path / "away")
    (inbox / "a.json").write_text("[]")
    assert look(inbox) == []
    assert (inbox / "a.json").exists()
    assert not list((tmp_path / "away").iterdir())


def test_a_file_is_waited_for_while_it_grows_and_no_longer_than_the_bound() -> None:
    patience = Patience(settle_s=5, wait_s=60)
    for second in range(0, 60, 4):
        assert not patience.is_over("1", "a", second, now=second), "it grows every 4 seconds"
    assert patience.is_over("1", "a", 60, now=60)
    assert not patience.is_over("1", "b", 0, now=100)
    assert not patience.is_over("1", "b", 0, now=104)
    assert patience.is_over("1", "b", 0, now=105), "it has not changed for 5 seconds"
    patience.forget_others("1", ["a"])
    assert not patience.is_over("1", "b", 0, now=200), "it was whole meanwhile, and is another"


def test_a_file_that_is_half_written_stays_until_it_is_whole(inbox: Path) -> None:
    intake = Intake(TRUST)
    (inbox / "a.json").write_text(GOOD[:-3])
    assert look(inbox, intake) == []
    (inbox / "a.json").write_text(GOOD)
    (arrival,) = look(inbox, intake)
    assert (arrival.folder, arrival.name, arrival.task.id) == ("1", "a.json", 7)


def test_files_come_in_the_order_of_their_bytes_whatever_they_are_called(inbox: Path) -> None:
    names = [b"\xff.json", b"b.json", b"10.json", b"9.json", b"B.json", "é.json".encode(), b"a b\n.json"]
    for name in (*names, b".draft.json", b"note.txt", b"c.json.tmp"):
        (inbox / os.fsdecode(name)).write_text(GOOD)
    assert [os.fsencode(each.name) for each in look(inbox)] == sorted(names)


def test_another_task_under_the_name_of_one_that_is_put_away_stays(inbox: Path) -> None:
    (inbox / "a.json").write_text(GOOD)
    (arrival,) = look(inbox)
    (inbox / "a.json").write_text(GOOD.replace("x", "another"))
    with Folder(inbox, TRUST) as folder:
        arrival.put_away(folder)
        assert (inbox / "a.json").read_text() == GOOD.replace("x", "another")
        (inbox / "a.json").write_text(GOOD)
        arrival.put_away(folder)
    assert not (inbox / "a.json").exists()
    assert (inbox / ".taken" / "a.json").read_text() == GOOD


def test_a_name_that_was_put_away_before_is_kept_beside(inbox: Path) -> None:
    for content in ("[]", "[1]", "[2]"):
        (inbox / "a.json").write_text(content)
        look(inbox)
    kept = {path.name: path.read_text() for path in (inbox / ".refused").glob("*.json")}
    assert kept == {"a.json": "[]", "a.2.json": "[1]", "a.3.json": "[2]"}


def test_what_was_put_away_goes_when_there_is_too_much_of_it(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.folder.FILES_KEPT_MAX", 2)
    with Folder(inbox, TRUST) as folder:
        for number in range(4):
            (inbox / f"{number}.json").write_text(GOOD)
            folder.take(f"{number}.json")
            os.utime(inbox / ".taken" / f"{number}.json")
        folder.prune()
    assert len(list((inbox / ".taken").iterdir())) == 2


def test_a_priority_that_is_not_known_is_told(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    (inbox / "a.json").write_text(json.dumps({"id": 1, "prompt": "x", "priority": "critical"}))
    with caplog.at_level(logging.WARNING):
        assert len(look(inbox)) == 1
    assert "'critical' is not known" in caplog.text


def test_a_draft_is_published_once_and_replaces_what_had_the_name(inbox: Path) -> None:
    (inbox / "result_1.json").write_text("older")
    with Folder(inbox, TRUST) as folder:
        folder.write_draft(".draft", b"newer")
        assert (inbox / "result_1.json").read_text() == "older"
        assert folder.publish(".draft", "result_1.json")
        assert not folder.publish(".draft", "result_1.json")
    assert (inbox / "result_1.json").read_text() == "newer"
