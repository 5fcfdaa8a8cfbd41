"""Every error of the project, in one tree.

OrchestraError                     has a `code` for machines and one sentence for people
├── PeerError                      a peer's fault; the hub answers it with ERROR
│   ├── Malformed                  not the wire's format
│   ├── TooLarge                   above a limit of `limits.py`
│   ├── UnknownVerb
│   ├── VersionMismatch            fatal
│   ├── BadAddress
│   ├── BadOption                  an option or parameter that does not exist or has the wrong type
│   ├── NoSession                  a record before HELLO
│   ├── WrongName                  fatal: the key belongs to another peer
│   ├── Replaced                   fatal: a newer process works as this agent
│   ├── KeyRevoked                 fatal: the key this session came with is let in no more
│   ├── NotAllowed
│   ├── InvitationOver             used up, expired or revoked
│   ├── TokenRefused               fatal: no token of this hub, changed, or revoked
│   ├── TokenExpired               fatal: its time is over; a new one has to be made
│   ├── UnknownRecipient
│   ├── UnknownMethod
│   ├── NotFound
│   ├── NotStored                  a send that is repeated, but was refused the first time
│   ├── StaleLease                 the delivery or task is no longer held by who speaks of it
│   ├── NotCancelable              the task is already over
│   ├── Conflict                   somebody else wrote it meanwhile, or made it otherwise
│   ├── NotRetryable               the task is not over, or completed
│   ├── NotAsked                   the task waits for no answer
│   ├── MailboxFull                try again later
│   ├── RateLimited                try again later: the peer sends or calls too often
│   ├── HubFull                    try again later
│   ├── DeadLetter                 a message that was waited for is dead
│   ├── Offline                    a live request to a peer that is not connected
│   └── DeadlinePassed             a live request that was not answered in time
├── ConnectionFault                between this process and the hub
│   ├── HubUnreachable             try again later
│   ├── KeyRefused                 fatal: the hub does not know this key
│   └── ConnectionLost             what was asked live has to be asked again
└── WorldFault                     this machine: files, ports, disk
    ├── StateFault                 the state folder: missing, foreign, newer, locked
    ├── CannotOpen                 a sealed message that was meant for another key, or was changed
    ├── KeyFault                   a key file: unreadable, malformed, or readable by others
    ├── PortInUse
    ├── BadFile                    a task or result file of the old protocol that is not taken, with the reason
    │   └── UnfinishedFile         try again later: somebody may still be writing it
    ├── GitHubFault                GitHub, or gh, refused something or can't be reached
    ├── StorageFault               the disk is full, or the database refused a commit
    │   ├── Damaged                the database is damaged, or no database
    │   └── MemoryDamaged          the file of a memory; what can be read can be saved
    ├── ModelFault                 the model of a memory can't be had, or is not the one that was published
    ├── EmbedFault                 no vectors can be made: the model or the service that makes them fails
    │   └── RowRefused             the service refuses one text
    └── IndexFault                 the index of a memory: its process hung or died, or is another's
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class OrchestraError(Exception):
    """The root. `code` is stable; the text is for people and may change between releases."""

    code: ClassVar[str] = "internal"
    is_fatal: ClassVar[bool] = False
    """The conversation cannot go on; the client stops instead of trying again."""
    is_temporary: ClassVar[bool] = False
    """The same thing may work later."""


class PeerError(OrchestraError):
    """A peer's fault: the hub answers it and goes on."""


class Malformed(PeerError):
    code = "malformed"


class TooLarge(PeerError):
    code = "too_large"


class UnknownVerb(PeerError):
    code = "unknown_verb"


class VersionMismatch(PeerError):
    code, is_fatal = "version_mismatch", True


class BadAddress(PeerError):
    code = "bad_address"


class BadOption(PeerError):
    code = "bad_option"


class NoSession(PeerError):
    code = "no_session"


class WrongName(PeerError):
    code, is_fatal = "wrong_name", True


class Replaced(PeerError):
    code, is_fatal = "replaced", True


class KeyRevoked(PeerError):
    code, is_fatal = "key_revoked", True


class InvitationOver(PeerError):
    code = "invitation_over"


class NotAllowed(PeerError):
    code = "not_allowed"


class TokenRefused(PeerError):
    code, is_fatal = "token_refused", True


class TokenExpired(PeerError):
    code, is_fatal = "token_expired", True


class UnknownRecipient(PeerError):
    code = "unknown_recipient"


class UnknownMethod(PeerError):
    code = "unknown_method"


class NotFound(PeerError):
    code = "not_found"


class NotStored(PeerError):
    code = "not_stored"


class StaleLease(PeerError):
    code = "stale_lease"


class NotCancelable(PeerError):
    code = "not_cancelable"


class Conflict(PeerError):
    code = "conflict"


class NotRetryable(PeerError):
    code = "not_retryable"


class NotAsked(PeerError):
    code = "not_asked"


class MailboxFull(PeerError):
    code, is_temporary = "mailbox_full", True


class RateLimited(PeerError):
    code, is_temporary = "rate_limited", True


class HubFull(PeerError):
    code, is_temporary = "hub_full", True


class DeadLetter(PeerError):
    code = "dead_letter"


class Offline(PeerError):
    code, is_temporary = "offline", True


class DeadlinePassed(PeerError):
    code, is_temporary = "deadline_passed", True


class ConnectionFault(OrchestraError):
    """Between this process and the hub."""


class HubUnreachable(ConnectionFault):
    code, is_temporary = "hub_unreachable", True


class KeyRefused(ConnectionFault):
    code, is_fatal = "key_refused", True


class ConnectionLost(ConnectionFault):
    code, is_temporary = "connection_lost", True


class WorldFault(OrchestraError):
    """This machine: files, ports, disk."""


class StateFault(WorldFault):
    code = "state"


class CannotOpen(WorldFault):
    code = "cannot_open"


class KeyFault(WorldFault):
    code = "key_file"


class PortInUse(WorldFault):
    code = "port_in_use"


class BadFile(WorldFault):
    """A task or result file of the old protocol that is not taken."""

    code = "bad_file"


class UnfinishedFile(BadFile):
    code, is_temporary = "unfinished_file", True


class GitHubFault(WorldFault):
    """`status`: of its HTTP answer; 0 where there was none."""

    code = "github"

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class StorageFault(WorldFault):
    code, is_temporary = "storage", True


class Damaged(StorageFault):
    code, is_temporary = "damaged", False


def is_full(exc: OSError) -> bool:
    """Whether the disk, or what this user may have of it, is full."""
    return exc.errno in _FULL


class MemoryDamaged(StorageFault):
    code, is_temporary = "memory_damaged", False


class ModelFault(WorldFault):
    code = "model"


class EmbedFault(WorldFault):
    code, is_temporary = "embed", True


class RowRefused(EmbedFault):
    code, is_temporary = "row_refused", False


class IndexFault(WorldFault):
    code, is_temporary = "index", True


def _tree(root: type[OrchestraError]) -> list[type[OrchestraError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


# The root last: the branches that have no code of their own share its code.
BY_CODE: dict[str, type[OrchestraError]] = {cls.code: cls for cls in reversed(_tree(OrchestraError))}


def error_of(code: str, text: str) -> OrchestraError:
    """Return the error that came over the wire as (`code`, `text`); an unknown code gives the root class."""
    return BY_CODE.get(code, OrchestraError)(text)
