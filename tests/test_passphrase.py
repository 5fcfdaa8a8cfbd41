"""Sealed key files, and where their passphrase comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.errors import KeyFault
from orchestra.keys import is_sealed, load_key, make_key_pair, save_key
from orchestra.passphrase import FILE_VARIABLE, passphrase, seal, unseal


class _Terminal:
    def isatty(self) -> bool:
        return True


class _Pipe:
    def isatty(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", _Pipe())
    monkeypatch.setattr("orchestra.passphrase._typed", {})
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv(FILE_VARIABLE, raising=False)


def _word(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, *, mode: int = 0o600) -> None:
    path = folder / "word"
    path.write_text(text)
    path.chmod(mode)
    monkeypatch.setenv(FILE_VARIABLE, str(path))


def test_a_sealed_key_is_read_with_its_passphrase_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, path = make_key_pair(), tmp_path / "keys" / "a.key"
    save_key(path, pair, owner="agent/a", word=b"open sesame")
    assert is_sealed(path)
    assert pair.secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    _word(tmp_path, "open sesame\n", monkeypatch)
    assert load_key(path) == pair
    _word(tmp_path, "open barley\n", monkeypatch)
    with pytest.raises(KeyFault, match="the passphrase is another"):
        load_key(path)


def test_without_a_passphrase_it_is_said_where_to_put_it(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    save_key(path, make_key_pair(), owner="agent/a", word=b"x")
    with pytest.raises(KeyFault, match=f"name that in {FILE_VARIABLE}"):
        load_key(path)


def test_a_key_that_was_damaged_is_not_opened() -> None:
    sealed = seal("s" * 40, b"x")
    for damaged in (sealed[:-8] + "AAAAAAA=", sealed[:12], "", "AAAA"):
        with pytest.raises(KeyFault, match="or the file is damaged"):
            unseal(damaged, b"x", what="it")


def test_systemd_gives_it_as_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orchestra-key-passphrase"
    path.write_text("from systemd")
    path.chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert passphrase("it") == b"from systemd"


@pytest.mark.parametrize(("text", "mode", "said"), [("x", 0o644, "mend it with: chmod 600"), ("\n", 0o600, "is empty")])
def test_a_bad_passphrase_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int, said: str
) -> None:
    _word(tmp_path, text, monkeypatch, mode=mode)
    with pytest.raises(KeyFault, match=said):
        passphrase("it")


def test_a_passphrase_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(KeyFault, match="nothing can't be read"):
        passphrase("it")


def test_a_person_types_it_and_a_new_one_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", _Terminal())
    typed = iter(["one", "one", "one", "two", ""])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    assert passphrase("it", is_new=True) == b"one"
    with pytest.raises(KeyFault, match="differ"):
        passphrase("it", is_new=True)
    assert passphrase("it") == b"one", "it is remembered"
    with pytest.raises(KeyFault, match="empty"):
        passphrase("another")
