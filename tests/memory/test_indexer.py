"""The indexer as a real process, used by the command line: it starts, serves, hangs, is killed, and goes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestra.memory.embedder import Choice
from orchestra.memory.indexplace import IndexPlace, holder, read_json, write_json
from orchestra.memory.meaning import Semantics
from orchestra.memory.store import Store

from ..system.mounts import with_read_only
from ..system.programs import BOUND_S, PYTHON, Ended, Place, is_alive, wait_until
from .memories import add, assert_in_time, by_words, learning, needs_chromadb, save_and_recall

COMES_S = 4 * BOUND_S  # ChromaDB is loaded meanwhile, on a machine that does other things
pytestmark = pytest.mark.timeout(3 * COMES_S)


class _Handler(BaseHTTPRequestHandler):
    """A service whose vectors take no time."""

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        rows = [{"index": number, "embedding": list(_numbers(each))} for number, each in enumerate(texts)]
        data = json.dumps({"data": rows}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _numbers(text: str) -> memoryview:
    return memoryview(by_words().embed([text])[0]).cast("f")


class Clone(Place):
    """A clone whose memory has a model. Its indexer is ended with the test."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self.place = IndexPlace(folder / ".orchestra" / "memory.db")
        self.url = url

    def memory(self, *words: str, **more: str) -> Ended:
        environment = {"ORCHESTRA_EMBED": "openai:by-words", "ORCHESTRA_EMBED_URL": self.url, **more}
        return self.run("memory", *words, env=self.env(**environment))

    @property
    def pid(self) -> int:
        return holder(self.place.lock)

    def answers_in_time(self) -> None:
        """Save and recall in this process, where no start of an interpreter is in the times."""
        choice = Choice(embed="openai:by-words", url=self.url)
        semantics = Semantics(self.place.memory, choice, is_indexer_wanted=False)
        assert_in_time(lambda: None, lambda: save_and_recall(semantics))

    def by(self, question: str = "hub") -> str:
        """Return who answers what is near in meaning."""
        return str(self.memory("recall", question, "--json").data["meaning"]["by"])

    def meant(self, *words: str, **more: str) -> Ended:
        """Recall until it was in time: half a second may pass on a busy machine."""
        return wait_until(
            lambda: (ended if "not found in time" not in (ended := self.memory("recall", *words, **more)).stderr
                     and "not found in time" not in ended.stdout else None),
            "a recall by meaning",
        )  # fmt: skip

    def until_chromadb(self) -> None:
        wait_until(lambda: self.by() == "ChromaDB", "ChromaDB to answer", bound_s=COMES_S)
        wait_until(
            lambda: self.memory("stats", "--json").data["meaning"]["backend"] == "chromadb",
            "ChromaDB to be checked",
            bound_s=COMES_S,
        )

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.place.memory.parent, ignore_errors=True)  # its indexer ends with it
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    needs_chromadb()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        folder = tmp_path / "web"
        (folder / ".git").mkdir(parents=True)
        clone = Clone(folder, f"http://127.0.0.1:{service.server_address[1]}/v1")
        pids: list[int] = []
        try:
            yield clone
        finally:
            pids.append(clone.pid)
            clone.close()
            service.shutdown()
            thread.join()
            if pids[0]:
                wait_until(lambda: not is_alive(pids[0]), "the indexer to end")


def test_from_the_first_save_to_its_end(clone: Clone) -> None:
    assert clone.memory("learn", "The hub hangs").stdout == "learning #1 is stored\n"
    clone.until_chromadb()
    pid = clone.pid
    found = wait_until(
        lambda: ended if "(ChromaDB)" in (ended := clone.memory("recall", "hub", "hangs")).stderr else None, "an answer"
    )
    assert found.stderr.startswith("1 found by full-text and meaning (ChromaDB)")
    assert f"indexer: process {pid}" in clone.memory("stats").stdout
    assert clone.memory("doctor").code == 0
    # It hangs: words answer and the answer says so, the doctor too, and reindex ends it.
    os.kill(pid, signal.SIGSTOP)
    found = clone.memory("recall", "hub", "hangs")
    assert found.stdout.startswith("#1  The hub hangs")
    assert "only words were compared: the indexer did not answer within" in found.stderr
    assert clone.memory("learn", "The hub hangs again").code == 0
    doctor = clone.memory("doctor")
    assert doctor.code == 1
    assert f"the indexer ({pid}) does not answer" in doctor.stdout
    healed = clone.memory("reindex")
    assert (healed.code, healed.stdout) == (
        0,
        "2 memories indexed\n2 vectors of openai:by-words, 2 of them in ChromaDB; 2 were searched there, and found\n",
    )
    assert not is_alive(pid)
    assert clone.memory("doctor").code == 0
    # It has been hanging for more than a minute: the next command ends it, and one later another is there.
    clone.until_chromadb()
    pid = clone.pid
    os.kill(pid, signal.SIGSTOP)
    write_json(clone.place.state, {**read_json(clone.place.state), "at_ms": 0})
    assert clone.by() == ""
    wait_until(lambda: not is_alive(pid), "the indexer to end")
    clone.until_chromadb()
    # The clone is removed: it goes.
    pid = clone.pid
    child = int(clone.memory("stats", "--json").data["meaning"]["pid"])
    assert is_alive(child)
    shutil.rmtree(clone.place.memory.parent)
    wait_until(lambda: not is_alive(pid), "the indexer to end")
    wait_until(lambda: not is_alive(child), "ChromaDB's process to end with it")


def test_it_ends_when_nobody_needs_it(clone: Clone) -> None:
    clone.memory("learn", "The hub hangs", ORCHESTRA_INDEXER="0")
    assert clone.pid == 0
    environment = clone.env(ORCHESTRA_EMBED="openai:by-words", ORCHESTRA_EMBED_URL=clone.url)
    command = [*PYTHON, "-m", "orchestra.memory.indexer", str(clone.place.memory), "0.2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=COMES_S)
    assert (done.returncode, done.stdout) == (0, "")
    assert not clone.place.socket.exists()
    assert clone.memory("stats", "--json", ORCHESTRA_INDEXER="0").data["meaning"]["vectors"] == {"openai:by-words": 1}


def test_it_finds_the_models_that_are_named_from_where_the_command_is(
    store: Store, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models.parent)
    add(store, learning("one"))
    place = IndexPlace(store.path)
    Semantics(store.path, Choice(models=Path(models.name))).start_indexer()
    try:
        wait_until(place.socket.exists, "the indexer to listen", bound_s=COMES_S)
    finally:
        pid = holder(place.lock)
        if pid:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not is_alive(pid), "the indexer to end")


def test_who_saves_while_the_indexer_begins_does_not_start_another(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be an interpreter that finds out a second later that it is not needed."""
    begun, ended, python = tmp_path / "begun", tmp_path / "ended", tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho $$ >> "{begun}"\nwhile ! test -e "{ended}"; do sleep 0.02; done\n', "utf-8")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    add(store, learning("one"))
    semantics = Semantics(store.path, Choice(embed="openai:by-words", url="http://127.0.0.1:9/v1"))

    def pids() -> list[int]:
        return [int(line) for line in begun.read_text("utf-8").splitlines()] if begun.exists() else []

    try:
        for _ in range(5):
            semantics.wake()
        wait_until(pids, "the indexer to begin")
        semantics.wake()
        assert len(pids()) == 1
    finally:
        ended.touch()
        wait_until(lambda: pids() and not is_alive(pids()[0]), "the indexer to end")
    semantics.wake()
    wait_until(lambda: len(pids()) == 2 and not is_alive(pids()[1]), "another, for that one has ended")


def test_a_second_one_goes_away_at_once(clone: Clone) -> None:
    clone.memory("learn", "The hub hangs")
    wait_until(lambda: clone.place.socket.exists(), "the indexer to come", bound_s=COMES_S)
    pid = clone.pid
    environment = clone.env(ORCHESTRA_EMBED="openai:by-words", ORCHESTRA_EMBED_URL=clone.url)
    command = [*PYTHON, "-m", "orchestra.memory.indexer", str(clone.place.memory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=COMES_S)
    assert (done.returncode, done.stderr, clone.pid) == (0, "", pid)


def test_without_an_indexer_everything_works_all_the_same(clone: Clone) -> None:
    off = {"ORCHESTRA_INDEXER": "0"}
    clone.memory("learn", "The hub hangs", **off)
    fresh = clone.meant("hub", **off)
    assert "new: only its words were compared" in fresh.stdout
    assert "1 new memory was compared by words alone" in fresh.stderr
    assert clone.memory("reindex", **off).code == 0
    found = clone.meant("hub", "--json", **off).data
    assert (found["sources"], found["meaning"]["waiting"]) == (["full-text", "meaning"], 0)
    assert clone.pid == 0


def test_what_is_wrong_is_told_and_one_command_heals_it(clone: Clone) -> None:
    off = {"ORCHESTRA_INDEXER": "0"}
    clone.memory("learn", "The hub hangs", **off)
    service = clone.url
    clone.url = "http://127.0.0.1:9/v1"
    told = clone.memory("reindex", **off)
    assert told.code == 1
    assert "127.0.0.1 can't be reached" in told.stderr
    found = clone.meant("hub", **off)
    assert found.stdout.startswith("#1  The hub hangs")
    assert "only words were compared: 127.0.0.1 can't be reached" in found.stderr
    clone.url = service
    assert clone.memory("reindex", **off).code == 0
    assert clone.memory("doctor", **off).code == 0


def test_a_folder_that_can_not_be_written_and_an_indexer_that_hangs_hold_up_nobody(clone: Clone) -> None:
    clone.memory("learn", "The hub hangs", ORCHESTRA_INDEXER="0")
    clone.place.folder.mkdir()
    command = with_read_only(clone.place.folder, [*PYTHON, "-m", "orchestra.memory.indexer", str(clone.place.memory)])
    environment = clone.env(ORCHESTRA_EMBED="openai:by-words", ORCHESTRA_EMBED_URL=clone.url)
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as indexer:
        try:
            wait_until(
                lambda: "can't be written" in clone.memory("stats").stdout, "the fault to be told", bound_s=COMES_S
            )
            clone.answers_in_time()
            assert clone.by() == "exact search"
            assert clone.memory("doctor").code == 1
            indexer.send_signal(signal.SIGSTOP)
            clone.answers_in_time()
        finally:
            indexer.kill()
    assert clone.memory("reindex").code == 0
    assert clone.memory("doctor").code == 0


def test_another_model_is_taken_up_and_the_old_vectors_are_not_used(clone: Clone) -> None:
    off = {"ORCHESTRA_INDEXER": "0"}
    clone.memory("learn", "The hub hangs", **off)
    clone.memory("reindex", **off)
    other = {**off, "ORCHESTRA_EMBED": "ollama:another"}
    assert clone.meant("hub", "--json", **other).data["meaning"]["by"] == "exact search"
    stats = clone.memory("stats", **other).stdout
    assert "0 vectors of ollama:another; of other models, not used: 1 openai:by-words" in stats
    assert clone.memory("reindex", **other).code == 0
    assert clone.memory("stats", "--json", **other).data["meaning"]["vectors"] == {"ollama:another": 1}


def test_an_indexer_with_another_model_makes_room(clone: Clone) -> None:
    clone.memory("learn", "The hub hangs")
    wait_until(lambda: clone.by(), "the indexer to answer", bound_s=COMES_S)
    wait_until(lambda: clone.pid, "the indexer to come", bound_s=COMES_S)
    first = clone.pid

    def answer() -> tuple[str, str]:
        found = clone.memory("recall", "hub", "--json", ORCHESTRA_EMBED="ollama:another").data["meaning"]
        return found["by"] if not found["waiting"] else "", found["model"]

    wait_until(lambda: answer()[0] and clone.pid not in (0, first), "another indexer to answer", bound_s=COMES_S)
    assert answer()[1] == "ollama:another"
