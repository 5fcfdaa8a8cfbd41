"""Making vectors and index anew while a person watches: `orchestra memory reindex`.

It can be interrupted at any moment: vectors are committed in small steps, and an index that was begun is gone on with.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from orchestra.errors import IndexFault, StorageFault
from orchestra.limits import INDEX_CHECKED_ROWS_MAX

from . import line, vectors
from .embedder import Choice, embedder_of, plan_of
from .indexplace import IndexPlace, Lock, holder
from .keeper import Keeper
from .store import Store

Told = Callable[[str, int, int], None]
"""Hears what is done, how much of it, and of how much."""

_HAND_OVER_S: Final = 5.0
_LOOK_S: Final = 0.05
_TRIES: Final = 3
"""An index that fails so often here is left alone: the second time it was set aside and begun anew."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it. `reason` says why there are no vectors or no index; it is empty where both are whole."""

    model: str = ""
    vectors: int = 0
    indexed: int = 0
    checked: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    is_wrong: bool = False


def rebuild(store: Store, choice: Choice, *, is_anew: bool, told: Told) -> Rebuilt:
    """Make the vectors that are missing (with `is_anew` all of them) and the index; check it.

    Raises:
        StorageFault: if the process that owns the index can't be ended, or the memory can't be written.
        EmbedFault: if the model can't be loaded.
    """
    plan = plan_of(choice)
    if not plan.name or not store.exists:
        return Rebuilt(reason=plan.reason)
    place = IndexPlace(store.path)
    lock = _take_over(place)
    try:
        embedder = embedder_of(choice)
        assert embedder is not None
        vectors.try_again(store, is_all=is_anew)
        keeper = Keeper(store, place, embedder, log=subprocess.DEVNULL)
        try:
            _make_vectors(store, keeper, told)
            indexed, checked, reason = _make_index(keeper, place, told)
        finally:
            keeper.close()
        found = vectors.facts(store)
        reason = keeper.fault or reason
        return Rebuilt(
            model=plan.name,
            vectors=found["vectors"].get(plan.name, 0),
            indexed=indexed,
            checked=checked,
            failed=found["failing"],
            reason=reason,
            is_wrong=bool(found["waiting"] or (reason and keeper.index is not None and keeper.index.is_wanted)),
        )
    finally:
        lock.close()


def _take_over(place: IndexPlace) -> Lock:
    """Let the indexer end, and take its place; one that does not answer is killed."""
    with suppress(ConnectionError, TimeoutError, IndexFault):
        line.ask(place.socket, ["stop"], within_s=_HAND_OVER_S / 5)
    for is_last in (False, True):
        deadline = time.monotonic() + _HAND_OVER_S
        while time.monotonic() < deadline:
            try:
                return Lock(place.lock)
            except BlockingIOError:
                time.sleep(_LOOK_S)
            except OSError as exc:
                raise StorageFault(f"{place.lock} can't be made: {exc.strerror}; check its folder's owner") from exc
        pid = holder(place.lock)
        if pid and not is_last:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    raise StorageFault(f"process {holder(place.lock)} owns the index of {place.memory} and does not end; end it")


def _make_vectors(store: Store, keeper: Keeper, told: Told) -> None:
    total = vectors.count_waiting(store)
    while True:
        told("vectors", total - vectors.count_waiting(store), total)
        if not keeper.embed_some():
            return


def _make_index(keeper: Keeper, place: IndexPlace, told: Told) -> tuple[int, int, str]:
    """Return how many vectors the index holds, how many were searched, and why it could not be made."""
    index = keeper.index
    if index is None or not index.is_wanted:
        return 0, 0, index.reason if index is not None else ""
    try:
        if not place.begun.exists():
            index.start_anew()
            place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.begun.touch()
        total = index.behind()
        while index.failures < _TRIES:
            if index.step():
                told("index", total - index.behind(), total)
                continue
            index.wait_ready(within_s=_LOOK_S)
            if index.is_checked:
                told("check", 0, 1)
                checked = index.check(INDEX_CHECKED_ROWS_MAX)
                told("check", 1, 1)
                return total, checked, ""
    except (IndexFault, OSError) as exc:
        return 0, 0, str(exc)
    return 0, 0, index.reason
