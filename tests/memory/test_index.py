"""The real ChromaDB in its process, and what may happen to it: answers go on, and it comes back by itself."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestra.errors import EmbedFault, RowRefused
from orchestra.memory import chroma, index, line, notebook, vectors
from orchestra.memory.embedder import Choice, Embedder
from orchestra.memory.filters import Filters
from orchestra.memory.indexer import Indexer
from orchestra.memory.indexplace import IndexPlace, Lock, open_log, write_json
from orchestra.memory.keeper import Keeper
from orchestra.memory.meaning import Semantics
from orchestra.memory.near import CHROMADB, EXACT, Near
from orchestra.memory.store import Store

from ..system.programs import BOUND_S, PYTHON, is_alive, wait_until
from .memories import RECALL_S, add, assert_in_time, by_words, learning, needs_chromadb, save_and_recall

CHOICE = Choice(embed="ollama:by-words")
MODEL = by_words(CHOICE.embed)
SETTLED_S = 3 * BOUND_S
pytestmark = pytest.mark.timeout(2 * SETTLED_S)


class Owner:
    """A keeper that a test works by hand. It is closed, and its process with it, at the end."""

    def __init__(self, store: Store, embedder: Embedder = MODEL) -> None:
        self.store, self.embedder = store, embedder
        self.place = IndexPlace(store.path)
        self.log = self.place.log.open("ab")
        self.keeper = Keeper(store, self.place, embedder, log=self.log)

    def close(self) -> None:
        self.keeper.close()
        self.log.close()

    def again(self) -> None:
        self.close()
        self.log = self.place.log.open("ab")
        self.keeper = Keeper(self.store, self.place, self.embedder, log=self.log)

    def settle(self, until: Callable[[], bool] | None = None) -> None:
        """Work until everything is in ChromaDB and was checked, or until something else is so."""
        is_so = until or (
            lambda: (
                self.facts["backend"] == "chromadb"
                and not self.facts["behind"]
                and not vectors.count_waiting(self.store)
            )
        )
        deadline = time.monotonic() + SETTLED_S
        while not is_so():
            assert time.monotonic() < deadline, self.facts
            if not self.keeper.step() and self.keeper.index is not None:
                self.keeper.index.wait_ready(within_s=0.05)

    def ask(self, question: str, **filters: str) -> Near:
        return self.keeper.search(question, Filters(**filters), among=[], count_max=20)  # type: ignore[arg-type]

    def finds(self, question: str, id: int) -> Near:
        near = self.ask(question)
        assert max(near.cosines, key=lambda each: near.cosines[each]) == id
        return near

    def answers_in_time(self, bring_about: Callable[[], object] = lambda: None) -> None:
        assert_in_time(bring_about, self._serves_the_commands)

    def _serves_the_commands(self) -> tuple[float, float]:
        """Save and recall in another thread while this one does what the indexer does; return the seconds of each."""
        indexer = Indexer(self.store.path, CHOICE)
        semantics = Semantics(self.store.path, CHOICE, is_indexer_wanted=False)

        def both() -> tuple[float, float]:
            try:
                return save_and_recall(semantics)
            finally:
                indexer.stop()
                semantics.wake()

        with line.listen(self.place.socket) as listening, ThreadPoolExecutor(1) as pool:
            taken = pool.submit(both)
            indexer._work(self.store, self.keeper, listening)
            return taken.result()

    @property
    def facts(self) -> dict[str, object]:
        return self.keeper.facts()

    @property
    def pid(self) -> int:
        return int(str(self.facts["pid"]))


@pytest.fixture
def owner(store: Store) -> Iterator[Owner]:
    needs_chromadb()
    add(store, *(learning(f"word{number} of{number % 7}") for number in range(60)))
    owner = Owner(store)
    yield owner
    owner.close()


@pytest.fixture
def settled(owner: Owner) -> Owner:
    owner.settle()
    return owner


def test_chromadb_proposes_what_is_near_and_follows_what_changes(settled: Owner) -> None:
    near = settled.finds("word11 of4", 12)
    assert (near.by, near.reason) == (CHROMADB, "")
    assert near.cosines[12] == pytest.approx(1, abs=1e-5)
    notebook.purge(settled.store, [12])
    add(settled.store, learning("quite another thing"))
    assert 12 not in settled.ask("word11 of4").cosines, "at once, though ChromaDB still has it"
    settled.settle()
    assert settled.finds("quite another thing", 61).by == CHROMADB
    settled.keeper.index.check(99)  # type: ignore[union-attr]


def test_filters_find_also_what_chromadb_did_not_propose(settled: Owner) -> None:
    add(settled.store, learning("far away", project="api"), learning("farther", project="api"))
    settled.settle()
    near = settled.ask("word3 of3", project="api")
    assert (near.by, set(near.cosines)) == (CHROMADB, {61, 62})


def test_a_vector_that_is_not_in_the_index_yet_is_found(settled: Owner) -> None:
    add(settled.store, learning("quite another thing"))
    settled.keeper.embed_some()
    assert settled.facts["behind"] == 1
    assert settled.finds("quite another thing", 61).by == CHROMADB


def test_while_the_index_is_far_behind_the_exact_search_answers(
    settled: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "INDEX_TAIL_ROWS_MAX", 0)
    add(settled.store, learning("quite another thing"))
    settled.keeper.embed_some()
    near = settled.finds("quite another thing", 61)
    assert (near.by, near.reason) == (EXACT, "the index is being built")


# What may happen to its process.


def test_a_process_that_is_stopped_is_killed_in_time_and_comes_back(
    settled: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = settled.pid
    os.kill(pid, signal.SIGSTOP)
    near = settled.finds("word11 of4", 12)
    assert near.by == EXACT
    assert "did not answer to nearest within 0.2 s" in near.reason
    assert not is_alive(pid)
    assert settled.facts["backend"] == "exact"
    settled.settle()
    assert settled.finds("word11 of4", 12).by == CHROMADB

    def stop() -> None:
        settled.settle()
        os.kill(settled.pid, signal.SIGSTOP)

    monkeypatch.setattr(chroma, "INDEX_WRITE_S", 2 * RECALL_S)  # that the indexer may wait in vain, and nobody else
    settled.answers_in_time(stop)


def test_a_process_that_is_killed_in_the_middle_of_writes_loses_nothing(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "INDEX_ROWS", 4)
    for kills in range(1, 7):
        owner.settle(lambda kills=kills: owner.pid and owner.facts["behind"] <= 60 - 8 * kills)  # type: ignore[misc, operator]
        os.kill(owner.pid, signal.SIGKILL)
        assert owner.finds("word11 of4", 12).by == EXACT
        owner.keeper.index._breaker.worked()  # type: ignore[union-attr]  # or it would rest for a minute
    owner.settle()
    assert owner.keeper.index is not None
    assert owner.keeper.index.check(99) == 60

    def kill() -> None:
        owner.settle()
        add(owner.store, *(learning(f"more{number}") for number in range(12)))
        owner.settle(lambda: owner.facts["behind"] == 8 and not vectors.count_waiting(owner.store))
        os.kill(owner.pid, signal.SIGKILL)

    owner.answers_in_time(kill)


def test_no_process_is_left_when_its_owner_is_killed(settled: Owner, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from orchestra.memory.chroma import Chroma; "
        "from orchestra.memory.indexplace import Lock; folder = Path(sys.argv[1]); "
        "c = Chroma(folder, lock=Lock(folder / 'lock').descriptor); print(c.pid, flush=True); sys.stdin.read()"
    )
    argv = [*PYTHON, "-c", script, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert is_alive(child)
        process.kill()
    wait_until(lambda: not is_alive(child), "the child to end with its owner")


def test_the_process_opens_no_connection() -> None:
    script = (
        "import socket, sys; from orchestra.memory import chromachild; sys.addaudithook(chromachild._refuse_network); "
        "socket.create_connection(('127.0.0.1', 9))"
    )
    done = subprocess.run([*PYTHON, "-c", script], capture_output=True, text=True, timeout=BOUND_S)
    assert "PermissionError: the index has no business on the network" in done.stderr


# What may happen to its files.


def test_a_stranger_that_holds_its_database_costs_only_the_files(
    settled: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled.close()
    stranger = sqlite3.connect(settled.place.folder / "chroma" / "chroma.sqlite3", isolation_level=None)
    stranger.execute("BEGIN EXCLUSIVE")
    try:
        settled.again()
        monkeypatch.setattr(chroma, "INDEX_START_S", 4.0)
        settled.answers_in_time()
        settled.settle(lambda: bool(settled.facts["failures"]))
        assert "did not open its files within 4 s" in settled.finds("word11 of4", 12).reason
        settled.settle(lambda: settled.facts["failures"] == 2)
        monkeypatch.undo()
        settled.settle()
        assert settled.finds("word11 of4", 12).by == CHROMADB
        assert len(settled.place.aside()) == 1
    finally:
        stranger.close()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 97):
        content[place] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("chroma/chroma.sqlite3", _cut),
        ("chroma/chroma.sqlite3", _flip),
        ("chroma/chroma.sqlite3", Path.unlink),
        ("meta.json", _cut),
    ],
)
def test_files_that_are_damaged_are_built_anew(settled: Owner, file: str, damage: Callable[[Path], None]) -> None:
    def hurt() -> None:
        settled.settle()
        settled.close()
        damage(settled.place.folder / file)
        settled.again()

    hurt()
    assert settled.finds("word11 of4", 12).by == EXACT
    settled.settle()
    assert settled.finds("word11 of4", 12).by == CHROMADB
    assert settled.keeper.index is not None
    assert settled.keeper.index.check(99) == 60
    settled.answers_in_time(hurt)


def test_damaged_files_of_the_graph_are_built_anew(settled: Owner) -> None:
    def flip() -> None:
        settled.settle()
        settled.close()
        files = [path for path in settled.place.folder.rglob("*.bin") if path.stat().st_size]
        assert files
        for path in files:
            _flip(path)
        settled.again()

    add(settled.store, *(learning(f"more{number}") for number in range(1000)))  # so many that ChromaDB writes them
    flip()
    settled.settle()
    assert settled.finds("word11 of4", 12).by == CHROMADB
    assert settled.keeper.index is not None
    assert settled.keeper.index.check(2000) == 1060
    settled.answers_in_time(flip)


def test_a_row_that_was_lost_without_a_word_is_noticed_and_comes_back(
    settled: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "INDEX_CHECKED_ROWS", 99)  # all of them, where usually some are drawn by chance
    assert settled.keeper.index is not None
    process = settled.keeper.index._chroma
    assert process is not None
    process.delete([5])
    process.upsert([999], MODEL.embed(["nobody's"]))  # so that the count is right
    settled.again()
    settled.settle(lambda: bool(settled.facts["failures"]))
    assert settled.facts["reason"] == "the vector of memory #5 is not found in the index"
    settled.settle()
    assert settled.keeper.index is not None
    assert settled.keeper.index.check(99) == 60
    assert len(settled.place.aside()) == 1


def test_a_folder_that_can_not_be_made_is_told_and_answers_go_on(owner: Owner) -> None:
    owner.place.folder.write_text("not a folder")
    owner.settle(lambda: owner.facts["failures"] == 1)
    near = owner.finds("word11 of4", 12)
    assert near.by == EXACT
    assert "memory.index can't be written" in near.reason
    owner.settle()
    assert [path.read_text() for path in owner.place.aside()] == ["not a folder"]

    def take_its_place() -> None:
        owner.close()
        shutil.rmtree(owner.place.folder)
        owner.place.folder.write_text("not a folder")
        owner.again()

    owner.answers_in_time(take_its_place)


def test_a_folder_that_is_gone_is_made_again(settled: Owner) -> None:
    shutil.rmtree(settled.place.folder)
    add(settled.store, learning("quite another thing"))
    assert settled.keeper.step()
    assert settled.finds("word11 of4", 12)
    settled.settle()
    assert settled.finds("quite another thing", 61).by == CHROMADB

    def remove() -> None:
        settled.settle()
        shutil.rmtree(settled.place.folder)
        add(settled.store, learning("one more"))
        settled.settle(lambda: bool(settled.facts["failures"]))

    settled.answers_in_time(remove)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux only")
def test_a_full_disk_costs_only_the_index(settled: Owner) -> None:
    def fill() -> None:
        settled.settle()
        resource.prlimit(settled.pid, resource.RLIMIT_FSIZE, (1000, 1000))

    fill()
    add(settled.store, *(learning(f"more{number}") for number in range(40)))
    settled.settle(lambda: bool(settled.facts["failures"]))
    assert settled.finds("more7", 68).by == EXACT
    settled.settle()
    assert settled.finds("more7", 68).by == CHROMADB
    settled.answers_in_time(fill)


def test_a_process_that_could_not_be_killed_keeps_its_folder_and_another_is_begun(settled: Owner) -> None:
    with ExitStack() as orphans:

        def leave_an_orphan() -> None:
            settled.settle()
            settled.close()
            orphans.callback(Lock(settled.place.folder / "process.lock").close)
            settled.again()

        leave_an_orphan()
        settled.settle(lambda: bool(settled.facts["failures"]))
        assert settled.facts["reason"] == "another process has the index open"
        settled.settle()
        assert len(settled.place.aside()) == 1
        settled.answers_in_time(leave_an_orphan)


def test_a_folder_that_is_too_large_is_thrown_away(settled: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "INDEX_BYTES_MIN", 1000)
    monkeypatch.setattr(index, "INDEX_BYTES_A_ROW", 1)
    settled.again()
    settled.settle(lambda: bool(settled.facts["failures"]))
    assert "MiB; the limit is 0 MiB" in str(settled.facts["reason"])
    assert not settled.place.folder.exists()
    assert settled.place.aside() == [], "a large one is not kept"
    monkeypatch.undo()
    settled.settle()


def test_an_index_of_another_version_model_or_memory_is_thrown_away(settled: Owner) -> None:
    settled.close()
    meta = settled.place.meta.read_text()
    settled.place.meta.write_text(meta.replace('"chromadb": "', '"chromadb": "0.'))
    settled.again()
    settled.settle()
    assert settled.place.meta.read_text() == meta
    assert settled.place.aside() == []
    settled.embedder = by_words("another", 16)
    settled.again()
    assert settled.keeper.marked == 60
    settled.settle()
    assert settled.finds("word11 of4", 12).by == CHROMADB


def test_only_so_many_that_failed_are_kept(store: Store) -> None:
    place = IndexPlace(store.path)
    for _ in range(4):
        place.folder.mkdir(parents=True)
        place.set_aside()
        for old in place.aside():
            old.rename(old.with_name(f"{old.name}-0"))  # another name than the next, within the same second
    assert len(place.aside()) <= 3


def test_links_that_came_with_a_clone_lead_nowhere(owner: Owner, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    place = owner.place
    place.folder.symlink_to(precious)
    for link in (place.lock, place.state.with_name(f"{place.state.name}.new")):
        link.symlink_to(precious / "file")
    place.log.unlink()
    place.log.symlink_to(precious / "file")
    for refused in (lambda: Lock(place.lock), lambda: open_log(place.log), lambda: write_json(place.state, {})):
        with pytest.raises(OSError, match="symbolic links"):
            refused()
    owner.settle()
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert (precious / "file").read_text() == "mine"


# Without it.


def test_without_chromadb_the_exact_search_answers(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "chromadb_version", lambda: "")
    owner.again()
    owner.settle(lambda: not owner.keeper.step())
    near = owner.finds("word11 of4", 12)
    assert (near.by, near.reason) == (EXACT, "chromadb is not installed")
    owner.answers_in_time()
    assert not owner.place.folder.exists()


def test_a_chromadb_that_can_not_be_loaded_is_told_and_left_alone(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "broken" / "chromadb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no such library')")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    owner.settle(lambda: owner.facts["failures"] == 3)
    assert "ImportError: no such library" in owner.finds("word11 of4", 12).reason
    owner.settle(lambda: not owner.keeper.step())
    assert owner.pid == 0, "it rests"
    owner.answers_in_time(owner.again)


# What may happen to the model.


def test_a_text_that_is_refused_is_named_and_holds_up_no_other(store: Store) -> None:
    def picky(texts: list[str]) -> list[bytes]:
        if any("odd" in text for text in texts):
            raise RowRefused("it is too odd")
        return MODEL.embed(texts)

    add(store, learning("one"), learning("odd"), learning("three"))
    owner = Owner(store, Embedder("picky", 24, picky, texts_a_call=3))
    try:
        owner.settle(lambda: not owner.keeper.embed_some())
        found = vectors.facts(store)
        assert (found["vectors"], found["waiting"]) == ({"picky": 2}, 1)
        assert found["failing"] == [{"id": 2, "error": "it is too odd"}]
    finally:
        owner.close()


def test_a_service_that_fails_is_told_rested_and_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = ["it is away", ""]

    def shaky(texts: list[str]) -> list[bytes]:
        if fault := faults.pop(0):
            raise EmbedFault(fault)
        return MODEL.embed(texts)

    add(store, learning("one"))
    owner = Owner(store, Embedder("shaky", 24, shaky))
    try:
        assert not owner.keeper.embed_some()
        assert owner.facts["fault"] == "it is away"
        assert not owner.keeper.embed_some(), "it rests"
        assert len(faults) == 1
        monkeypatch.setattr(owner.keeper, "_rest_until", 0.0)
        owner.settle(lambda: vectors.count_waiting(store) == 0)
        assert owner.facts["fault"] == ""
    finally:
        owner.close()


def test_a_service_that_changes_the_length_of_its_vectors_is_told(store: Store) -> None:
    add(store, learning("one"))
    lengths = [24, 16]
    owner = Owner(store, Embedder("odd", 0, lambda texts: by_words("odd", lengths[0]).embed(texts)))
    try:
        owner.settle(lambda: vectors.count_waiting(store) == 0)
        add(store, learning("two"))
        lengths.pop(0)
        owner.keeper.embed_some()
        assert "now gives vectors of 16 numbers, not 24; run: orchestra memory reindex --anew" in str(
            owner.facts["fault"]
        )
        assert owner.ask("one").by == ""
    finally:
        owner.close()
