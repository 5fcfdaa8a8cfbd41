"""What a hub process is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from orchestra.errors import BadOption
from orchestra.state import StateFolder

from .retention import Keep
from .store import Durability

PORT_DEFAULT: Final = 7420
HOST_DEFAULT: Final = "127.0.0.1"
GATEWAY_PORT_DEFAULT: Final = 8080


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Attributes:
    host: the address to listen on.
    port: the TCP port; 0 takes a free one.
    names: under which it is called, beside the names of this machine's loopback and `host`.
    tls_cert: a file with the certificate and its chain; without it nothing is encrypted.
    tls_key: the file of its key, where that is another.
    is_insecure: whether other machines may connect without TLS.
    is_optional: whether the hub starts without it where its port is in use.
    """

    host: str = HOST_DEFAULT
    port: int = GATEWAY_PORT_DEFAULT
    names: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    is_insecure: bool = False
    is_optional: bool = False

    def __post_init__(self) -> None:
        if self.tls_key is not None and self.tls_cert is None:
            raise BadOption("--tls-key is for a certificate; give it with --tls-cert")
        if not self.is_loopback and self.tls_cert is None and not self.is_insecure:
            raise BadOption(
                f"a gateway on {self.host} without TLS would send tokens in the clear to other machines; "
                "give --tls-cert and --tls-key, or say --gateway-insecure where a proxy or a VPN encrypts"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Attributes:
    state: the folder of the database, the keys and the local socket.
    host: the address to listen on; other machines need one that they reach.
    port: the TCP port; 0 takes a free one.
    durability: `full` survives a power cut, `fast` any crash of a process.
    sends_per_second: how many messages and tasks one peer may send; 0 is as many as it can.
    keep: how much of what is over is kept.
    holds_unknown_keys: whether keys that come from other machines are held as pending, for somebody to accept.
    gateway: the WebSocket and HTTP side; None is none.
    """

    state: StateFolder
    host: str = HOST_DEFAULT
    port: int = PORT_DEFAULT
    durability: Durability = "full"
    sends_per_second: int = 0
    keep: Keep = field(default_factory=Keep)
    holds_unknown_keys: bool = False
    gateway: GatewaySettings | None = None
