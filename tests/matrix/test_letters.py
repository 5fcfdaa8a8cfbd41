"""The messages of a matrix in its memory: each once, whatever way it came, and what reading them does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestra.conversation import Message
from orchestra.errors import BadOption, NotFound
from orchestra.limits import MEMORY_TEXT_CHARS_MAX
from orchestra.matrix import letters, unsent
from orchestra.memory import exchange, notebook, repair
from orchestra.memory.store import Store

from ..memory.memories import NOW, add, learning

HUB, ME = "cafe", "matrix/web"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / ".orchestra" / "memory.db") as store:
        yield store


def came(seq: int, text: str | bytes = "hello", *, sender: str = "matrix/api", **options: Any) -> Message:
    return Message(seq, sender, ME, NOW, text if isinstance(text, bytes) else text.encode(), 1, 1, options)


def take(store: Store, *messages: Message, up_to: int = 0) -> list[int]:
    return letters.take_in(store, messages, hub=HUB, me=ME, project="web", up_to=up_to, now_ms=NOW)


def send(store: Store, text: str, *, to: str = "matrix/api") -> unsent.Item:
    entry = letters.written(text, sender=ME, to=to, project="web", now_ms=NOW)
    stored = unsent.add(store, entry, now_ms=NOW)
    return next(item for item in unsent.waiting(store) if item.entry.id == stored.id)


def shown(store: Store, **options: Any) -> list[str]:
    return [letters.text_of(each) for each in letters.inbox(store, me=ME, limit=100, **options)]


def test_a_message_is_kept_once_whatever_ways_it_came(store: Store) -> None:
    assert take(store, came(1), came(2, "two")) == [1, 2]
    assert take(store, came(2, "two"), came(1), came(3, "three"), up_to=3) == [3]
    assert letters.taken_up_to(store, hub=HUB) == 3
    assert shown(store) == ["three", "two", "hello"]
    assert letters.take_in(store, [came(1, "of another hub")], hub="beef", me=ME, project="web", now_ms=NOW) == [4]


def test_what_was_purged_does_not_come_back(store: Store) -> None:
    take(store, came(1))
    notebook.purge(store, [1])
    assert take(store, came(1)) == []
    assert letters.untold(store, hub=HUB) == [1], "the hub is told that nobody will read it"


def test_a_message_that_came_with_an_import_is_the_same_one(store: Store, tmp_path: Path) -> None:
    take(store, came(1))
    with Store(tmp_path / "other.db") as other:
        lines = [(0, notebook.get(store, [1])[0].shown())]
        exchange.take_in(other, exchange.records_in(lines, exchange.Report()), exchange.Report())
        assert take(other, came(1)) == []
        assert len(shown(other)) == 1


@pytest.mark.parametrize("text", ["one line", "  two\n\n  lines  ", "x" * 3000, "tab\tin it"])
def test_a_text_comes_out_as_it_went_in(store: Store, text: str) -> None:
    take(store, came(1, text))
    assert shown(store) == [text.strip()]
    assert letters.text_of(send(store, text).entry) == text.strip()


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"", "(empty)"), (b"\xff\x00x", "��x"), (b" \n", "(empty)")],
)
def test_whatever_comes_is_kept(store: Store, body: bytes, expected: str) -> None:
    take(store, came(1, body))
    assert shown(store) == [expected]


def test_a_text_that_is_too_long_is_cut_and_says_where_the_rest_is(store: Store) -> None:
    take(store, came(7, "x" * (MEMORY_TEXT_CHARS_MAX + 1)))
    (text,) = shown(store)
    assert len(text) <= MEMORY_TEXT_CHARS_MAX
    assert text.endswith(f"(cut here; the hub has all {MEMORY_TEXT_CHARS_MAX + 1} bytes of message 7)")


def test_a_sealed_message_that_cannot_be_opened_says_so(store: Store) -> None:
    take(store, came(1, b"\x00\x01", sealed=True))
    assert shown(store) == ["(sealed for a key that is not here)"]


def test_an_empty_message_is_refused(store: Store) -> None:
    with pytest.raises(BadOption, match="needs a text"):
        send(store, " \n ")


def test_looking_is_not_reading_and_reading_is_told_once(store: Store) -> None:
    take(store, came(1), came(2))
    assert letters.unread_count(store) == 2
    assert letters.untold(store, hub=HUB) == []
    letters.mark_read(store, [1], now_ms=NOW)
    assert letters.mark_read(store, [1], now_ms=NOW + 5)[0].read_ms == NOW, "the first reading counts"
    assert (letters.unread_count(store), letters.untold(store, hub=HUB)) == (1, [1])
    letters.were_told(store, [1], hub=HUB)
    assert letters.untold(store, hub=HUB) == []
    assert [entry.id for entry in letters.inbox(store, me=ME, only_unread=True, limit=9)] == [2]


def test_only_messages_are_read(store: Store) -> None:
    add(store, learning())
    with pytest.raises(BadOption, match="#1 is a learning"):
        letters.mark_read(store, [1], now_ms=NOW)
    with pytest.raises(NotFound):
        letters.mark_read(store, [9], now_ms=NOW)


def test_clear_empties_the_inbox_and_leaves_what_was_sent(store: Store) -> None:
    take(store, came(1), came(2))
    send(store, "mine")
    assert letters.clear(store, me=ME, now_ms=NOW) == 2
    assert shown(store, with_sent=True) == ["mine"]
    assert letters.untold(store, hub=HUB) == [1, 2]
    assert letters.clear(store, me=ME, now_ms=NOW) == 0


def test_what_was_read_by_another_program_is_read_here(store: Store) -> None:
    take(store, came(1), came(2))
    assert letters.unread_seqs(store, hub=HUB) == [1, 2]
    letters.were_read_elsewhere(store, [1], hub=HUB, now_ms=NOW)
    assert letters.unread_seqs(store, hub=HUB) == [2]
    assert letters.untold(store, hub=HUB) == [], "the hub said so itself"


def test_who_writes_has_read_unless_it_is_to_itself(store: Store) -> None:
    to_other, to_itself = send(store, "to api"), send(store, "to web", to=ME)
    assert letters.unread_count(store) == 0
    unsent.was_sent(store, to_other, hub=HUB, seq=1, sender=ME)
    unsent.was_sent(store, to_itself, hub=HUB, seq=2, sender=ME)
    assert letters.unread_count(store) == 0
    assert take(store, came(2, "to web", sender=ME)) == []
    assert shown(store, only_unread=True) == ["to web"]


def test_a_message_to_itself_that_comes_back_before_the_answer_is_one_message(store: Store) -> None:
    item = send(store, "to web", to=ME)
    take(store, came(5, "to web", sender=ME))
    unsent.was_sent(store, item, hub=HUB, seq=5, sender=ME)
    assert shown(store, with_sent=True) == ["to web"]
    assert letters.unread_count(store) == 1
    letters.mark_read(store, [item.entry.id], now_ms=NOW)
    assert letters.untold(store, hub=HUB) == [5]


def test_what_the_hub_and_a_memory_know_of_each_other_outlives_a_salvage(store: Store) -> None:
    take(store, came(1), up_to=1)
    send(store, "waits")
    repair.salvage(store, now_s=NOW / 1000)
    assert take(store, came(1)) == []
    assert letters.taken_up_to(store, hub=HUB) == 1
    assert [letters.text_of(item.entry) for item in unsent.waiting(store)] == ["waits"]


def test_a_look_shows_what_is_new_or_unread_and_counts_the_unread_of_the_same_moment(store: Store) -> None:
    def looked(since_ms: int, limit: int = 100) -> tuple[list[str], int]:
        found, unread = letters.look(store, me=ME, since_ms=since_ms, limit=limit)
        return [letters.text_of(each) for each in found], unread

    assert looked(0) == ([], 0)
    send(store, "of mine")
    first, *_ = take(store, came(1, "read"), came(2, "unread"), came(3, "unread too"))
    letters.mark_read(store, [first], now_ms=NOW)
    assert looked(NOW) == (["unread too", "unread", "read"], 2)
    assert looked(NOW + 1) == (["unread too", "unread"], 2)
    assert looked(NOW, limit=1) == (["unread too"], 2)
