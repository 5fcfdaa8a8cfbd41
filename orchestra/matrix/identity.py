"""Which matrix a clone is, and which state folder holds its key and its hub's card.

`.orchestra/matrix.toml` says it, beside the memory; people may edit it. Where there is none, the clone is called like
its folder. Two clones must not be one matrix by chance, so each name is claimed by a file `matrices/NAME.toml` of the
state folder that names the memory, or says that a clone of another machine has it. A claim ends with its clone: one
that was moved or removed gives its name back. A clone may come from anybody, so nothing in it says where the state is.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from orchestra.address import Address, Kind, parse_address
from orchestra.errors import BadAddress, Conflict, StateFault, StorageFault, is_full
from orchestra.memory.place import FILE, FOLDER, make_folder, memory_of, root_of
from orchestra.state import StateFolder, default_folder

_CLAIMS: Final = "matrices"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A clone as a peer. The hub knows its key once one of its processes has met it."""

    address: Address
    state: StateFolder
    fault: str = ""
    """Why it is not certain which matrix this is, and so it can't meet the hub."""

    @property
    def has_hub(self) -> bool:
        """Whether the state folder says where a hub is; it need not run."""
        return self.state.card.exists()

    @property
    def let_in(self) -> Path:
        """A file that holds the public key of the hub that let this matrix in."""
        return self.state.path / _CLAIMS / f"{self.address.name}.hub"


def matrix_of(memory: Path, *, name: str | None = None, state: Path | None = None) -> Matrix:
    """Return the matrix whose memory that is. Where a hub is, its name is claimed and written down.

    Args:
        name: another name than the one it has; nothing is written down then.
        state: another state folder than the one it has.

    Raises:
        BadAddress: if the name is none.
        StateFault, StorageFault: if what says so can't be read or written.
    """
    told = _read(_card_of(memory))
    folder = StateFolder(Path(state or os.environ.get("ORCHESTRA_STATE") or default_folder()))
    if name is not None:
        return Matrix(_address(name), folder)
    wanted = _name_in(told, memory)
    if not folder.card.exists():
        return Matrix(_address(wanted or _name_like(memory)), folder)
    for candidate in _candidates(folder, memory, wanted):
        if _claim(folder, _address(candidate).name, memory):
            if candidate != wanted:
                _write_card(memory, candidate)
            return Matrix(_address(candidate), folder)
    raise AssertionError("there is always another name")


def matrix_for_now(memory: Path, *, name: str | None = None, state: Path | None = None) -> Matrix:
    """As `matrix_of`, but where what says so can't be read or written it is one with a fault: no save waits for that.

    Raises:
        BadAddress: if the name is none.
    """
    try:
        return matrix_of(memory, name=name, state=state)
    except (StateFault, StorageFault) as fault:
        folder = StateFolder(Path(state or os.environ.get("ORCHESTRA_STATE") or default_folder()))
        return Matrix(_address(_name_like(memory)), folder, str(fault))


def matrix_at(folder: Path, state: StateFolder) -> Address:
    """Return the address of the matrix that another clone of this machine is, claimed for it if it has none yet.

    Raises:
        StateFault: if there is no such folder, or the claim can't be written.
    """
    if not folder.is_dir():
        raise StateFault(f"{folder} is no folder; name that of a clone, or a matrix: --to NAME")
    memory = memory_of(folder.resolve())
    named = _name_in(_read(_card_of(memory)), memory)
    if named is not None:
        return _address(named)
    state.make()
    for candidate in _candidates(state, memory, None):
        if _claim(state, candidate, memory):
            return _address(candidate)
    raise AssertionError("there is always another name")


def settle(folder: Path, address: Address, state: StateFolder) -> Path | None:
    """Write down that the clone `folder` lies in is this matrix from now on; return its root, or None outside of one.

    It was let in by name, so it is this matrix also where others are.

    Raises:
        Conflict: if another clone of this machine is this matrix.
    """
    root = root_of(folder.resolve())
    if not ((root / FOLDER).is_dir() or (root / ".git").exists()):
        return None
    memory = memory_of(root)
    if not _claim(state, address.name, memory):
        theirs = _claims(state).get(address.name)
        if theirs is not None:
            raise Conflict(f"{address} is the clone at {_clone_of(theirs)} already")
        _write_claim(state, address.name, memory, is_new=False)
    _write_card(memory, address.name)
    return root


def is_elsewhere(address: Address, state: StateFolder) -> None:
    """Note that a clone of another machine has this name: no clone of this one gets it."""
    _write(
        state.path / _CLAIMS / f"{address.name}.toml",
        f"# The matrix {address.name} is a clone on another machine.\nis_elsewhere = true\n",
        is_new=False,
    )


def is_here(address: Address, state: StateFolder) -> bool:
    """Whether a clone of this machine has claimed that name."""
    return address.kind is Kind.MATRIX and address.name in _claims(state)


def _candidates(folder: StateFolder, memory: Path, wanted: str | None) -> Iterator[str]:
    """Give the names a matrix may have, the best first."""
    if wanted is not None:
        yield wanted
    yield from (name for name, theirs in _claims(folder).items() if theirs == memory)  # claimed for it by others
    base = _name_like(memory)
    yield base
    for number in count(2):
        yield f"{base[:60]}-{number}"


def _name_like(memory: Path) -> str:
    return re.sub(r"[^a-z0-9._-]", "-", _clone_of(memory).name.lower()).lstrip("._-")[:64] or "matrix"


def _clone_of(memory: Path) -> Path:
    return memory.parent.parent if memory.parent.name == FOLDER else memory


def _card_of(memory: Path) -> Path:
    is_of_clone = (memory.parent.name, memory.name) == (FOLDER, FILE)
    return memory.with_name("matrix.toml") if is_of_clone else memory.with_suffix(".matrix.toml")


def _claims(folder: StateFolder) -> dict[str, Path]:
    """Return the memory behind each name that is claimed."""
    files = {file.stem: _read(file) for file in sorted((folder.path / _CLAIMS).glob("*.toml"))}
    return {name: Path(str(told["memory"])) for name, told in files.items() if "memory" in told}


def _claim(folder: StateFolder, name: str, memory: Path) -> bool:
    """Take a name for a memory; False if it belongs to another that is still there."""
    if _write_claim(folder, name, memory, is_new=True):
        return True
    claim = _read(folder.path / _CLAIMS / f"{name}.toml")
    theirs = Path(str(claim.get("memory", "")))
    if claim.get("is_elsewhere") or theirs == memory:
        return theirs == memory
    named = _read(_card_of(theirs)).get("name", name)
    if _clone_of(theirs).exists() and named == name:
        return False
    return _write_claim(folder, name, memory, is_new=False)


def _write_claim(folder: StateFolder, name: str, memory: Path, *, is_new: bool) -> bool:
    text = f"# The matrix {name} is the clone with this memory.\nmemory = {_quoted(str(memory))}\n"
    return _write(folder.path / _CLAIMS / f"{name}.toml", text, is_new=is_new)


def _write_card(memory: Path, name: str) -> None:
    text = f"# Which matrix this clone is at its hub.\nname = {_quoted(name)}\n"
    make_folder(memory.parent)
    _write(_card_of(memory), text, is_new=False)


def _write(file: Path, text: str, *, is_new: bool) -> bool:
    """Write a file whole; with `is_new` only if there is none, and False otherwise."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        if not is_new:
            draft.replace(file)
            return True
        try:
            os.link(draft, file)
        except FileExistsError:
            return False
        return True
    except OSError as exc:
        fault = StorageFault if is_full(exc) else StateFault
        raise fault(f"{file} can't be written: {exc.strerror}") from exc
    finally:
        with suppress(OSError):
            draft.unlink()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as exc:
        raise StateFault(f"{file} can't be read ({exc}); mend it, or remove it") from exc


def _name_in(told: dict[str, Any], memory: Path) -> str | None:
    """Return the name that the card of a memory says, or None.

    Raises:
        StateFault: if it is none.
    """
    if "name" not in told:
        return None
    try:
        return _address(str(told["name"])).name
    except BadAddress as exc:
        raise StateFault(f"{_card_of(memory)}: {exc}; mend it, or remove it") from exc


def _address(name: str) -> Address:
    """Return the address of a matrix by its name, also where it is written as an address."""
    address = parse_address(name if "/" in name else f"{Kind.MATRIX}/{name}")
    if address.kind is not Kind.MATRIX:
        raise BadAddress(f"{address} is no matrix; write matrix/NAME")
    return address
