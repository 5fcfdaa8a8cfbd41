"""Which matrix a clone is: its name, and that no two clones of a machine have the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestra.address import parse_address
from orchestra.errors import BadAddress, Conflict, StateFault
from orchestra.matrix.identity import is_elsewhere, is_here, matrix_at, matrix_for_now, matrix_of, settle
from orchestra.state import HubCard, StateFolder


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.make()
    folder.write_card(HubCard(("tcp://127.0.0.1:1",), "k" * 40))
    return folder


def _clone(path: Path) -> Path:
    """Make a clone; return where its memory is."""
    (path / ".git").mkdir(parents=True)
    return path / ".orchestra" / "memory.db"


def _name(memory: Path, state: StateFolder) -> str:
    return matrix_of(memory, state=state.path).address.name


def test_a_clone_is_called_like_its_folder_and_keeps_the_name(tmp_path: Path, state: StateFolder) -> None:
    memory = _clone(tmp_path / "My Web")
    assert _name(memory, state) == "my-web"
    assert 'name = "my-web"' in memory.with_name("matrix.toml").read_text()
    assert (memory.parent / ".gitignore").read_text() == "*\n"
    shutil.move(tmp_path / "My Web", tmp_path / "elsewhere")
    assert _name(tmp_path / "elsewhere" / ".orchestra" / "memory.db", state) == "my-web"


@pytest.mark.parametrize(("folder", "name"), [("Ä!", "matrix"), ("_A b", "a-b"), ("x" * 80, "x" * 64)])
def test_any_folder_gives_a_name(tmp_path: Path, state: StateFolder, folder: str, name: str) -> None:
    assert _name(_clone(tmp_path / folder), state) == name


def test_two_clones_with_folders_of_one_name_are_two_matrices(tmp_path: Path, state: StateFolder) -> None:
    first, second = _clone(tmp_path / "a" / "web"), _clone(tmp_path / "b" / "web")
    assert [_name(first, state), _name(second, state), _name(first, state)] == ["web", "web-2", "web"]
    assert is_here(parse_address("matrix/web-2"), state)
    assert not is_here(parse_address("matrix/web-3"), state)
    assert not is_here(parse_address("agent/web"), state)


def test_a_copied_clone_is_another_matrix(tmp_path: Path, state: StateFolder) -> None:
    memory = _clone(tmp_path / "web")
    _name(memory, state)
    shutil.copytree(tmp_path / "web", tmp_path / "copy")
    assert _name(tmp_path / "copy" / ".orchestra" / "memory.db", state) == "copy"
    assert _name(memory, state) == "web"


def test_a_clone_that_is_gone_gives_its_name_back(tmp_path: Path, state: StateFolder) -> None:
    _name(_clone(tmp_path / "a" / "web"), state)
    shutil.rmtree(tmp_path / "a")
    assert _name(_clone(tmp_path / "b" / "web"), state) == "web"


def test_before_there_is_a_hub_nothing_is_written(tmp_path: Path) -> None:
    memory = _clone(tmp_path / "web")
    matrix = matrix_of(memory, state=tmp_path / "none")
    assert (str(matrix.address), matrix.has_hub) == ("matrix/web", False)
    assert not memory.parent.exists()
    assert not (tmp_path / "none").exists()


def test_people_may_name_it(tmp_path: Path, state: StateFolder) -> None:
    memory = _clone(tmp_path / "web")
    _name(memory, state)
    memory.with_name("matrix.toml").write_text('name = "shop"\n')
    assert _name(memory, state) == "shop"
    assert str(matrix_of(memory, name="matrix/other", state=state.path).address) == "matrix/other"
    assert _name(memory, state) == "shop", "a name that is given for once is not written down"
    for name in ("agent/x", "No Name", ""):
        with pytest.raises(BadAddress):
            matrix_of(memory, name=name, state=state.path)
    for broken in ("name = ", 'name = "No Name"'):
        memory.with_name("matrix.toml").write_text(broken)
        with pytest.raises(StateFault, match="mend it, or remove it"):
            matrix_of(memory, state=state.path)
        found = matrix_for_now(memory, state=state.path)
        assert (str(found.address), "mend it, or remove it" in found.fault) == ("matrix/web", True)


def test_a_path_means_the_matrix_of_the_clone_there_also_before_it_met_a_hub(
    tmp_path: Path, state: StateFolder
) -> None:
    first, second = _clone(tmp_path / "a" / "web"), _clone(tmp_path / "b" / "web")
    _name(first, state)
    (tmp_path / "b" / "web" / "src").mkdir()
    assert str(matrix_at(tmp_path / "b" / "web" / "src", state)) == "matrix/web-2"
    assert not second.parent.exists(), "nothing is written into the clone of others"
    assert _name(second, state) == "web-2"
    assert str(matrix_at(tmp_path / "a" / "web", state)) == "matrix/web"
    with pytest.raises(StateFault, match="is no folder"):
        matrix_at(tmp_path / "c", state)


def test_joining_in_a_clone_makes_it_that_matrix(tmp_path: Path, state: StateFolder) -> None:
    memory = _clone(tmp_path / "web")
    assert settle(tmp_path / "web", parse_address("matrix/shop"), state) == tmp_path / "web"
    assert _name(memory, state) == "shop"
    other = tmp_path / "other"
    _clone(other)
    with pytest.raises(Conflict, match="web already"):
        settle(other, parse_address("matrix/shop"), state)
    assert settle(tmp_path, parse_address("matrix/none"), state) is None
    is_elsewhere(parse_address("matrix/two"), state)
    settle(other, parse_address("matrix/two"), state)
    assert _name(other / ".orchestra" / "memory.db", state) == "two", "whoever was let in by that name has it"


def test_a_memory_outside_of_a_clone_has_its_card_beside_it(tmp_path: Path, state: StateFolder) -> None:
    assert _name(tmp_path / "notes.db", state) == "notes.db"
    assert (tmp_path / "notes.matrix.toml").exists()


def test_a_name_that_another_machine_has_is_passed_over(tmp_path: Path, state: StateFolder) -> None:
    memory = _clone(tmp_path / "web")
    assert _name(memory, state) == "web"
    is_elsewhere(parse_address("matrix/web"), state)
    assert not is_here(parse_address("matrix/web"), state)
    assert _name(memory, state) == "web-2"


def test_a_clone_can_not_say_where_the_state_is(tmp_path: Path, state: StateFolder) -> None:
    memory = _clone(tmp_path / "web")
    memory.parent.mkdir()
    memory.with_name("matrix.toml").write_text(f'name = "web"\nstate = "{tmp_path / "evil"}"\n')
    assert matrix_of(memory, state=state.path).state == state
