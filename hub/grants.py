"""What a peer may do: the grants of its kind, or those it was given instead. Pure.

The kind comes from the key a peer proved, never from what it says of itself. A grant is an action, or an action and a
pattern of the addresses it is for, as in a shell: `submit:queue/review`, `send:agent/*`, `administer`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from orchestra.address import Kind
from orchestra.errors import BadOption, NotAllowed
from orchestra.limits import GRANTS_MAX

if TYPE_CHECKING:
    from .roster import Peer, Session

SEND: Final = "send"
BROADCAST: Final = "broadcast"
SUBMIT: Final = "submit"
SERVE: Final = "serve"
CHANNEL: Final = "channel"
RECEIVE: Final = "receive"
READ: Final = "read"
OBSERVE: Final = "observe"
MANAGE: Final = "manage"
ADMINISTER: Final = "administer"

ACTIONS: Final[dict[str, tuple[str, bool]]] = {
    SEND: ("send messages, live requests and entries to", True),
    BROADCAST: ("send to every matrix at once", False),
    SUBMIT: ("submit tasks to", True),
    SERVE: ("take the tasks of", True),
    CHANNEL: ("make the channel", True),
    RECEIVE: ("receive the messages and live requests to itself, and read its inbox", False),
    READ: ("read and follow the channel", True),
    OBSERVE: ("see the messages and tasks of all, and who does what as it happens", False),
    MANAGE: ("cancel, answer and try again the tasks of all, and drop their dead letters", False),
    ADMINISTER: ("administer the hub: let peers in, say what they may do, read the audit log", False),
}
"""Action → what it allows, and whether it is for addresses."""

DEFAULTS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.AGENT: ("receive", "read:*", "send:*", "serve:*"),
    Kind.MATRIX: ("receive", "read:*", "send:*", "broadcast", "submit:*", "channel:*"),
    Kind.OPERATOR: (
        *("receive", "read:*", "send:*", "broadcast", "submit:*", "channel:*"),
        *("observe", "manage", "administer"),
    ),
}
"""What a peer may do that was given nothing else."""

_REMEMBERED: Final = 1000  # checks of one session
_GRANT: Final = re.compile(r"([a-z]+)(?::([a-z0-9._*?/\[\]!-]{1,100}))?")


def parse_grants(texts: Iterable[object]) -> tuple[str, ...]:
    """Check grants as people write them; return them sorted, each once.

    Raises:
        BadOption: if one names no action, or has an address where none belongs, or none where one does.
    """
    found: set[str] = set()
    for text in texts:
        match = _GRANT.fullmatch(text) if type(text) is str else None
        action = ACTIONS.get(match[1]) if match else None
        if match is None or action is None or (match[2] is not None) is not action[1]:
            forms = ", ".join(f"{name}:ADDRESS" if takes else name for name, (_, takes) in ACTIONS.items())
            raise BadOption(f"{str(text)[:80]!r} is not a grant; write {forms} (with * and ? in the address)")
        found.add(match[0])
    if len(found) > GRANTS_MAX:
        raise BadOption(f"a peer may have {GRANTS_MAX} grants; use patterns")
    return tuple(sorted(found))


def of(peer: Peer) -> tuple[str, ...]:
    """Return the grants of `peer`."""
    return DEFAULTS[peer.address.kind] if peer.grants is None else peer.grants


class Rights(NamedTuple):
    """What a session may do: what its peer may, and of that only what its token may, where it came with one."""

    peer: Peer
    token: tuple[str, ...] | None = None

    def shown(self) -> list[str]:
        """Return the grants as people read them: those of a token whose action its peer may do at all."""
        given = of(self.peer)
        if self.token is None:
            return list(given)
        actions = {grant.partition(":")[0] for grant in given}
        return [grant for grant in self.token if grant.partition(":")[0] in actions]


def check_once(session: Session, action: str, target: str = "") -> None:
    """As `check`, remembered for the session: what its peer may do changes only with a new one.

    Raises:
        NotAllowed: naming the grant that is missing.
    """
    if (action, target) not in session.granted:
        check(session.rights, action, target)
        if len(session.granted) >= _REMEMBERED:
            session.granted.clear()
        session.granted.add((action, target))


def check(rights: Rights, action: str, target: str = "") -> None:
    """Refuse what was not granted.

    Raises:
        NotAllowed: naming the grant that is missing.
    """
    if not allows(rights, action, target):
        who = rights.peer.text if rights.token is None else f"this token of {rights.peer.text}"
        what = f"{ACTIONS[action][0]}{' ' if target else ''}{target}"
        raise NotAllowed(f"{who} may not {what}; {_way(rights, f'{action}:{target}' if target else action)}")


def allows(rights: Rights, action: str, target: str = "") -> bool:
    """Whether it was granted; where the answer is no error."""
    token = rights.token
    return _allows(of(rights.peer), action, target) and (token is None or _allows(token, action, target))


def _allows(given: Iterable[str], action: str, target: str) -> bool:
    for grant in given:
        name, _, pattern = grant.partition(":")
        if name == action and (not pattern or fnmatchcase(target, pattern)):
            return True
    return False


def check_see_message(rights: Rights, *, sender: str, recipients: Iterable[str]) -> None:
    """A message is seen by its sender, its recipients and who may observe."""
    text = rights.peer.text
    if text != sender and text not in recipients and not allows(rights, OBSERVE):
        raise NotAllowed(f"{text} is neither the sender nor a recipient of this message; {_way(rights, OBSERVE)}")


def check_see_task(rights: Rights, *, sender: str, holder: str) -> None:
    """A task is seen by its sender, its agent and who may observe."""
    text = rights.peer.text
    if text not in (sender, holder) and not allows(rights, OBSERVE):
        raise NotAllowed(f"{text} is neither the sender nor the agent of this task; {_way(rights, OBSERVE)}")


def check_manage(rights: Rights, *, sender: str, sending: str, to: str) -> None:
    """What `sender` sent to `to` is changed by its sender, and by who may manage.

    A token changes what it could have sent: `sending` is the action for that.
    """
    token = rights.token
    is_own = rights.peer.text == sender and (token is None or _allows(token, sending, to))
    if not is_own and not allows(rights, MANAGE):
        raise NotAllowed(f"{rights.peer.text} may not change what {sender} sent to {to}; {_way(rights, MANAGE)}")


def _way(rights: Rights, missing: str) -> str:
    """Say how a missing grant is given."""
    if _allows(of(rights.peer), *missing.partition(":")[::2]):
        return f"make a token with: --grant {missing}"
    return f"an operator can allow it with: orchestra keys grant {rights.peer.text} {missing}"
