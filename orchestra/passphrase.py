"""Where the passphrase of sealed key files comes from, and what it does to them.

A service reads it from a file (`ORCHESTRA_KEY_PASSPHRASE_FILE`, or the systemd credential
`orchestra-key-passphrase`); a person types it. The secret is sealed with libsodium's SecretBox under a key that
Argon2id makes from the passphrase with libsodium's `MODERATE` limits (256 MiB, a fraction of a second): who copied the
file pays that for every guess.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import os
import stat
import sys
from pathlib import Path
from typing import Final

from .errors import KeyFault

FILE_VARIABLE: Final = "ORCHESTRA_KEY_PASSPHRASE_FILE"
_CREDENTIAL: Final = "orchestra-key-passphrase"
_typed: dict[str, bytes] = {}  # a key file is read again when its key is rotated; nobody is asked twice


def passphrase(what: str, *, is_new: bool = False) -> bytes:
    """Return the passphrase for `what`; asks twice for a new one.

    Raises:
        KeyFault: if there is none, others may read its file, or the two answers differ.
    """
    path = _file()
    if path is not None:
        return _read(path)
    if not sys.stdin.isatty():
        raise KeyFault(f"{what} is sealed with a passphrase; put it into a file and name that in {FILE_VARIABLE}")
    if what in _typed and not is_new:
        return _typed[what]
    typed = getpass.getpass(f"passphrase of {what}: ")
    if is_new and getpass.getpass("the same again: ") != typed:
        raise KeyFault("the two passphrases differ; nothing was changed")
    if not typed:
        raise KeyFault("the passphrase is empty; nothing was changed")
    _typed[what] = typed.encode()
    return _typed[what]


def seal(secret: str, word: bytes) -> str:
    """Return `secret` sealed with the passphrase `word`, as text."""
    from nacl import pwhash, utils
    from nacl.secret import SecretBox

    salt = utils.random(pwhash.argon2id.SALTBYTES)
    return base64.b64encode(salt + bytes(SecretBox(_key(word, salt)).encrypt(secret.encode()))).decode()


def unseal(sealed: str, word: bytes, *, what: str) -> str:
    """Return what `seal` was given.

    Raises:
        KeyFault: if the passphrase is another, or the text was changed.
    """
    from nacl import pwhash
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        data = base64.b64decode(sealed, validate=True)
        salt, box = data[: pwhash.argon2id.SALTBYTES], data[pwhash.argon2id.SALTBYTES :]
        return SecretBox(_key(word, salt)).decrypt(box).decode()
    except (CryptoError, binascii.Error, ValueError) as exc:
        raise KeyFault(f"{what} can't be opened: the passphrase is another, or the file is damaged") from exc


def _key(word: bytes, salt: bytes) -> bytes:
    from nacl import pwhash

    return bytes(
        pwhash.argon2id.kdf(
            32, word, salt, opslimit=pwhash.argon2id.OPSLIMIT_MODERATE, memlimit=pwhash.argon2id.MEMLIMIT_MODERATE
        )
    )


def _file() -> Path | None:
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(folder) / _CREDENTIAL if folder else None
    return credential if credential is not None and credential.exists() else None


def _read(path: Path) -> bytes:
    try:
        mode, data = path.stat().st_mode, path.read_bytes()
    except OSError as exc:
        raise KeyFault(f"passphrase file {path} can't be read: {exc.strerror}") from exc
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFault(f"passphrase file {path} may be read by others; mend it with: chmod 600 {path}")
    word = data.rstrip(b"\r\n")
    if not word:
        raise KeyFault(f"passphrase file {path} is empty")
    return word
