"""Receipts as the database holds them: how far a message has come for one recipient. Pure.

It reads through the function it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from orchestra.stage import ACKED, DELIVERED, READ

Rows = Callable[..., Iterator[tuple[Any, ...]]]
"""Reads the database: SQL and its parameters to rows."""

_RANKS: Final = "(0, 1, 2, 3)"


class Mail(NamedTuple):
    """One message in a mailbox. `rank` is None where it has left the inbox; `stage` is the latest that was said."""

    seq: int
    rank: int | None
    is_delivered: bool
    stage: int


def mail(rows: Rows, recipient: int, seq: int) -> Mail:
    """Return where message `seq` is for `recipient`; of no message of its own it is at stage 0 and nowhere."""
    said = receipts_of(rows, recipient, seq)
    stage = said[-1][0] if said else 0
    sql = f"SELECT rank, delivered_ms FROM delivery WHERE recipient = ? AND rank IN {_RANKS} AND seq = ?"
    for rank, delivered_ms in rows(sql, recipient, seq):
        return Mail(seq, rank, delivered_ms is not None, stage)
    return Mail(seq, None, False, stage)


def receipts_of(rows: Rows, recipient: int, seq: int) -> list[tuple[int, int, int]]:
    """Return what was said of `seq`: (stage, ms, session), the latest stage last."""
    found = []
    for stage in (DELIVERED, READ, ACKED):
        # Ranges of one stage never overlap, so the nearest that begins before is the only one that may hold it.
        sql = """
            SELECT last_seq, at_ms, session FROM receipt
            WHERE recipient = ? AND stage = ? AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1
        """
        for last_seq, at_ms, session in rows(sql, recipient, stage, seq):
            if last_seq >= seq:
                found.append((stage, at_ms, session))
    return found
