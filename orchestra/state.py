"""The state folder: what one user's hub, agents and command line keep on this machine.

hub.db  hub.lock  hub.sock       the hub's
hub.toml                         where the hub is and its public key: what a client here needs to find it
keys/hub.key  keys/agent-x.key   one file per key pair; keys/hub-tokens.key signs tokens
matrices/                        which clone has which name
desks/                           sockets where the programs of tasks reach their agents
outputs/                         outputs of tasks that were too long for their result
"""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import stat
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import platformdirs

from .address import Address, Kind
from .errors import HubUnreachable, KeyFault, StateFault, StorageFault, is_full

_PEER_KINDS: Final = (Kind.AGENT, Kind.MATRIX, Kind.OPERATOR)
_PEERS_SHOWN: Final = 5
IPC_PATH_BYTES_MAX: Final = 100  # a Unix socket's path may have 107; libzmq adds a little


@dataclass(frozen=True, slots=True)
class HubCard:
    """Where a hub is, in the order to try, and the public key (Z85) that proves it is the one."""

    endpoints: tuple[str, ...]
    public_key: str
    next_public_key: str = ""
    """The key that the hub has announced to take over from that one."""
    first_public_key: str = ""
    """The key by which this folder came to know the hub, where that is another."""

    @property
    def hub_id(self) -> str:
        """What tells one hub from another in this folder, also when its key changes."""
        return self.first_public_key or self.public_key

    def with_key(self, public_key: str) -> HubCard:
        """Return the card of the same hub with another key."""
        first = "" if public_key == self.hub_id else self.hub_id
        return HubCard(self.endpoints, public_key, "", first)

    @property
    def public_keys(self) -> tuple[str, ...]:
        return (self.public_key, self.next_public_key) if self.next_public_key else (self.public_key,)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The paths below one state folder. Makes nothing before it is asked to."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "hub.db"

    @property
    def socket(self) -> Path:
        return self.path / "hub.sock"

    @property
    def card(self) -> Path:
        return self.path / "hub.toml"

    @property
    def outputs(self) -> Path:
        return self.path / "outputs"

    def desk_of(self, address: Address) -> Path:
        return self.path / "desks" / f"{address.kind}-{address.name}.sock"

    @property
    def hub_key(self) -> Path:
        return self.path / "keys" / "hub.key"

    @property
    def signing_key(self) -> Path:
        return self.path / "keys" / "hub-tokens.key"

    @property
    def next_hub_key(self) -> Path:
        return self.path / "keys" / "hub-next.key"

    def key_of(self, address: Address) -> Path:
        return self.path / "keys" / f"{address.kind}-{address.name}.key"

    def peers(self) -> list[Address]:
        """Return whose keys are in the folder, but for the hub's."""
        names = (path.name.removesuffix(".key").partition("-") for path in self.path.glob("keys/*-*.key"))
        return sorted((Address(Kind(kind), name) for kind, _, name in names if kind in _PEER_KINDS), key=str)

    def default_peer(self) -> Address:
        """Return who to be where nobody says it: this user's operator, or on a machine that joined as one peer, that.

        Raises:
            KeyFault: if there are several others, and no key of the operator.
        """
        operator, known = this_operator(), self.peers()
        if operator in known or not known:
            return operator
        if len(known) > 1:
            shown = ", ".join(map(str, known[:_PEERS_SHOWN]))
            raise KeyFault(f"{self.path} has no key of {operator}, but of {shown}; choose one with --as")
        return known[0]

    def ipc_endpoint(self) -> str | None:
        """The endpoint for this machine, or None where the path is too long for a socket."""
        path = str(self.socket.absolute())
        return f"ipc://{path}" if len(os.fsencode(path)) <= IPC_PATH_BYTES_MAX else None

    def make(self) -> None:
        """Make the folder with mode 0700, or check the one that is there.

        Raises:
            StateFault: if it can't be made, is no folder, or others may enter it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = self.path.stat().st_mode
        except OSError as exc:
            fault = StorageFault if is_full(exc) else StateFault
            raise fault(f"state folder {self.path} can't be made: {exc.strerror}") from exc
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StateFault(f"others may enter the state folder {self.path}; mend it with: chmod 700 {self.path}")
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise StateFault(f"state folder {self.path} can't be written; choose another with --state")

    def write_card(self, card: HubCard) -> None:
        """Write the hub's card, whole or not at all."""
        endpoints = ", ".join(json.dumps(endpoint) for endpoint in card.endpoints)
        text = f"# Where the hub is.\nendpoints = [{endpoints}]\npublic_key = '{card.public_key}'\n"
        for name in ("next_public_key", "first_public_key"):
            if key := getattr(card, name):
                text += f"{name} = '{key}'\n"
        draft = self.card.with_name(f".hub.toml.{secrets.token_hex(4)}")
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(self.card)
        except OSError as exc:
            fault = StorageFault if is_full(exc) else StateFault
            raise fault(f"{self.card} can't be written: {exc.strerror}") from exc

    def keep_next_key(self, public_key: str) -> None:
        """Note which key the hub has announced; several processes may do so at once."""
        card = self.read_card()
        if public_key not in card.public_keys:
            self.write_card(replace(card, next_public_key=public_key))

    def keep_key(self, public_key: str) -> None:
        """Note that the hub has this key now, which it had announced before."""
        card = self.read_card()
        if public_key == card.next_public_key:
            self.write_card(card.with_key(public_key))

    def read_card(self) -> HubCard:
        """Return the hub's card.

        Raises:
            HubUnreachable: if no hub was ever started here.
            StateFault: if the file is damaged.
        """
        try:
            found = tomllib.loads(self.card.read_text(encoding="utf-8"))
            endpoints = tuple(str(each) for each in found["endpoints"])
            others = (str(found.get(name, "")) for name in ("next_public_key", "first_public_key"))
            return HubCard(endpoints, str(found["public_key"]), *others)
        except FileNotFoundError as exc:
            raise HubUnreachable(f"no hub was started with the state folder {self.path}; run: orchestra up") from exc
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise StateFault(f"{self.card} can't be read ({exc}); start the hub again to write it anew") from exc


def default_folder() -> Path:
    """Where the state is when neither a flag nor `ORCHESTRA_STATE` says otherwise."""
    return Path(platformdirs.user_state_dir("agent-orchestra", appauthor=False))


def this_operator() -> Address:
    """The operator address of the user who runs this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    name = re.sub(r"[^a-z0-9._-]", "-", user.lower()).lstrip("._-")[:64]
    return Address(Kind.OPERATOR, name or "me")
