"""What a person says of folders and users, turned into what is meant."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from orchestra.errors import BadFile, BadOption, StateFault
from orchestra.limits import FILE_BYTES_MAX

from .trust import Trust


def folder_of_agent(path: Path, option: str) -> Path:
    """Return the folder of one old agent; the folder that holds those of all is an easy slip.

    Raises:
        StateFault: if it is none.
    """
    found = path.resolve()
    if not found.is_dir():
        raise StateFault(f"{option} {path} is no folder; give the one of this agent, such as INBOX/1")
    within = next((each for each in sorted(found.iterdir()) if each.name.isdigit() and each.is_dir()), None)
    if within is not None:
        raise StateFault(
            f"{option} {path} holds folders of several agents; give the one of this agent: {path}/{within.name}"
        )
    return found


def check_root(path: Path, trust: Trust) -> None:
    """Check the folder that holds those of the agents, which others could exchange if they could write it.

    Raises:
        StateFault: if they can.
    """
    found = path.stat()
    try:
        trust.check_folder(mode=found.st_mode, uid=found.st_uid, name=str(path))
    except BadFile as fault:
        raise StateFault(f"no file in {path} can be trusted: {fault}") from fault


def trust_in(owner: str | None, option: str) -> Trust:
    """Return what trusts the files of the user `owner`, a name or a number; of the user who runs this without it.

    Raises:
        BadOption: if there is no such user.
    """
    me = os.geteuid()
    if owner is None:
        return Trust(me, _name_of(me), me, FILE_BYTES_MAX)
    try:
        uid = int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
    except KeyError as exc:
        raise BadOption(f"{option}: there is no user {owner!r} on this machine") from exc
    return Trust(uid, owner, me, FILE_BYTES_MAX)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"
