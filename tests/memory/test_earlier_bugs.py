"""What went wrong in the earlier system's memory, and must not here; what other files test is not repeated.

- Messages went to one table and the inbox read another: here, and with real programs in tests/cli/test_message.py and
  tests/mcp/test_stdio.py (sent by a model, listed on the command line).
- A recipient was a path and the inbox looked for a name: here.
- Nothing was ever marked as read: here.
- The current folder stood in the SQL of the inbox: here.
- Sessions were indexed by their summary alone after a reindex; what was removed came back; only 10,000 rows were taken:
  here.
- Each folder had a memory of its own: here, and tests/memory/test_place.py.
- Saving waited for a model, and several writers broke one store: tests/memory/test_store.py.
"""

from __future__ import annotations

from pathlib import Path

from orchestra.matrix import letters, unsent
from orchestra.matrix.identity import matrix_at, matrix_of
from orchestra.memory import repair
from orchestra.memory.entry import Entry
from orchestra.memory.notebook import forget, purge
from orchestra.memory.place import memory_of
from orchestra.memory.store import Store
from orchestra.state import HubCard, StateFolder

from .memories import NOW, add, ask, ids, learning, session

MANY = 10_001  # its reindex took the first 10,000


def test_a_message_is_in_the_inbox_and_in_every_answer_also_while_no_hub_is_there(store: Store) -> None:
    letter = letters.written("The walrus is frozen", sender="matrix/web", to="*", project="web", now_ms=NOW)
    unsent.add(store, letter, now_ms=NOW)
    assert [each.title for each in letters.inbox(store, me="matrix/web", with_sent=True, limit=9)] == [letter.title]
    assert ids(ask(store, "walrus")) == [1]


def test_a_path_and_a_name_are_the_same_recipient(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.make()
    state.write_card(HubCard(("tcp://127.0.0.1:1",), "k" * 40))
    clone = tmp_path / "web" / "src"
    clone.mkdir(parents=True)
    (tmp_path / "web" / ".git").mkdir()
    assert matrix_at(clone, state) == matrix_of(memory_of(clone), state=state.path).address


def test_what_was_read_is_not_new_any_more(store: Store) -> None:
    add(store, Entry(kind="message", title="hello", sender="matrix/api", recipient="*"))
    assert letters.unread_count(store) == 1
    letters.mark_read(store, [1], now_ms=NOW)
    assert letters.unread_count(store) == 0
    assert letters.inbox(store, me="matrix/web", only_unread=True, limit=9) == []


def test_every_folder_of_a_clone_has_the_same_memory(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    with Store(memory_of(below)) as one, Store(memory_of(tmp_path)) as other:
        add(one, learning("walrus"))
        assert ids(ask(other, "walrus")) == [1]


def test_signs_of_sql_in_the_name_of_a_project_mean_nothing(store: Store) -> None:
    add(store, learning("hub", project="100%_done"), learning("hub two", project="100 done"))
    assert ids(ask(store, "hub", project="100%_done")) == [1]
    assert ids(ask(store, "hub", project="' OR 1=1 --")) == []


def test_a_session_is_found_by_the_same_words_before_and_after_a_reindex(store: Store) -> None:
    add(store, session("Worked", wins=("walrus",), next_steps=("ostrich",)))
    for _ in range(2):
        assert ids(ask(store, "walrus")) == ids(ask(store, "ostrich")) == [1]
        repair.reindex(store)


def test_what_is_gone_does_not_come_back_with_a_reindex(store: Store) -> None:
    add(store, learning("hub one"), learning("hub two"), learning("hub three"))
    purge(store, [1])
    forget(store, [2], now_ms=NOW)
    repair.reindex(store)
    assert ids(ask(store, "hub")) == [3]


def test_reindex_takes_every_row(store: Store) -> None:
    add(store, *(learning(f"word{number}") for number in range(MANY)))
    assert repair.reindex(store) == MANY
    for number in (0, MANY - 1):
        assert ids(ask(store, f"word{number}", count_max=1)) == [number + 1]
