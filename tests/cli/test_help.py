from __future__ import annotations

import json

import pytest

from orchestra.cli import COMMANDS
from orchestra.cli.memory import COMMANDS as MEMORY
from orchestra.version import VERSION

from ..system.programs import AGENT, HUB, ORCHESTRA, PYTHON, Place

HEAVY = ("zmq", "peewee", "msgpack", "nacl", "rich", "chromadb")

PEEK = """
import json, sys
from click.testing import CliRunner
from orchestra.cli import main
result = CliRunner().invoke(main, sys.argv[1:])
print(json.dumps([result.exit_code, [name for name in {heavy!r} if name in sys.modules]]))
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_loads_nothing_heavy(place: Place, words: list[str]) -> None:
    ended = place.run("-c", PEEK.format(heavy=HEAVY), *words, program=PYTHON)
    assert json.loads(ended.stdout) == [0, []], ended.stderr


def test_help_names_every_command_with_what_it_does(place: Place) -> None:
    shown = place.run("--help").stdout
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in shown
        assert text in shown


@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS,
        "task submit",
        "task list",
        "task show",
        "task watch",
        "task cancel",
        *(f"memory {name}" for name in MEMORY),
    ],
)
def test_every_command_has_help_that_needs_no_hub(place: Place, command: str) -> None:
    ended = place.run(*command.split(), "-h")
    assert ended.code == 0
    assert ended.stdout.startswith(f"Usage: orchestra {command} ")


@pytest.mark.parametrize(
    ("program", "name"), [(ORCHESTRA, "orchestra"), (HUB, "orchestra-hub"), (AGENT, "orchestra-agent")]
)
def test_every_program_tells_its_version(place: Place, program: tuple[str, ...], name: str) -> None:
    assert place.run("--version", program=program).stdout == f"{name}, version {VERSION}\n"


def test_a_command_that_does_not_exist_is_a_usage_error(place: Place) -> None:
    ended = place.run("conduct")
    assert ended.code == 2
    assert "No such command 'conduct'" in ended.stderr


def test_a_command_that_is_misspelt_is_told_the_nearest(place: Place) -> None:
    for words, near in ((["statsu"], "status"), (["task", "lsit"], "list"), (["memory", "recal"], "recall")):
        assert f"No such command '{words[-1]}'. Did you mean '{near}'?\n" in place.run(*words).stderr


def test_a_list_of_commands_cuts_no_sentence(place: Place) -> None:
    for group in ([], ["task"], ["keys"], ["channel"], ["context"], ["dead"], ["token"], ["memory", "model"]):
        assert "..." not in place.run(*group, "-h").stdout.partition("\nCommands:\n")[2]


def test_an_option_that_up_hands_on_is_refused_by_the_name_of_the_program(place: Place) -> None:
    assert place.run("up", "--port", "99999").stderr.startswith("Usage: orchestra-hub ")


def test_python_m_orchestra_is_orchestra(place: Place) -> None:
    assert place.run("--help").stdout.startswith("Usage: orchestra [OPTIONS]")


@pytest.mark.parametrize(
    ("words", "program", "said"),
    [
        (["inbox", "--limit", "0"], ORCHESTRA, "0 must be a whole number, at least 1 and at most 1000"),
        (["inbox", "--limit", "many"], ORCHESTRA, "'many' must be a whole number, at least 1 and at most 1000"),
        (["task", "show", "0"], ORCHESTRA, "0 must be a whole number, at least 1\n"),
        (["request", "agent/a", "x", "--timeout", "0"], ORCHESTRA, "0.0 must be a number, more than 0 and at most"),
        (["--port", "70000"], HUB, "70000 must be a whole number, at least 0 and at most 65535"),
    ],
)
def test_what_a_number_must_be_is_said_in_words(
    place: Place, words: list[str], program: tuple[str, ...], said: str
) -> None:
    ended = place.run(*words, program=program)
    assert ended.code == 2
    assert said in ended.stderr
