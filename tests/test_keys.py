"""Key pairs, and the files that hold them."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest
import zmq.auth

from orchestra.cli.shared import TRY_AGAIN, exit_code_of
from orchestra.errors import KeyFault, StorageFault
from orchestra.keys import KeyPair, fingerprint, is_public_key, load_key, load_or_make_key, make_key_pair, save_key


def test_a_key_that_was_saved_is_loaded(tmp_path: Path) -> None:
    pair = make_key_pair()
    save_key(tmp_path / "keys" / "a.key", pair, owner="agent/a")
    assert load_key(tmp_path / "keys" / "a.key") == pair


def test_only_its_owner_can_read_a_key(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        save_key(tmp_path / "keys" / "a.key", make_key_pair(), owner="agent/a")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "keys" / "a.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert [each.name for each in (tmp_path / "keys").iterdir()] == ["a.key"], "no draft is left"


def test_other_tools_read_the_file(tmp_path: Path) -> None:
    pair = make_key_pair()
    save_key(tmp_path / "a.key", pair, owner="agent/a")
    assert zmq.auth.load_certificate(tmp_path / "a.key") == (pair.public.encode(), pair.secret.encode())


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_key_that_others_may_touch_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    save_key(path, make_key_pair(), owner="agent/a")
    path.chmod(mode)
    with pytest.raises(KeyFault, match=f"chmod 600 {path}"):
        load_key(path)


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o707])
def test_a_key_in_a_folder_that_others_may_enter_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "keys" / "a.key"
    save_key(path, make_key_pair(), owner="agent/a")
    path.parent.chmod(mode)
    with pytest.raises(KeyFault, match=f"chmod 700 {path.parent}"):
        load_key(path)
    path.parent.chmod(0o700)
    load_key(path)


@pytest.mark.parametrize(
    "text", [b"", b"curve\n", b'public-key = "short"\n', b"\xff\xfe", b'    public-key = "' + b"x" * 40 + b'"\n']
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.key").write_bytes(text)
    (tmp_path / "a.key").chmod(0o600)
    with pytest.raises(KeyFault):
        load_key(tmp_path / "a.key")


def test_a_key_that_is_not_there_is_a_key_fault(tmp_path: Path) -> None:
    with pytest.raises(KeyFault, match=r"there is no key file .*; it is made by: orchestra join CODE"):
        load_key(tmp_path / "a.key")
    with pytest.raises(KeyFault):
        load_key(tmp_path)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    pair = make_key_pair()
    save_key(tmp_path / "a.key", pair, owner="agent/a")
    with pytest.raises(KeyFault):
        save_key(tmp_path / "a.key", make_key_pair(), owner="agent/a")
    assert load_key(tmp_path / "a.key") == pair
    assert [each.name for each in tmp_path.iterdir()] == ["a.key"]


def test_a_folder_that_cannot_be_written_is_a_key_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFault, match="can't be written"):
        load_or_make_key(tmp_path / "file" / "a.key", owner="agent/a")


def test_several_that_make_a_key_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[KeyPair] = []
    start = threading.Barrier(4)

    def make() -> None:
        start.wait(5)
        found.append(load_or_make_key(tmp_path / "a.key", owner="agent/a"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_secret_shows_in_no_repr() -> None:
    pair = make_key_pair()
    assert pair.secret not in repr(pair)
    assert pair.secret not in f"{pair}"
    assert pair.public in repr(pair)


def test_a_fingerprint_can_be_read_aloud_and_tells_keys_apart() -> None:
    one, other = make_key_pair(), make_key_pair()
    assert one.fingerprint == fingerprint(one.public) != other.fingerprint
    assert [len(group) for group in one.fingerprint.split(" ")] == [4] * 5


@pytest.mark.parametrize("text", ["", "x" * 39, "x" * 41, '"' * 40, "\0" * 40, "ä" * 40, "~" * 40, " " * 40])
def test_what_is_no_public_key_is_told_from_one(text: str) -> None:
    assert not is_public_key(text)
    assert is_public_key(make_key_pair().public)


def test_a_disk_that_is_full_is_no_fault_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFault, match="No space left on device; free some space") as caught:
        load_or_make_key(tmp_path / "keys" / "hub.key", owner="the hub")
    assert exit_code_of(caught.value) == TRY_AGAIN
    assert list((tmp_path / "keys").iterdir()) == []
