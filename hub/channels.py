"""Channels: named logs, and the sessions that follow them. Pure.

A session's cursor is the seq of the newest entry it was sent; while it is behind (it came late, or had no credit) the
cursor is kept as -1 - seq, new entries are not pushed, and it catches up from the database as its credit allows.
"""

from __future__ import annotations

from typing import Any, Final

from orchestra.address import Kind, parse_address
from orchestra.errors import HubFull, UnknownRecipient
from orchestra.limits import SUBSCRIPTIONS_MAX, WINDOW_MESSAGES
from orchestra.wire import DELIVER, MESSAGE, Record

from .hubstate import HubState
from .mailbox import Letter
from .roster import Session
from .turn import Fetch, Link, Turn

BUILT_IN: Final = ("channel/announcements", "channel/context", "channel/issues", "channel/status")
"""The channels every hub has."""


class Channels:
    """Who follows which channel."""

    def __init__(self, state: HubState) -> None:
        self._state = state
        self._subscribers: dict[int, dict[Link, None]] = {}
        for text in BUILT_IN:
            state.id_of(text)

    def publish(self, letter: Letter, turn: Turn) -> int:
        """Add an entry to the log and push it to those who follow; return the channel's id."""
        channel = self._id_of(letter.to)
        self._state.writes.entries.append((channel, letter.seq))
        record = _record(letter)
        for link in self._subscribers.get(channel, ()):
            session = self._state.roster.sessions[link]
            cursor = session.subscriptions[channel]
            if cursor < 0:
                continue
            if session.credit > 0:
                session.credit -= 1
                session.subscriptions[channel] = letter.seq
                turn.send(link, record)
            else:
                session.subscriptions[channel] = -1 - cursor
        return channel

    def subscribe(self, session: Session, to: str, after: int | None, turn: Turn) -> int:
        """Send every entry of `to` after seq `after` (None: from now on) to `session`, as its credit allows.

        Returns the seq after which the entries come.
        """
        channel = self._id_of(to)
        if channel not in session.subscriptions and len(session.subscriptions) >= SUBSCRIPTIONS_MAX:
            raise HubFull(f"one session may follow {SUBSCRIPTIONS_MAX} channels")
        self._subscribers.setdefault(channel, {})[session.link] = None
        if after is None:
            session.subscriptions[channel] = self._state.last_seq
            return self._state.last_seq
        session.subscriptions[channel] = -1 - after
        self._fetch(session, channel, turn)
        return after

    def unsubscribe(self, session: Session, to: str) -> None:
        self._leave(session, self._id_of(to))

    def session_ended(self, session: Session) -> None:
        for channel in list(session.subscriptions):
            self._leave(session, channel)

    def has_credit(self, session: Session, turn: Turn) -> None:
        """Go on with the channels in which `session` is behind."""
        for channel, cursor in session.subscriptions.items():
            if cursor < 0:
                self._fetch(session, channel, turn)

    def catch_up(self, fetch: Fetch, rows: list[tuple[Any, ...]], turn: Turn) -> None:
        """Send a session the entries that were read for it."""
        session = self._state.roster.sessions.get(fetch.link)
        if session is None or session.subscriptions.get(fetch.recipient) != -1 - fetch.after[1]:
            return  # it left, or asked for another place meanwhile
        for row in rows:
            if session.credit <= 0:
                return
            letter = Letter(*row)
            session.credit -= 1
            session.subscriptions[fetch.recipient] = -1 - letter.seq
            turn.send(session.link, _record(letter))
        if len(rows) < fetch.rows_max:
            session.subscriptions[fetch.recipient] = self._state.last_seq
        else:
            self._fetch(session, fetch.recipient, turn)

    def _fetch(self, session: Session, channel: int, turn: Turn) -> None:
        if session.credit > 0:
            after = -1 - session.subscriptions[channel]
            rows_max = min(session.credit, WINDOW_MESSAGES)
            turn.fetches.append(Fetch("channel", channel, (0, after), rows_max, session.link))

    def _leave(self, session: Session, channel: int) -> None:
        session.subscriptions.pop(channel, None)
        self._subscribers.get(channel, {}).pop(session.link, None)

    def _id_of(self, to: str) -> int:
        number = self._state.ids.get(to)
        if number is None or parse_address(to).kind is not Kind.CHANNEL:
            raise UnknownRecipient(f"there is no {to}; the built-in channels are {', '.join(BUILT_IN)}")
        return number


def _record(letter: Letter) -> Record:
    """Make the DELIVER of an entry: without a lease, since nobody acknowledges it."""
    return [DELIVER, 0, 1, letter.seq, letter.sender, letter.to, MESSAGE, letter.time_ms, letter.options, letter.body]
