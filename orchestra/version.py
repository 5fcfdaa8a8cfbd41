"""The version of the distribution, and the versions of the wire this code speaks."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"

# A later release that only adds fields or methods keeps the number; one that changes a meaning raises it, and the
# hub speaks its own and the one before.
WIRE_VERSION: Final = 1
WIRE_VERSION_OLDEST: Final = 1
