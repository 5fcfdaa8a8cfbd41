"""Who is asked what is near in meaning: the indexer if it runs, otherwise this process, for half a second at most.

Nothing here waits for a process to start. The indexer is started for the next question, and this one is answered by
the exact search.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from orchestra.errors import IndexFault, OrchestraError
from orchestra.limits import INDEXER_IDLE_S, INDEXER_SILENT_S

from .embedder import Choice, embedder_of, plan_of
from .filters import Filters
from .indexplace import IndexPlace, Lock, holder, open_log, read_json
from .near import EXACT, Near
from .store import Store

_INDEXER: Final = "orchestra.memory.indexer"
_WAKE_S: Final = 0.05  # to tell the indexer of something new; it looks by itself every second
_FACTS_S: Final = 0.5  # that the indexer is given to say how the index is
_LATE: Final = "what is near in meaning was not found in time"


@dataclass(frozen=True, slots=True)
class Semantics:
    """The vectors of the memory in the file `path`, as the settings want them. Safe to use from several threads."""

    path: Path
    choice: Choice
    is_indexer_wanted: bool = True

    def near(self, question: str, filters: Filters, *, among: list[int], count_max: int, within_s: float) -> Near:
        """Return the nearest that the filters let through, and the cosines of `among`, within that time."""
        deadline = time.monotonic() + within_s
        plan = plan_of(self.choice)
        if not plan.name:
            return Near(reason=plan.reason)
        if not self.path.exists():
            return Near(model=plan.name, reason="nothing is stored yet")
        from . import line  # here, so that who has no model does not load the wire's library

        asked = ["search", plan.name, question, asdict(filters), among, count_max]
        try:
            found = line.ask(self._place.socket, asked, within_s=within_s)
            return Near(**found)
        except ConnectionError:
            near = self._here(plan.name, question, filters, deadline=deadline, count_max=count_max)
            self.start_indexer()  # afterwards, so that it does not take this question's time
            return near
        except TimeoutError:
            self._end_a_hung_one()
            return Near(model=plan.name, reason=f"the indexer did not answer within {within_s:.1f} s")
        except (IndexFault, OSError, TypeError) as exc:
            return Near(model=plan.name, reason=str(exc))

    def wake(self) -> None:
        """Tell the indexer that there is something new, or start it."""
        plan = plan_of(self.choice)
        if not plan.name:
            return
        from . import line

        try:
            line.ask(self._place.socket, ["wake", plan.name], within_s=_WAKE_S, is_answer_wanted=False)
        except ConnectionError:
            self.start_indexer()
        except TimeoutError:
            self._end_a_hung_one()
        except (IndexFault, OSError):
            pass  # it looks by itself every second

    def start_indexer(self) -> None:
        """Start the indexer and go on at once; nothing happens where there is no memory, or it is not wanted."""
        if not self.is_indexer_wanted or not self.path.exists():
            return
        if holder(self._place.lock) or holder(self._place.starting):
            return
        more = {
            "ORCHESTRA_EMBED": self.choice.embed,
            "ORCHESTRA_EMBED_URL": self.choice.url,
            "ORCHESTRA_EMBED_KEY": self.choice.key,
            "ORCHESTRA_MODELS": str(self.choice.models.absolute()),  # it works in another folder
        }
        with (
            suppress(OSError),  # then everything is answered here
            closing(Lock(self._place.starting)) as starting,
            os.fdopen(open_log(self._place.log), "ab") as log,
        ):
            # It inherits this lock until it has its own: who saves meanwhile must not start another each time.
            # By a shell that ends at once: so nobody here has to wait for the indexer's end.
            about = [str(self.path), str(INDEXER_IDLE_S), str(starting.descriptor)]
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-P", "-m", _INDEXER, *about],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                env={**os.environ, **more},
                start_new_session=True,
                pass_fds=[starting.descriptor],
                check=False,
            )

    def facts(self) -> dict[str, Any]:
        """Return how the index is, as the indexer says, or as it said last."""
        plan = plan_of(self.choice)
        last = read_json(self._place.state)
        found = {"model": plan.name, "reason": plan.reason, "indexer": 0}
        if not plan.name:
            return found | {"backend": "off"}
        from . import line

        try:
            return found | dict(line.ask(self._place.socket, ["facts"], within_s=_FACTS_S))
        except ConnectionError:
            said = last if last.get("model") == plan.name else {}
            return found | {"backend": "exact"} | said | {"indexer": holder(self._place.lock)}
        except (TimeoutError, IndexFault, OSError):
            pid = holder(self._place.lock)
            return found | last | {"backend": "hung", "indexer": pid, "reason": f"the indexer ({pid}) does not answer"}

    @property
    def _place(self) -> IndexPlace:
        return IndexPlace(self.path)

    def _here(self, model: str, question: str, filters: Filters, *, deadline: float, count_max: int) -> Near:
        """Search in a thread of this process; when it is late, it is left to itself."""
        answers: queue.SimpleQueue[Near] = queue.SimpleQueue()
        threading.Thread(
            target=lambda: answers.put(self._exact(model, question, filters, count_max)), name="meaning", daemon=True
        ).start()
        try:
            return answers.get(timeout=max(0.001, deadline - time.monotonic()))
        except queue.Empty:
            return Near(model=model, reason=_LATE)

    def _exact(self, model: str, question: str, filters: Filters, count_max: int) -> Near:
        try:
            embedder = embedder_of(self.choice)
            assert embedder is not None
            from . import vectors
            from .nearest import best, cosines

            (vector,) = embedder.embed([question])
            with Store(self.path) as store:
                found = cosines(vector, vectors.chosen(store, filters, model=embedder.name))
            return Near(best(found, count_max), EXACT, embedder.name, "the indexer was not running")
        except OrchestraError as exc:
            return Near(model=model, reason=str(exc))

    def _end_a_hung_one(self) -> None:
        """Kill an indexer that has said nothing for a minute: the next question starts another."""
        last = read_json(self._place.state)
        pid = holder(self._place.lock)
        if pid and time.time() - last.get("at_ms", 0) / 1000 > INDEXER_SILENT_S:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
