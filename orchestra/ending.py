"""How a program ended, in words."""

from __future__ import annotations

import signal


def how_ended(status: int) -> str:
    """Return `exit code 3`; of a `status` below 0, which stands for a signal, the name of that."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # most of the real-time ones have none
        return f"signal {-status}"
