"""The stages of a message: where it is for one recipient. A later one implies those before it. Pure."""

from __future__ import annotations

from typing import Final

STORED: Final = 0
DELIVERED: Final = 1
READ: Final = 2
ACKED: Final = 3
"""The numbers that an ACK and the rows of receipts hold."""

STAGES: Final = ("stored", "delivered", "read", "acked")
"""Their names, by number. `dead` is no stage on this way but its end: it always has a reason."""

DEAD: Final = "dead"


def has_reached(stage: str, wanted: str) -> bool:
    """Whether a message at `stage` has come as far as `wanted`; a dead one comes nowhere."""
    return stage != DEAD and STAGES.index(stage) >= STAGES.index(wanted)
