"""The state folder."""

from __future__ import annotations

import getpass
import stat
from pathlib import Path

import pytest

from orchestra.address import parse_address, parse_peer
from orchestra.errors import HubUnreachable, KeyFault, StateFault
from orchestra.state import IPC_PATH_BYTES_MAX, HubCard, StateFolder, this_operator


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "a" / "b")
    folder.make()
    folder.make()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_a_folder_that_others_may_enter_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(StateFault, match=f"chmod 700 {path}"):
        StateFolder(path).make()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateFault, match="can't be made"):
        StateFolder(tmp_path / "state").make()


def test_a_card_that_was_written_is_read(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    card = HubCard(("ipc:///tmp/with \"quotes\" and 'others'/hub.sock", "tcp://127.0.0.1:7420"), "x" * 39 + "\\")
    folder.write_card(HubCard(("tcp://old:1",), "old"))
    folder.write_card(card)
    assert folder.read_card() == card
    assert [each.name for each in tmp_path.iterdir()] == ["hub.toml"]


def test_a_folder_without_a_hub_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HubUnreachable, match="run: orchestra up"):
        StateFolder(tmp_path).read_card()


@pytest.mark.parametrize("text", ["", "nonsense", "endpoints = 7\npublic_key = ''", "public_key = 'x'", "\x00"])
def test_a_damaged_card_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "hub.toml").write_text(text)
    with pytest.raises(StateFault, match="start the hub again"):
        StateFolder(tmp_path).read_card()


def test_a_path_that_is_too_long_for_a_socket_gives_no_local_endpoint(tmp_path: Path) -> None:
    short = StateFolder(Path("/tmp/s"))
    assert short.ipc_endpoint() == "ipc:///tmp/s/hub.sock"
    fits = StateFolder(Path("/" + "x" * (IPC_PATH_BYTES_MAX - len("//hub.sock"))))
    assert fits.ipc_endpoint() is not None
    assert StateFolder(fits.path.with_name(fits.path.name + "x")).ipc_endpoint() is None
    assert StateFolder(Path("/" + "ä" * 60)).ipc_endpoint() is None, "bytes count, not characters"


def test_every_peer_has_a_key_file_of_its_own(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    texts = ["agent/a", "matrix/a", "operator/a", "agent/a-b", "agent/hub"]
    paths = {folder.key_of(parse_address(text)) for text in texts} | {folder.hub_key}
    assert len(paths) == len(texts) + 1
    assert all(path.parent == tmp_path / "keys" for path in paths)


@pytest.mark.parametrize(
    "user", ["me", "Maria.Müller", "DOMAIN\\user", "../../etc", "a b", "_svc", "", "ÄÖ", "x" * 200]
)
def test_any_user_has_an_operator_address(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: user)
    address = this_operator()
    assert parse_peer(str(address)) == address


def test_a_user_without_a_name_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert this_operator().name.startswith("uid-")


def test_a_folder_that_can_not_be_written_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.state.os.access", lambda path, mode: False)  # root, too, is refused so
    with pytest.raises(StateFault, match="can't be written; choose another with --state"):
        StateFolder(tmp_path / "state").make()


def test_who_to_be_is_the_operator_or_the_one_peer_that_joined_here(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    keys = tmp_path / "keys"
    keys.mkdir()
    assert folder.default_peer() == this_operator()
    for name in ("hub.key", "hub-next.key", "hub-tokens.key", "matrix-a-b.key.old", ".matrix-x.key.1f"):
        (keys / name).touch()
    assert folder.default_peer() == this_operator()
    (keys / "matrix-a-b.key").touch()
    assert folder.peers() == [parse_peer("matrix/a-b")]
    assert folder.default_peer() == parse_peer("matrix/a-b")
    (keys / "agent-x.key").touch()
    with pytest.raises(KeyFault, match="of agent/x, matrix/a-b; choose one with --as"):
        folder.default_peer()
    folder.key_of(this_operator()).touch()
    assert folder.default_peer() == this_operator()


def test_a_hub_stays_the_same_for_this_folder_whatever_keys_it_has(tmp_path: Path) -> None:
    folder, card = StateFolder(tmp_path), HubCard(("tcp://10.0.0.7:7420",), "a")
    folder.write_card(card)
    for key in ("b", "c"):
        folder.keep_next_key(key)
        assert folder.read_card().public_keys[1] == key
        folder.keep_key(key)
        assert (folder.read_card().public_keys, folder.read_card().hub_id) == ((key,), "a")
    assert folder.read_card().with_key("a") == card
    folder.keep_key("x")
    assert folder.read_card().public_key == "c", "a key that was not announced is not kept"
