"""Columns that hold msgpack. Pure."""

from __future__ import annotations

from typing import Any

import msgpack


def unpack(blob: bytes | None) -> Any:
    """Decode what the hub itself packed into a column."""
    return None if blob is None else msgpack.unpackb(blob)
