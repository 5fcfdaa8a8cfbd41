"""Addresses: where a message or a task goes, and who a peer is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from .errors import BadAddress

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


class Kind(StrEnum):
    """The kinds of address. The first three are kinds of peer."""

    AGENT = "agent"
    MATRIX = "matrix"
    OPERATOR = "operator"
    QUEUE = "queue"
    CHANNEL = "channel"
    EVERYONE = "*"


PEER_KINDS: Final = frozenset({Kind.AGENT, Kind.MATRIX, Kind.OPERATOR})
_NAMED_KINDS: Final = {kind.value: kind for kind in Kind if kind is not Kind.EVERYONE}


@dataclass(frozen=True, slots=True)
class Address:
    """One address, such as `agent/coder-1`; `*` (every matrix) has no name."""

    kind: Kind
    name: str

    @property
    def is_peer(self) -> bool:
        return self.kind in PEER_KINDS

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind.value


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """Return the address that `text` names.

    Raises:
        BadAddress: if it is none. The sentence names the kinds and the shape of a name.
    """
    if text == Kind.EVERYONE:
        return Address(Kind.EVERYONE, "")
    kind_text, _, name = text.partition("/")
    kind = _NAMED_KINDS.get(kind_text)
    if kind is None:
        raise BadAddress(f"{_shown(text)} is not an address; write one of {_kinds()} or *")
    if not _NAME.match(name):
        raise BadAddress(
            f"{_shown(text)} has no valid name after the slash; "
            "a name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and starts with a letter or digit"
        )
    return Address(kind, name)


def parse_peer(text: str) -> Address:
    """Return the address of a peer; like `parse_address`, but only agents, matrices and operators are taken."""
    address = parse_address(text)
    if not address.is_peer:
        raise BadAddress(f"{_shown(text)} is not a peer; write agent/NAME, matrix/NAME or operator/NAME")
    return address


def _kinds() -> str:
    return ", ".join(f"{kind}/NAME" for kind in _NAMED_KINDS)


def _shown(text: str) -> str:
    """Show foreign text in a sentence: bounded, and with control characters escaped."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
