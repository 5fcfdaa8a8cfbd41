"""How long files that are not whole are waited for. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from orchestra.limits import FILE_SETTLE_S, FILE_WAIT_S


@dataclass(slots=True)
class _Waited:
    state: Hashable
    since: float
    changed_at: float


class Patience:
    """Times are seconds of any clock that never goes back."""

    def __init__(self, *, settle_s: float = FILE_SETTLE_S, wait_s: float = FILE_WAIT_S) -> None:
        self._settle_s = settle_s
        self._wait_s = wait_s
        self._waited: dict[tuple[str, str], _Waited] = {}

    def is_over(self, folder: str, name: str, state: Hashable, *, now: float) -> bool:
        """Say that a file is not whole yet, and how it looks; return whether it was waited for long enough."""
        waited = self._waited.setdefault((folder, name), _Waited(state, now, now))
        if waited.state != state:
            waited.state, waited.changed_at = state, now
        return now - waited.changed_at >= self._settle_s or now - waited.since >= self._wait_s

    def forget_others(self, folder: str, names: Iterable[str]) -> None:
        """Forget the files of `folder` that are not among `names`: they are whole, or have gone."""
        kept = set(names)
        for place in [each for each in self._waited if each[0] == folder and each[1] not in kept]:
            del self._waited[place]
