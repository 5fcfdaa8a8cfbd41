"""Stopping with the parent: a program whose standard input is a pipe from the one that started it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable


def on_close(stop: Callable[[], None]) -> None:
    """Call `stop` in the running loop once standard input is closed; what is read from it is ignored."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            stop()

    loop.add_reader(descriptor, readable)
