"""What a peer may do, by its kind. Pure.

The kind comes from the key a peer proved, never from what it says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orchestra.address import Address, Kind
from orchestra.errors import NotAllowed

_MAY_SUBMIT: Final = frozenset({Kind.OPERATOR, Kind.MATRIX})
_MAY_BROADCAST: Final = frozenset({Kind.OPERATOR, Kind.MATRIX})
_MAY_MAKE_CHANNELS: Final = frozenset({Kind.OPERATOR, Kind.MATRIX})
_MAY_SERVE: Final = frozenset({Kind.AGENT})
_MAY_ADMINISTER: Final = frozenset({Kind.OPERATOR})


def check_submit(peer: Address) -> None:
    if peer.kind not in _MAY_SUBMIT:
        raise NotAllowed(f"{peer} may not submit tasks; operators and matrices may")


def check_broadcast(peer: Address) -> None:
    if peer.kind not in _MAY_BROADCAST:
        raise NotAllowed(f"{peer} may not broadcast; operators and matrices may")


def check_make_channel(peer: Address) -> None:
    if peer.kind not in _MAY_MAKE_CHANNELS:
        raise NotAllowed(f"{peer} may not make channels; operators and matrices may")


def check_serve(peer: Address) -> None:
    if peer.kind not in _MAY_SERVE:
        raise NotAllowed(f"{peer} may not take tasks or serve queues; agents may")


def check_administer(peer: Address) -> None:
    if peer.kind not in _MAY_ADMINISTER:
        raise NotAllowed(f"{peer} may not administer the hub; operators may")


def check_see_message(peer: Address, *, sender: str, recipients: Iterable[str]) -> None:
    """A message is seen by its sender, its recipients and the operators."""
    if peer.kind is not Kind.OPERATOR and str(peer) != sender and str(peer) not in recipients:
        raise NotAllowed(f"{peer} is neither the sender nor a recipient of this message")


def check_see_task(peer: Address, *, sender: str, holder: str) -> None:
    """A task is seen, and canceled, by its sender, its agent and the operators."""
    if peer.kind is not Kind.OPERATOR and str(peer) not in (sender, holder):
        raise NotAllowed(f"{peer} is neither the sender nor the agent of this task")
