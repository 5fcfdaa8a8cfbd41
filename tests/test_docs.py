"""The docs against the code: what is not written down fails here, with a list of what is missing."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orchestra import limits
from orchestra.address import Kind
from orchestra.agents.cli import main as orchestra_agent
from orchestra.cli import main as orchestra
from orchestra.cli import shared
from orchestra.errors import BY_CODE, OrchestraError
from orchestra.hub import grants
from orchestra.hub.calls import METHODS
from orchestra.hub.cli import main as orchestra_hub
from orchestra.task import NEXT, TaskState
from orchestra.wire import FROM_HUB, FROM_PEER, VERBS

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {"orchestra": orchestra, "orchestra-hub": orchestra_hub, "orchestra-agent": orchestra_agent}
START = "python3 -m venv .venv && .venv/bin/pip install '.[all]' && .venv/bin/orchestra up"
TEST = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox"


def _read(path: str) -> str:
    file = ROOT / path
    assert file.exists(), f"{path} does not exist"
    return file.read_text(encoding="utf-8")


def _code(text: str) -> str:
    """Return what stands in backquotes and code blocks: names are only documented where they are set as such."""
    blocks = re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`[^`\n]+`", text)])


def _missing(names: Iterator[str] | list[str], text: str) -> list[str]:
    """Return the names that do not stand in `text` as whole words."""
    return [name for name in names if not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)]


def _assert_all(names: Iterator[str] | list[str], text: str, where: str) -> None:
    names = list(names)
    assert names
    missing = _missing(names, text)
    assert not missing, f"{where} does not mention: {', '.join(missing)}"


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Give every command that does something, with its whole name."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        found = command.get_command(context, word)
        assert found is not None
        yield from _commands(f"{name} {word}", found)


def _groups(command: click.Command) -> Iterator[click.Group]:
    if isinstance(command, click.Group):
        yield command
        context = click.Context(command)
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            assert found is not None
            yield from _groups(found)


ALL_COMMANDS = [found for name, program in PROGRAMS.items() for found in _commands(name, program)]
OPTIONS = [
    parameter
    for command in (*dict(ALL_COMMANDS).values(), *(each for found in PROGRAMS.values() for each in _groups(found)))
    for parameter in command.params
    if isinstance(parameter, click.Option)
]


def test_every_command_is_documented() -> None:
    text = _code(_read("docs/operations.md") + _read("README.md"))
    names = [name.removeprefix("orchestra ") for name, _ in ALL_COMMANDS]
    _assert_all(names, text, "docs/operations.md or README.md")


def test_every_option_is_documented() -> None:
    text = _code(_read("docs/operations.md"))
    options = {option for each in OPTIONS for option in (*each.opts, *each.secondary_opts)}
    _assert_all(sorted(options), text, "docs/operations.md")


def test_every_option_of_the_docs_exists() -> None:
    known = {option for each in OPTIONS for option in (*each.opts, *each.secondary_opts)}
    known |= {"--help", "-h", "--version"}
    documented = set(
        re.findall(r"(?<![\w-])--?[a-z][a-z-]*(?![\w-])", _code(_table(_read("docs/operations.md"), "option")))
    )
    assert documented <= known, f"docs/operations.md names options that do not exist: {documented - known}"


def test_every_command_and_option_says_what_it_is_for() -> None:
    silent = [name for name, command in ALL_COMMANDS if not command.help]
    silent += [
        f"{name} {parameter.opts[0]}"
        for name, command in ALL_COMMANDS
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert not silent, f"no help for: {', '.join(silent)}"


def test_every_verb_is_documented_with_its_number() -> None:
    text = _read("docs/protocol.md")
    _assert_all([f"{name} | {verb}" for verb, name in VERBS.items()], text, "docs/protocol.md")


@pytest.mark.parametrize(("heading", "shapes"), [("### From a peer", FROM_PEER), ("### From the hub", FROM_HUB)])
def test_every_verb_stands_where_it_is_said(heading: str, shapes: dict[int, object]) -> None:
    _, found, rest = _read("docs/protocol.md").partition(f"{heading}\n")
    assert found, f"docs/protocol.md has no heading {heading!r}"
    section = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    documented = set(re.findall(r"^\| ([A-Z]+) \|", section, re.MULTILINE))
    assert documented == {VERBS[verb] for verb in shapes}


def test_every_error_code_is_documented() -> None:
    text = _read("docs/protocol.md")
    _assert_all([f"`{code}`" for code in BY_CODE], text, "docs/protocol.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| *(\w*) *\|", text, re.MULTILINE))
    wrong = [
        f"{code} is {_mark(error) or 'neither'}" for code, error in BY_CODE.items() if rows.get(code) != _mark(error)
    ]
    assert not wrong, f"docs/protocol.md says otherwise what is fatal and what temporary: {', '.join(wrong)}"


def _mark(error: type[OrchestraError]) -> str:
    return "fatal" if error.is_fatal else "temporary" if error.is_temporary else ""


def test_every_method_is_documented_with_its_parameters() -> None:
    text = _read("docs/protocol.md")
    for name, method in METHODS.items():
        (row,) = re.findall(rf"^\| `{re.escape(name)}` \|.*$", text, re.MULTILINE) or [""]
        assert row, f"docs/protocol.md has no row for the method {name}"
        missing = [parameter for parameter in (*method.required, *method.optional) if f"`{parameter}`" not in row]
        assert not missing, f"docs/protocol.md: the row of {name} does not mention {', '.join(missing)}"


def test_every_limit_is_documented() -> None:
    names = [name for name in vars(limits) if name.isupper() and name not in ("KIB", "MIB")]
    _assert_all([f"`{name}`" for name in names], _read("docs/operations.md"), "docs/operations.md")


def test_every_limit_of_the_docs_has_the_value_it_has_in_the_code() -> None:
    wrong = []
    for name, shown in re.findall(
        r"^\| `([A-Z_]+)` \| ([^|]+) \|", _table(_read("docs/operations.md"), "name"), re.MULTILINE
    ):
        value = getattr(limits, name, None)
        number, _, unit = shown.strip().replace(",", "").partition(" ")
        scale = {"": 1, "KiB": 1024, "MiB": 1024**2}[unit]
        if value is None or float(number) * scale != value:
            wrong.append(f"{name} is {value}, not {shown.strip()}")
    assert not wrong, f"docs/operations.md: {'; '.join(wrong)}"


def test_every_bound_of_the_security_page_is_the_one_in_the_code() -> None:
    rows = re.findall(
        r"^\| [^|]+ \| ([\d.,]+) ?(MiB|s|) \| `([A-Z_]+)` \|$", _table(_read("docs/security.md"), "what"), re.MULTILINE
    )
    assert len(rows) > 10
    scale = {"": 1, "MiB": 1024**2, "s": 1000}
    wrong = [name for shown, unit, name in rows if float(shown.replace(",", "")) * scale[unit] != getattr(limits, name)]
    assert not wrong, f"docs/security.md has other values of: {', '.join(wrong)}"


def test_every_environment_variable_is_documented() -> None:
    used = {
        name
        for folder in ("orchestra", "hub", "agents")
        for file in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\bORCHESTRA_[A-Z_]+\b", file.read_text(encoding="utf-8"))
    }
    _assert_all(sorted(used), _read("docs/operations.md"), "docs/operations.md")


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(shared).items() if name.isupper() and type(value) is int}
    _assert_all([f"| {code} |" for code in sorted(codes)], _read("docs/operations.md").replace("\n", " \n"), "the docs")


def render_task_table() -> str:
    """Return the life of a task as docs/protocol.md shows it."""
    rows = ["| state | may become |", "| --- | --- |"]
    for state in TaskState:
        following = ", ".join(f"`{each}`" for each in sorted(NEXT[state]))
        if state.is_over:
            following = f"it is over; retried: {following}" if following else "nothing: it is over"
        rows.append(f"| `{state}` | {following} |")
    return "\n".join(rows)


def test_the_life_of_a_task_is_drawn_from_the_table_in_the_code() -> None:
    expected = f"<!-- task table -->\n{render_task_table()}\n<!-- /task table -->"
    assert expected in _read("docs/protocol.md"), f"paste this into docs/protocol.md:\n\n{expected}\n"


def render_grants_table() -> str:
    """Return what each kind may do as docs/security.md shows it."""
    rows = ["| may | grant | agent | matrix | operator |", "| --- | --- | --- | --- | --- |"]
    for action, (what, takes_address) in grants.ACTIONS.items():
        grant = f"{action}:ADDRESS" if takes_address else action
        yes = [
            "yes" if any(given.partition(":")[0] == action for given in grants.DEFAULTS[Kind(kind)]) else "no"
            for kind in ("agent", "matrix", "operator")
        ]
        rows.append(f"| {what} | `{grant}` | {' | '.join(yes)} |")
    return "\n".join(rows)


def test_the_table_of_grants_is_made_from_the_code() -> None:
    expected = f"<!-- grants table -->\n{render_grants_table()}\n<!-- /grants table -->"
    assert expected in _read("docs/security.md"), f"paste this into docs/security.md:\n\n{expected}\n"


def render_task_drawing() -> str:
    edges = [f"    {state} --> {each}" for state in TaskState for each in TaskState if each in NEXT[state]]
    begins = [f"    [*] --> {state}" for state in (TaskState.BLOCKED, TaskState.SCHEDULED, TaskState.QUEUED)]
    ends = [f"    {state} --> [*]" for state in TaskState if state.is_over]
    lines = [*begins, *edges, *ends]
    return "\n".join(["```mermaid", "stateDiagram-v2", *(line.replace("input-r", "input_r") for line in lines), "```"])


def test_the_drawing_of_a_tasks_life_is_made_from_the_same_table() -> None:
    expected = f"<!-- task drawing -->\n{render_task_drawing()}\n<!-- /task drawing -->"
    assert expected in _read("docs/protocol.md"), f"paste this into docs/protocol.md:\n\n{expected}\n"


def test_every_dependency_has_its_reason() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = config["options"]["install_requires"] + "".join(config["options.extras_require"].values())
    names = {re.split(r"[<>=!~;\[ ]", line.strip())[0] for line in wanted.splitlines() if line.strip()}
    names.discard(config["metadata"]["name"])  # an extra that is made of others
    table = _table(_read("docs/architecture.md"), "package")
    documented = set(re.findall(r"^\| ([\w-]+) \|", table, re.MULTILINE)) - {"package", "---"}
    assert documented == names


def test_the_readme_starts_and_tests_as_ci_does() -> None:
    readme = _read("README.md")
    assert START in readme
    assert TEST in readme
    assert TEST in _read(".ci/run"), "CI does something else than the README says"
    assert _read("tox.ini").count("commands = pytest") == 1


def test_what_the_readme_types_exists() -> None:
    known = {name for name, _ in ALL_COMMANDS}
    typed = re.findall(
        r"^(?:\$ )?(?:\.venv/bin/)?(orchestra(?:-\w+)?(?: [a-z]+)*)", _code(_read("README.md")), re.MULTILINE
    )
    unknown = [line for line in typed if not any(line == name or line.startswith(f"{name} ") for name in known)]
    assert typed
    assert not unknown, f"README.md types commands that do not exist: {unknown}"


@pytest.mark.parametrize("path", [*sorted(path.name for path in ROOT.glob("*.md")), "docs"])
def test_every_link_of_the_docs_leads_somewhere(path: str) -> None:
    files = sorted((ROOT / path).glob("*.md")) if (ROOT / path).is_dir() else [ROOT / path]
    dead = []
    for file in files:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", file.read_text(encoding="utf-8")):
            if not (file.parent / target).exists():
                dead.append(f"{file.name}: {target}")
    assert not dead, f"links that lead nowhere: {', '.join(dead)}"


def test_the_tests_the_docs_point_at_exist() -> None:
    named = re.findall(r"`((?:tests|bench|orchestra|hub|agents|docs)/[\w/.-]+)`", _read("docs/architecture.md"))
    gone = [path for path in named if not (ROOT / path).exists()]
    assert not gone, f"docs/architecture.md names files that do not exist: {', '.join(gone)}"


def test_every_test_that_is_named_for_a_fault_of_the_earlier_system_exists() -> None:
    table = _table(_read("docs/architecture.md"), "fault")
    rows = table.splitlines()[2:]
    assert len(rows) == 16
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test is named: {row}"
        for path, test in named:
            assert re.search(rf"^(?:async )?def {test}\(", _read(path), re.MULTILINE), f"{path} has no {test}"


def _table(text: str, column: str) -> str:
    """Return the table whose first column has this heading."""
    found = re.search(rf"^\| {column} \|.*\n(?:\|.*\n?)+", text, re.MULTILINE)
    assert found, f"there is no table with a first column {column!r}"
    return found[0]
