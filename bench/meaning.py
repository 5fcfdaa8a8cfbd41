"""The half of bench/memory.py that needs a model: recalls by meaning, with and without ChromaDB, and saves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from rig import percentile, timed

from orchestra.memory import index as index_module
from orchestra.memory.database import Database
from orchestra.memory.embedder import Choice, Embedder
from orchestra.memory.filters import Filters
from orchestra.memory.indexplace import IndexPlace, Lock, holder
from orchestra.memory.keeper import Keeper
from orchestra.memory.meaning import Semantics
from orchestra.memory.near import Near
from orchestra.memory.recall import recall
from orchestra.memory.store import Store

_BATCH: Final = 5_000
_STATES: Final = ("absent", "healthy", "hanging", "corrupt")
_BLOCKS: Final = 4
_WARM: Final = 20
_SETTLED_S: Final = 300.0
_LOOK_S: Final = 0.05
_TEXTS: Final = 50


@dataclass(frozen=True)
class _Here:
    """Answers by a keeper of this process: what the indexer does, without the millisecond of its socket."""

    keeper: Keeper

    def near(self, question: str, filters: Filters, *, among: list[int], count_max: int, within_s: float) -> Near:
        return self.keeper.search(question, filters, among=among, count_max=count_max)


def give_vectors(store: Store, embedder: Embedder) -> None:
    """Give every memory a vector drawn by chance: to make 100,000 of them would take an hour, and measure the model."""
    chance = np.random.default_rng(7)
    ids = [id for (id,) in store.rows("SELECT memory FROM to_embed ORDER BY memory")]
    for begin in range(0, len(ids), _BATCH):
        some = ids[begin : begin + _BATCH]
        drawn = chance.standard_normal((len(some), embedder.dimensions), np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        rows = [(id, id, embedder.name, vector.tobytes()) for id, vector in zip(some, drawn, strict=True)]

        def work(database: Database, rows: list[tuple[Any, ...]] = rows) -> None:
            database.connection().executemany("INSERT INTO vector VALUES (?, ?, ?, ?)", rows)
            database.all("DELETE FROM to_embed WHERE memory <= ?", rows[-1][0])

        store.write(work)


def measure_recalls(store: Store, embedder: Embedder, questions: list[str]) -> dict[str, float]:
    """Build the index; return its rate in vectors a second, and microseconds of a recall with it and without."""
    figures: dict[str, float] = {}
    place = IndexPlace(store.path)
    for name, version in (("exact", ""), ("chromadb", index_module.chromadb_version())):
        if name == "chromadb" and not version:
            continue
        keeper = Keeper(store, place, embedder, log=subprocess.DEVNULL)
        assert keeper.index is not None
        keeper.index._version = version
        try:
            if version:
                figures["indexed_a_second"] = _settle(keeper)
            else:
                keeper.index.reason = ""
            asking = partial(recall, store, filters=Filters(project="bench"), count_max=8, meaning=_Here(keeper))
            asking(questions[0])
            taken = timed(asking, questions)
            figures[f"{name}_us_p50"], figures[f"{name}_us_p99"] = percentile(taken, 50), percentile(taken, 99)
        finally:
            keeper.close()
    return figures


def measure_model(embedder: Embedder, texts: list[str], questions: list[str]) -> dict[str, float]:
    """Return how many texts a second get their vectors, and the microseconds of one question."""
    begin = time.perf_counter()
    embedder.embed(texts[:_TEXTS])
    rate = _TEXTS / (time.perf_counter() - begin)
    taken = timed(lambda question: embedder.embed([question]), questions[:_TEXTS])
    return {"embedded_a_second": rate, "question_us_p50": percentile(taken, 50)}


def measure_saves(
    store: Store, choice: Choice, save: Callable[[], object], rounds: int
) -> dict[str, tuple[float, float, float]]:
    """Return p50 and p99 (µs) of a save, and p50 of the nudge after it, in each state of the index, in turns."""
    semantics = Semantics(store.path, choice)
    saves: dict[str, list[float]] = {state: [] for state in _STATES}
    nudges: dict[str, list[float]] = {state: [] for state in _STATES}
    for _ in range(_BLOCKS):
        for state in _STATES:
            stopped = _bring_about(state, semantics)
            nudged = Semantics(store.path, Choice(embed="none")) if state == "absent" else semantics
            for number in range(_WARM + rounds // _BLOCKS):
                begin = time.perf_counter()
                save()
                saved = time.perf_counter()
                nudged.wake()
                if number >= _WARM:  # the disk settles after what the last block left
                    saves[state].append((saved - begin) * 1e6)
                    nudges[state].append((time.perf_counter() - saved) * 1e6)
            if stopped:
                with suppress(ProcessLookupError):
                    os.kill(stopped, signal.SIGCONT)
    _end(semantics)  # its lock is held until this process ends
    return {
        state: (percentile(sorted(each), 50), percentile(sorted(each), 99), percentile(sorted(nudges[state]), 50))
        for state, each in saves.items()
    }


def _bring_about(state: str, semantics: Semantics) -> int:
    """Bring the index into a state; return the process that was stopped for it."""
    place = IndexPlace(semantics.path)
    lock = _end(semantics)
    if state == "corrupt":
        for path in place.folder.rglob("*"):
            if path.is_file():
                path.write_bytes(os.urandom(10_000))
    lock.close()
    if state == "absent":
        return 0
    semantics.start_indexer()
    if state == "corrupt":
        return 0
    _until(lambda: semantics.facts().get("backend") == "chromadb")
    if state == "healthy":
        return 0
    pid = int(semantics.facts()["pid"])
    os.kill(pid, signal.SIGSTOP)
    return pid


def _end(semantics: Semantics) -> Lock:
    """End the indexer; the lock keeps those out that are just starting."""
    place = IndexPlace(semantics.path)
    deadline = time.monotonic() + _SETTLED_S
    while True:
        if pid := holder(place.lock):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            return Lock(place.lock)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_S)


def _settle(keeper: Keeper) -> float:
    """Work until ChromaDB has everything; return vectors a second, without its start."""
    index = keeper.index
    assert index is not None
    index.start_anew()
    count, begin = index.behind(), 0.0
    deadline = time.monotonic() + _SETTLED_S
    while not index.is_checked:
        if time.monotonic() > deadline:
            raise TimeoutError(f"ChromaDB was not ready within {_SETTLED_S:.0f} s: {index.reason}")
        if index.step():
            begin = begin or time.perf_counter()
        else:
            index.wait_ready(within_s=_LOOK_S)
    return count / (time.perf_counter() - begin)


def _until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + _SETTLED_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_SETTLED_S:.0f} s for the indexer")
        time.sleep(_LOOK_S)
