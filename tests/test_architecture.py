"""The floor plan: who may import whom, what is pure, and what a wheel holds."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

import orchestra

ROOT = Path(__file__).parents[1]
FLOORS = ("hub", "agents")

PURE = [
    "agents/agentmap.py",
    "agents/oldfile.py",
    "agents/patience.py",
    "agents/plan.py",
    "agents/trust.py",
    "orchestra/address.py",
    "orchestra/audit.py",
    "orchestra/batch.py",
    "orchestra/conversation.py",
    "orchestra/errors.py",
    "orchestra/job.py",
    "orchestra/limits.py",
    "orchestra/stage.py",
    "orchestra/memory/breaker.py",
    "orchestra/memory/entry.py",
    "orchestra/memory/filters.py",
    "orchestra/memory/fold.py",
    "orchestra/memory/fuse.py",
    "orchestra/memory/near.py",
    "orchestra/memory/question.py",
    "orchestra/memory/wordpiece.py",
    "orchestra/memory/words.py",
    "orchestra/mcp/clients.py",
    "orchestra/task.py",
    "orchestra/token.py",
    "orchestra/terms.py",
    "orchestra/wire.py",
    "hub/alarms.py",
    "hub/audit.py",
    "hub/board.py",
    "hub/bucket.py",
    "hub/calls.py",
    "hub/channel.py",
    "hub/channels.py",
    "hub/cursors.py",
    "hub/conditions.py",
    "hub/dead.py",
    "hub/dialogue.py",
    "hub/decider.py",
    "hub/enrolment.py",
    "hub/filecounts.py",
    "hub/family.py",
    "hub/feed.py",
    "hub/grants.py",
    "hub/hello.py",
    "hub/histogram.py",
    "hub/hubstate.py",
    "hub/inputs.py",
    "hub/lobby.py",
    "hub/link.py",
    "hub/mailbox.py",
    "hub/news.py",
    "hub/post.py",
    "hub/presence.py",
    "hub/pulse.py",
    "hub/receipts.py",
    "hub/requests.py",
    "hub/retention.py",
    "hub/roster.py",
    "hub/snapshot.py",
    "hub/story.py",
    "hub/succession.py",
    "hub/tarpit.py",
    "hub/tasks.py",
    "hub/tokencalls.py",
    "hub/tokens.py",
    "hub/turn.py",
    "hub/unpack.py",
    "hub/vocabulary.py",
    "hub/watches.py",
    "hub/waiting.py",
]
IMPURE = {
    "asyncio", "concurrent", "datetime", "fcntl", "getpass", "io", "logging", "multiprocessing", "os",
    "pathlib", "peewee", "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket",
    "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid", "zmq",
}  # fmt: skip


def _files(floor: str) -> list[Path]:
    """The source files of a floor, seen from where they are written, not through the links."""
    links = {ROOT / "orchestra" / each for each in FLOORS}
    return [
        path
        for path in sorted((ROOT / floor).rglob("*.py"))
        if not any(link in path.parents for link in links) and "__pycache__" not in path.parts
    ]


def _package(path: Path) -> list[str]:
    parts = list(path.relative_to(ROOT).parent.parts)
    return ["orchestra", *parts] if parts[0] in FLOORS else parts


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Give every module that a file imports anywhere, by its full name, and with how many dots it is written."""
    package = _package(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, 0
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, node.level
            for name in node.names:
                yield f"{module}.{name.name}", node.level


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


ALL = [path for floor in ("orchestra", *FLOORS) for path in _files(floor)]


def test_there_is_something_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in ALL} == {"orchestra", *FLOORS}
    assert len(ALL) > 40


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_arrow_points_up_or_across(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    for module, level in _imports(path):
        assert module.split(".")[0] not in FLOORS, f"{module}: the floors are below the package orchestra"
        for other in FLOORS:
            if _is_below(module, f"orchestra.{other}"):
                assert floor == other, f"{floor} imports {module}"
                assert level > 0, f"{module} is a sibling: import it relatively"
        if floor in FLOORS and _is_below(module, "orchestra") and not _is_below(module, f"orchestra.{floor}"):
            assert level == 0, f"{module} is of the ground floor: import it absolutely"


@pytest.mark.parametrize("name", PURE)
def test_a_pure_file_opens_no_socket_reads_no_clock_and_writes_no_log(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    assert {module.split(".")[0] for module, _ in _imports(ROOT / name)} & IMPURE == set()
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called & {"open", "print", "input", "exec", "eval", "__import__"} == set()


def test_a_pure_file_imports_only_pure_files_of_its_floor() -> None:
    named = {
        f"orchestra.{name.removesuffix('.py').replace('/', '.')}" for name in PURE if not name.startswith("orchestra")
    }
    for name in PURE:
        if name.startswith("hub/"):
            siblings = {module for module, level in _imports(ROOT / name) if level == 1 and module.count(".") == 2}
            siblings = {each for each in siblings if (ROOT / "hub" / f"{each.split('.')[2]}.py").exists()}
            assert siblings <= named, name


def test_every_file_that_says_it_is_pure_is_held_to_it() -> None:
    said = {
        str(path.relative_to(ROOT))
        for path in ALL
        if "Pure." in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    }
    assert said <= set(PURE)


def test_using_the_library_loads_neither_floor() -> None:
    loaded = _loaded_by("import orchestra.aio")
    assert "orchestra.aio" in loaded
    assert not [each for each in loaded for floor in FLOORS if _is_below(each, f"orchestra.{floor}")]


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"zmq", "peewee", "msgpack", "asyncio", "click", "rich", "chromadb", "mcp", "nacl"}
    assert _loaded_by("import orchestra") & heavy == set()


def _loaded_by(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(Path(orchestra.__file__).parents[1])},
    )
    return set(done.stdout.split())


# The wheel.


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_is_a_link_that_git_and_setuptools_follow(floor: str) -> None:
    link = ROOT / "orchestra" / floor
    assert link.is_symlink()
    assert link.readlink() == Path("..") / floor


def test_every_folder_with_code_is_a_package_that_is_found() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["options"]["packages"] == "find:"
    assert config["options.packages.find"]["include"].split() == ["orchestra*"], "no top-level hub or agents"
    for folder in {path.parent for path in ALL}:
        assert (folder / "__init__.py").exists(), f"{folder} is left out of the wheel"


def test_what_is_installed_is_orchestra_with_both_floors_and_nothing_beside_it() -> None:
    try:
        files = metadata.distribution("agent-orchestra").files or []
    except metadata.PackageNotFoundError:
        assert "TOX_ENV_NAME" not in os.environ, "tox runs against the built wheel, and must not skip this"
        pytest.skip("not installed here: the source is on the path")
    modules = {PurePosixPath(each) for each in files if each.suffix == ".py"}
    if not any(each.parts[0] == "orchestra" for each in modules):
        assert "TOX_ENV_NAME" not in os.environ, "tox runs against the built wheel, and must not skip this"
        pytest.skip("installed as a link to the source")
    assert {each.parts[0] for each in modules} == {"orchestra"}
    wanted = {PurePosixPath(*_package(path), path.name) for path in ALL}
    assert modules == wanted
    assert PurePosixPath("orchestra/py.typed") in {PurePosixPath(each) for each in files}
