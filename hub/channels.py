"""Channels: publishing to named logs, and the sessions that follow them. Pure.

A follower that keeps up is pushed each entry as it is published. One that came late, or whose window is used up, is
behind: nothing is kept for it in memory, and it catches up from the database as it says what it has seen. So a slow
reader costs one number, and holds up nobody.
"""

from __future__ import annotations

from typing import Any, Final

from orchestra.address import Kind, parse_address
from orchestra.errors import BadAddress, BadOption, Conflict, HubFull, NotFound, UnknownRecipient
from orchestra.limits import (
    CHANNELS_MAX,
    CREDIT_MAX,
    ENTRY_NAME_CHARS_MAX,
    ENTRY_NAMES_MAX,
    ENTRY_NAMES_PER_CHANNEL_MAX,
    SUBSCRIPTIONS_MAX,
    WINDOW_MESSAGES,
)
from orchestra.wire import DELIVER, EVENT, INT_MAX, MESSAGE, Record

from .channel import APPEND, MODES, OVERWRITE, Channel, Follower, Newest
from .cursors import CursorKey, Cursors
from .hubstate import HubState
from .mailbox import Letter
from .roster import Peer, Session
from .turn import Fetch, Turn

BUILT_IN: Final = {
    "channel/announcements": APPEND,
    "channel/context": OVERWRITE,
    "channel/issues": APPEND,
    "channel/status": APPEND,
}
"""The channels every hub has, and their modes."""


ENTRY_OPTIONS: Final = ("entry", "if_version", "remove")
"""The options of a SEND that only channels know."""


class Channels:
    """All channels, who follows them, and how far who has read them."""

    def __init__(self, state: HubState, channels: list[Channel], cursors: dict[CursorKey, int]) -> None:
        self._state = state
        self.all: dict[str, Channel] = {channel.text: channel for channel in channels}
        self.cursors = Cursors(state, cursors)
        self._names = sum(len(channel.newest) for channel in channels)
        for text, mode in BUILT_IN.items():
            if text not in self.all:
                self._make(text, mode, None, 0)

    def create(self, peer: Peer, to: str, mode: str, turn: Turn) -> Channel:
        """Make a channel; the same again changes nothing.

        Raises:
            Conflict: if it exists with another mode.
            HubFull: if there are too many.
        """
        if parse_address(to).kind is not Kind.CHANNEL:
            raise BadAddress(f"{to} is not a channel; write channel/NAME")
        if mode and mode not in MODES:
            raise BadOption(f"mode must be one of {', '.join(MODES)}")
        channel = self.all.get(to)
        if channel is None:
            if len(self.all) >= CHANNELS_MAX:
                raise HubFull(f"there are {CHANNELS_MAX} channels; use one that exists: orchestra channel list")
            return self._make(to, mode or APPEND, peer.id, turn.now_ms)
        if mode not in ("", channel.mode):
            raise Conflict(f"{to} exists, and its mode is {channel.mode}; choose another name")
        return channel

    def publish(self, letter: Letter, if_version: int | None, turn: Turn) -> int:
        """Add an entry to the log and push it to those who follow; return the channel's id.

        One that removes a name is an entry too, without that name: who follows is told, and it goes in its time.

        Raises:
            Conflict: if the newest entry of its name is not `if_version` (0: there must be none).
            NotFound: if it removes a name that does not exist.
            HubFull: if its name is new, and there are too many.
        """
        channel, seq, options = self.known(letter.to), letter.seq, letter.options or {}
        name: str | None = "" if channel.mode == OVERWRITE else None
        name = str(options["entry"]) if "entry" in options else name
        if "remove" in options and "entry" not in options:
            raise BadOption("only an entry with a name can be removed; say which")
        if name is not None:
            self._overwrite(channel, name, letter, if_version)
        elif if_version is not None:
            raise BadOption("only an entry with a name has versions; say which")
        if "remove" in options:
            name = None
        channel.count += 1
        channel.last_seq = seq
        self._state.writes.entries.append((channel.id, seq, name))
        record = _record(letter)
        for link, follower in channel.followers.items():
            if follower.is_behind:
                continue
            if follower.room > 0:
                follower.sent(seq, len(letter.body))
                turn.send(link, record)
            else:
                follower.is_behind = True
        return channel.id

    def _overwrite(self, channel: Channel, name: str, letter: Letter, if_version: int | None) -> None:
        older = channel.newest.get(name)
        version = older.seq if older is not None else 0
        if if_version is not None and if_version != version:
            raise Conflict(_outdated(channel, name, older, if_version))
        is_removed = bool(letter.options and "remove" in letter.options)
        if older is not None:
            channel.count -= 1
            self._state.writes.overwritten.append((channel.id, older.seq))
            if is_removed:
                del channel.newest[name]
                self._names -= 1
                return
        elif is_removed:
            raise NotFound(f"entry {name[:80]!r} of {channel.text} does not exist; nothing was removed")
        else:
            if len(channel.newest) >= ENTRY_NAMES_PER_CHANNEL_MAX or self._names >= ENTRY_NAMES_MAX:
                raise HubFull(
                    f"a channel may have {ENTRY_NAMES_PER_CHANNEL_MAX} names of entries and the hub {ENTRY_NAMES_MAX}; "
                    "overwrite one that exists"
                )
            self._names += 1
        channel.newest[name] = Newest(letter.seq, letter.sender)

    def subscribe(
        self, session: Session, to: str, *, after: int | None, cursor: str | None, credit: int, turn: Turn
    ) -> dict[str, Any]:
        """Send every entry of `to` after a place to `session`, as many ahead of what it has seen as `credit` says.

        The place is that of `cursor`; without one, or for a new one, it is `after`; and without that it is now, or in
        a channel that overwrites the start, since its newest entry is what counts.
        """
        channel = self.known(to)
        if channel.id not in session.subscriptions and len(session.subscriptions) >= SUBSCRIPTIONS_MAX:
            raise HubFull(f"one session may follow {SUBSCRIPTIONS_MAX} channels")
        if not 0 < credit <= CREDIT_MAX:
            raise BadOption(f"credit must be 1 to {CREDIT_MAX}")
        place = self.place(session.peer, channel, after=after, cursor=cursor, turn=turn)
        gone = missed(channel, place)
        follower = Follower(place, credit, missed=gone, is_behind=place < channel.last_seq)
        session.subscriptions[channel.id] = channel.followers[session.link] = follower
        self._fetch(session, channel.id, follower, turn)
        return {"channel": to, "after": place, "missed": gone}

    def place(self, peer: Peer, channel: Channel, *, after: int | None, cursor: str | None, turn: Turn) -> int:
        """Return the seq after which a reader begins."""
        if after is None:
            after = 0 if channel.mode == OVERWRITE else self._state.last_seq
        if cursor is None:
            return after
        return self.cursors.open(peer, channel, cursor, otherwise=after, turn=turn)

    def seen(self, session: Session, to: str, seq: int, cursor: str | None, turn: Turn) -> None:
        """`session` has dealt with the entries up to `seq`: there is room for more, and its cursor moves."""
        channel = self.known(to)
        follower = session.subscriptions.get(channel.id)
        if follower is not None:
            follower.has_seen(seq)
            self._fetch(session, channel.id, follower, turn)
        if cursor is not None:
            self.cursors.move(session.peer, channel, cursor, seq, turn)

    def unsubscribe(self, session: Session, to: str) -> None:
        self._leave(session, self.known(to).id)

    def session_ended(self, session: Session) -> None:
        for channel in list(session.subscriptions):
            self._leave(session, channel)

    def catch_up(self, fetch: Fetch, rows: list[tuple[Any, ...]], turn: Turn) -> None:
        """Send a session the entries that were read for it: as many as may be read at once, or all there are."""
        session = self._state.roster.sessions.get(fetch.link)
        follower = session.subscriptions.get(fetch.recipient) if session is not None else None
        if session is None or follower is None or not follower.is_behind or follower.seq != fetch.after[1]:
            return  # it left, or is elsewhere meanwhile
        channel = self.all[self._state.texts[fetch.recipient]]
        gone = missed(channel, follower.seq)
        if gone > follower.missed:
            follower.missed = gone
            turn.send(session.link, [EVENT, "channel", {"channel": channel.text, "missed": gone}])
        for row in rows:
            letter = Letter(*row)
            follower.sent(letter.seq, len(letter.body))
            turn.send(session.link, _record(letter))
        if not rows or follower.seq >= channel.last_seq:
            follower.is_behind = False
        else:
            self._fetch(session, fetch.recipient, follower, turn)

    def known(self, to: str) -> Channel:
        """Return the channel `to`.

        Raises:
            UnknownRecipient: if there is none.
        """
        channel = self.all.get(to)
        if channel is None:
            raise UnknownRecipient(
                f"there is no {to[:80]}; make it with: orchestra channel create NAME, "
                "or see those that are with: orchestra channel list"
            )
        return channel

    def _make(self, text: str, mode: str, made_by: int | None, now_ms: int) -> Channel:
        channel = Channel(self._state.id_of(text), text, mode, made_by, now_ms)
        self.all[text] = channel
        self._state.writes.channels.append((channel.id, mode, made_by, now_ms))
        return channel

    def trimmed(self, entries: list[tuple[int, int]]) -> None:
        """Retention removed these (channel, seq)."""
        for number, seq in entries:
            channel = self.all[self._state.texts[number]]
            channel.count -= 1
            channel.trimmed_seq = max(channel.trimmed_seq, seq)

    def _fetch(self, session: Session, channel: int, follower: Follower, turn: Turn) -> None:
        if follower.is_behind and follower.room > 0:
            rows_max = min(follower.room, WINDOW_MESSAGES)
            turn.fetches.append(Fetch("channel", channel, (0, follower.seq), rows_max, session.link))

    def _leave(self, session: Session, channel: int) -> None:
        if session.subscriptions.pop(channel, None) is not None:
            self.all[self._state.texts[channel]].followers.pop(session.link, None)


def missed(channel: Channel, after: int) -> int:
    """Return up to which seq entries after `after` are gone, because retention removed them; 0: none are."""
    return channel.trimmed_seq if channel.trimmed_seq > after else 0


def check_option(name: str, value: Any) -> None:
    """Check an option of a SEND to a channel.

    Raises:
        BadOption: if it does not exist, or is of the wrong type.
    """
    if name == "entry":
        if type(value) is not str or not 0 < len(value) <= ENTRY_NAME_CHARS_MAX:
            raise BadOption(f"entry must be a name of 1 to {ENTRY_NAME_CHARS_MAX} characters")
    elif name == "remove":
        if value is not True:
            raise BadOption("remove must be true, or left out")
    elif type(value) is not int or not 0 <= value <= INT_MAX:
        raise BadOption("if_version must be the seq of the newest entry of that name, or 0: there must be none")


def _outdated(channel: Channel, name: str, newest: Newest | None, if_version: int) -> str:
    shown = f"entry {name[:80]!r} of {channel.text}" if name else f"the entry of {channel.text}"
    if newest is None:
        return f"{shown} does not exist, so it is not version {if_version}; version 0 stands for one that is new"
    wanted = f"not {if_version}" if if_version else "and was to be new"
    return f"{shown} is version {newest.seq}, written by {newest.sender}, {wanted}; read it, and write again"


def _record(letter: Letter) -> Record:
    """Make the DELIVER of an entry: without a lease, since nobody acknowledges it."""
    return [DELIVER, 0, 1, letter.seq, letter.sender, letter.to, MESSAGE, letter.time_ms, letter.options, letter.body]
