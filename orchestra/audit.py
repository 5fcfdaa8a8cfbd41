"""The chain of the audit log: how each entry's hash is made, so that the hub and whoever verifies do the same. Pure.

The hash of an entry covers the one before it. Who changes, inserts or removes an entry breaks the chain from there on;
who cuts off its end can only be found out by somebody who has written down a later hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .wire import pack

FIRST: Final = b"\0" * 32
"""What comes before the first entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision about keys.

    Attributes:
        n: counts the entries from 1, without gaps.
        at_ms: milliseconds since 1970.
        actor: the address of who did it; "" for the hub itself, and for a stranger.
        action: invited, enrolled, accepted, rejected, replaced, granted, revoked, uninvited or
            refused; of tokens issued, withdrawn,
            code_made or signed_in; of the hub's own key rotating and rotated.
        subject: the address it is about, or "".
        detail: the fingerprint of the key, and what else matters.
    """

    n: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: str
    digest: bytes

    @classmethod
    def make(cls, before: bytes, n: int, at_ms: int, actor: str, action: str, subject: str, detail: str) -> Entry:
        digest = hashlib.sha256(before + pack([n, at_ms, actor, action, subject, detail])).digest()
        return cls(n, at_ms, actor, action, subject, detail, digest)


def first_break(entries: Iterable[Entry], *, before: bytes = FIRST, last_n: int = 0) -> int | None:
    """Return the number of the first entry that does not follow from the one before it, or None if all do."""
    for entry in entries:
        made = Entry.make(before, last_n + 1, entry.at_ms, entry.actor, entry.action, entry.subject, entry.detail)
        if made != entry:
            return entry.n
        before, last_n = entry.digest, entry.n
    return None
