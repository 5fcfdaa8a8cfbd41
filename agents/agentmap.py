"""Which folder of the old protocol stands for whom at the hub. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestra.address import Address, Kind, parse_address
from orchestra.errors import BadOption


@dataclass(frozen=True, slots=True)
class AgentMap:
    """`addresses` says where the tasks of a folder go; without any, those of a folder N that is a number go to agent/N.

    `served` are the folders of old agents, each with the agent that it is at the hub and the queues it serves there.
    """

    addresses: dict[str, Address] = field(default_factory=dict)
    served: dict[str, tuple[Address, tuple[str, ...]]] = field(default_factory=dict)

    def address_of(self, folder: str) -> Address | None:
        """Return where the tasks of `folder` go, or None where it is left alone."""
        if folder in self.served:
            return None
        if folder in self.addresses:
            return self.addresses[folder]
        is_plain = not self.addresses and not self.served
        return Address(Kind.AGENT, folder) if is_plain and _is_number(folder) else None


def parse_map(text: str, served: Iterable[str]) -> AgentMap:
    """Read `1=coder-1,2=queue/review` and a list of `3=old-3` or `3=old-3+queue/review`.

    Raises:
        BadOption, BadAddress: if that can't be understood, or a folder is named twice.
    """
    addresses: dict[str, Address] = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        folder, to = _pair(pair, "1=coder-1,2=queue/review")
        address = _address(to, Kind.AGENT)
        if address.kind not in (Kind.AGENT, Kind.QUEUE):
            raise BadOption(f"{to} takes no tasks; map folder {folder} to an agent or a queue")
        if folder in addresses:
            raise BadOption(f"folder {folder} is mapped twice")
        addresses[folder] = address
    old: dict[str, tuple[Address, tuple[str, ...]]] = {}
    for pair in served:
        folder, to = _pair(pair, "3=old-3 or 3=old-3+queue/review")
        name, *queues = to.split("+")
        agent = _address(name, Kind.AGENT)
        if agent.kind is not Kind.AGENT:
            raise BadOption(f"{name} is no agent; an old agent is one at the hub: 3=old-3 or 3=old-3+queue/x")
        if folder in old or folder in addresses:
            raise BadOption(f"folder {folder} is named twice: its files are either taken or written")
        if any(agent == other for other, _ in old.values()):
            raise BadOption(f"{agent} is named twice: each old agent is one of its own at the hub")
        found = [_address(queue, Kind.QUEUE) for queue in queues]
        if any(queue.kind is not Kind.QUEUE for queue in found):
            raise BadOption(f"{pair}: after + come queues")
        old[folder] = agent, tuple(map(str, found))
    return AgentMap(addresses, old)


def _pair(text: str, example: str) -> tuple[str, str]:
    folder, found, to = (part.strip() for part in text.partition("="))
    if not (found and to and folder) or folder.startswith(".") or "/" in folder:
        raise BadOption(f"{text!r} does not say which folder stands for whom; write it as {example}")
    return folder, to


def _address(text: str, kind: Kind) -> Address:
    return parse_address(text if "/" in text else f"{kind}/{text}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
