"""The indexer: a process that owns the vectors and the index of one memory.

`python -m orchestra.memory.indexer FILE [IDLE_S]`. Whoever uses a memory starts it and goes on at once; of several
that are started, the one that gets the lock stays. It makes the vectors of new memories, keeps ChromaDB in a child
process of its own, answers recalls on a socket, and ends when nobody has asked and nothing new has come for some
minutes, or when the memory is gone.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from orchestra.errors import OrchestraError
from orchestra.limits import INDEXER_IDLE_S, INDEXER_SILENT_S

from . import line, pipe
from .embedder import AUTO, Choice, embedder_of
from .filters import Filters
from .indexplace import IndexPlace, Lock, write_json
from .keeper import Keeper
from .model import default_models
from .store import Store

logger = logging.getLogger(__name__)

_LOOK_S: Final = 1.0  # how often another process's writes are looked for, if nobody tells of them
_BEAT_S: Final = 5.0  # how often it says that it is alive
_REQUEST_S: Final = 0.1  # for a client to say what it asks, or to take its answer
_REST_S: Final = 5.0  # after the memory could not be written
_NICENESS: Final = 5
assert INDEXER_SILENT_S > 4 * _BEAT_S


class Indexer:
    """The loop. One thread: a question waits for one piece of work, which takes 0.1 s.

    Who wants another model is told so, and it ends: the next one is started with the settings of now.
    """

    def __init__(
        self, path: Path, choice: Choice, *, idle_s: float = INDEXER_IDLE_S, starting: int | None = None
    ) -> None:
        """Args:
        starting: the descriptor of the lock that is held for this process until it has its own.
        """
        self._starting = starting
        self._place, self._choice, self._idle_s = IndexPlace(path), choice, idle_s
        self._is_stopped = False

    def stop(self, *_: object) -> None:
        self._is_stopped = True

    def run(self) -> None:
        """Work until there is nothing to do, or it is told to stop.

        Raises:
            BlockingIOError: if this memory has an indexer.
            OrchestraError: if there is no model, or the memory can't be read.
        """
        lock = Lock(self._place.lock)
        if self._starting is not None:
            os.close(self._starting)
        try:
            embedder = embedder_of(self._choice)
            if embedder is None:
                return
            with Store(self._place.memory) as store, line.listen(self._place.socket) as listening:
                keeper = Keeper(store, self._place, embedder, log=2)
                try:
                    self._work(store, keeper, listening)
                finally:
                    keeper.close()
                    self._place.socket.unlink(missing_ok=True)
                    self._tell({**keeper.facts(), "indexer": 0})
        finally:
            lock.close()

    def _work(self, store: Store, keeper: Keeper, listening: socket.socket) -> None:
        # At once: what an earlier one said last would look as if this one had been silent since.
        self._tell({**keeper.facts(), "indexer": os.getpid()})
        last_use = time.monotonic()
        next_beat = rest_until = 0.0
        is_busy = True
        while not self._is_stopped:
            if select.select([listening], [], [], 0 if is_busy else _LOOK_S)[0]:
                last_use = time.monotonic()
                self._serve(keeper, listening)
            try:
                is_busy = time.monotonic() >= rest_until and keeper.step()
            except OrchestraError as exc:
                logger.warning("the memory can't be worked on: %s", exc, extra={"action": "indexer_rests"})
                is_busy, rest_until = False, time.monotonic() + _REST_S
            now = time.monotonic()
            if is_busy:
                last_use = now
            if now - last_use > self._idle_s or not store.exists:
                return
            if now >= next_beat:
                next_beat = now + _BEAT_S
                with suppress(OrchestraError):
                    self._tell({**keeper.facts(), "indexer": os.getpid()})

    def _serve(self, keeper: Keeper, listening: socket.socket) -> None:
        try:
            asked, _ = listening.accept()
        except OSError:
            return
        with asked:
            asked.setblocking(False)
            try:
                what, *arguments = pipe.Reader(asked.fileno()).receive(deadline=time.monotonic() + _REQUEST_S)
                if what == "wake":  # that it was woken is all
                    self._is_stopped |= arguments != [keeper.model]
                    return
                answer = self._answer(keeper, what, arguments)
                pipe.send(asked.fileno(), answer, deadline=time.monotonic() + _REQUEST_S)
            except (OSError, EOFError, OrchestraError, TypeError, ValueError) as exc:
                logger.info("a client was not answered: %s", exc, extra={"action": "client_unanswered"})

    def _answer(self, keeper: Keeper, what: str, arguments: list[Any]) -> list[Any]:
        try:
            if what == "search":
                model, question, filters, among, count = arguments
                if model != keeper.model:
                    self._is_stopped = True
                    return [False, f"the indexer had the model {keeper.model}; it ends, ask again for {model}"]
                chosen = Filters(**{**filters, "tags": tuple(filters["tags"])})
                return [True, asdict(keeper.search(question, chosen, among=among, count_max=count))]
            if what == "facts":
                return [True, {**keeper.facts(), "indexer": os.getpid()}]
            if what == "stop":
                self._is_stopped = True
            return [True, None]
        except OrchestraError as exc:
            return [False, str(exc)]

    def _tell(self, facts: Mapping[str, Any]) -> None:
        with suppress(OSError):  # only for who looks later; a full disk must not end the work
            write_json(self._place.state, {**facts, "at_ms": time.time_ns() // 1_000_000})


def choice_of(environment: Mapping[str, str]) -> Choice:
    """Return what the one that started this process says of vectors."""
    return Choice(
        embed=environment.get("ORCHESTRA_EMBED", AUTO),
        url=environment.get("ORCHESTRA_EMBED_URL", ""),
        key=environment.get("ORCHESTRA_EMBED_KEY", ""),
        models=Path(environment.get("ORCHESTRA_MODELS") or default_models()),
    )


def main() -> None:
    """Run the indexer of the memory in the file that the command line names; see `Semantics.start_indexer`."""
    place = IndexPlace(Path(sys.argv[1]))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    os.nice(_NICENESS)
    indexer = Indexer(
        place.memory,
        choice_of(os.environ),
        idle_s=float(sys.argv[2]) if len(sys.argv) > 2 else INDEXER_IDLE_S,
        starting=int(sys.argv[3]) if len(sys.argv) > 3 else None,
    )
    signal.signal(signal.SIGTERM, indexer.stop)
    try:
        indexer.run()
    except BlockingIOError:
        return  # another one was quicker
    except (OrchestraError, OSError) as exc:
        logger.error("the indexer ends: %s", exc, extra={"action": "indexer_ends"})
        sys.exit(1)


if __name__ == "__main__":
    main()
