"""What is near a question in meaning: the answer of whoever searches the vectors, and how it is asked. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from .filters import Filters

CHROMADB, EXACT = "ChromaDB", "exact search"


@dataclass(frozen=True, slots=True)
class Near:
    """Memories with the cosine of their vectors and the question's. `by` is empty where nobody answered, for `reason`.

    `reason` also says why it was the exact search that answered, where the index should have.
    """

    cosines: dict[int, float] = field(default_factory=dict)
    by: str = ""
    model: str = ""
    reason: str = ""


class Meaning(Protocol):
    """Somebody who can be asked."""

    def near(self, question: str, filters: Filters, *, among: list[int], count_max: int, within_s: float) -> Near:
        """Return the nearest that the filters let through, and the cosines of `among`, within that time."""
        ...
