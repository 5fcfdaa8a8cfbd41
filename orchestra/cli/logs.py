"""Logging of the long-running programs: one line an event, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")


def set_up(level: str) -> None:
    """Log to standard error from `level` on; with the time where it is a terminal or a file, without under systemd."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
