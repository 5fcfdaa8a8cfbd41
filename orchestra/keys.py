"""CurveZMQ key pairs and the files they live in.

A key file is ZPL text as `zmq.auth` reads it. It holds a secret, so it is made with mode 0600 inside a folder of mode
0700, and one that others may read is refused, as ssh does. The secret may be sealed with a passphrase; then the file
has a `sealed-secret-key` in its place.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from .errors import KeyFault, StorageFault, is_full
from .passphrase import passphrase, seal, unseal

_LINE: Final = re.compile(r'^\s*(public-key|secret-key)\s*=\s*"([^"]{40})"\s*$', re.MULTILINE)
_SEALED: Final = re.compile(r'^\s*sealed-secret-key\s*=\s*"([A-Za-z0-9+/=]+)"\s*$', re.MULTILINE)
_LOOSE: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CurveZMQ key pair, both halves as 40 characters of Z85. The secret never shows in a repr."""

    public: str
    secret: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public)


def fingerprint(public: str) -> str:
    """Return what two people can compare by voice: five groups of four hexadecimal digits of the key's SHA-256."""
    digest = hashlib.sha256(public.encode()).hexdigest()
    return " ".join(digest[i : i + 4] for i in range(0, 20, 4))


def is_public_key(text: str) -> bool:
    """Whether `text` can be half of a key pair: 40 characters of Z85 that stand for 32 bytes."""
    try:
        return len(text) == 40 and len(z85.decode(text)) == 32
    except (ValueError, KeyError, UnicodeEncodeError, OverflowError):
        return False


def make_key_pair() -> KeyPair:
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def make_signing_pair() -> KeyPair:
    """Make an Ed25519 key pair: both halves are 32 bytes too, so that it is kept as any other."""
    from nacl.signing import SigningKey

    key = SigningKey.generate()
    return KeyPair(z85.encode(bytes(key.verify_key)).decode(), z85.encode(bytes(key)).decode())


def load_key(path: Path) -> KeyPair:
    """Read a key file; one that is sealed, with the passphrase of `orchestra.passphrase`.

    Raises:
        KeyFault: if it is missing, unreadable, readable by others, not a key file, or sealed with another passphrase.
    """
    text = _read(path)
    found = dict(_LINE.findall(text))
    sealed = _SEALED.search(text)
    if sealed is not None and "secret-key" not in found:
        what = f"key file {path}"
        found["secret-key"] = unseal(sealed[1], passphrase(what), what=what)
    if not all(is_public_key(found.get(half, "")) for half in ("public-key", "secret-key")):
        raise KeyFault(f"{path} is not a key file; move it away and start again to make a new key")
    return KeyPair(found["public-key"], found["secret-key"])


def is_sealed(path: Path) -> bool:
    """Whether the secret in a key file needs a passphrase.

    Raises:
        KeyFault: as `load_key`.
    """
    return _SEALED.search(_read(path)) is not None


def _read(path: Path) -> str:
    try:
        mode, folder_mode = path.stat().st_mode, path.parent.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise KeyFault(f"there is no key file {path}; it is made by: orchestra join CODE") from exc
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not text"
        raise KeyFault(f"key file {path} can't be read: {reason}") from exc
    if mode & _LOOSE:
        raise KeyFault(f"key file {path} may be read by others; mend it with: chmod 600 {path}")
    if folder_mode & _LOOSE:
        raise KeyFault(f"others may enter the folder of the key file {path}; mend it with: chmod 700 {path.parent}")
    return text


def save_key(path: Path, pair: KeyPair, *, owner: str, word: bytes | None = None, is_new: bool = True) -> None:
    """Write a key file, whole or not at all; sealed with the passphrase `word` where there is one.

    Args:
        is_new: it must not exist yet; otherwise it is written over.

    Raises:
        KeyFault: if it exists, or its folder can't be written.
        StorageFault: if the disk is full.
    """
    secret = f'secret-key = "{pair.secret}"' if word is None else f'sealed-secret-key = "{seal(pair.secret, word)}"'
    text = (
        f"# The secret key of {owner}. Keep it on this machine.\n"
        "curve\n"
        f'    public-key = "{pair.public}"\n'
        f"    {secret}\n"
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            os.link(draft, path)  # fails if somebody was quicker, and then theirs stands
        else:
            draft.replace(path)
    except OSError as exc:
        if is_full(exc):
            raise StorageFault(f"key file {path} can't be written: {exc.strerror}; free some space") from exc
        raise KeyFault(f"key file {path} can't be written: {exc.strerror}") from exc
    finally:
        with suppress(OSError):
            draft.unlink()


def replace_key(path: Path, pair: KeyPair, *, owner: str) -> None:
    """Write `pair` over the key in `path`, sealed with the same passphrase if that one is; the old stays in `.old`.

    Raises:
        KeyFault: if the folder can't be written.
    """
    word = passphrase(f"key file {path}") if is_sealed(path) else None
    old = path.with_name(f"{path.name}.old")
    old.unlink(missing_ok=True)
    os.link(path, old)
    save_key(path, pair, owner=owner, word=word, is_new=False)


def load_or_make_key(path: Path, *, owner: str, make: Callable[[], KeyPair] = make_key_pair) -> KeyPair:
    """Return the key in `path`, made now if there is none; safe when several processes do it at once."""
    if not path.exists():
        try:
            save_key(path, make(), owner=owner)
        except KeyFault:
            if not path.exists():
                raise
    return load_key(path)
