"""Settings: flag beats environment beats file beats default."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..system.programs import AGENT, HUB, ORCHESTRA, Place


def _configured(place: Place, text: str) -> dict[str, str]:
    """Write a configuration file; return the environment that finds it."""
    path = place.folder / "config.toml"
    path.write_text(text)
    return place.env(ORCHESTRA_CONFIG=str(path))


def _started(place: Place, *words: str, env: dict[str, str]) -> str:
    """Start a hub; return what `status` says of its durability."""
    hub = place.start((*HUB, "--port", "0", *words), env=env)
    hub.wait_output("hub ready")
    durability = str(place.run("status", "--json").data["durability"])
    hub.kill()
    return durability


def test_flag_beats_environment_beats_file_beats_default(place: Place) -> None:
    assert _started(place, env=place.env()) == "full"
    env = _configured(place, '[hub]\ndurability = "fast"\n')
    assert _started(place, env=env) == "fast"
    env["ORCHESTRA_DURABILITY"] = "full"
    assert _started(place, env=env) == "full"
    assert _started(place, "--durability", "fast", env=env) == "fast"


def test_tables_of_the_file_are_named_like_the_commands(place: Place) -> None:
    place.hub()
    env = _configured(place, '[task.submit]\nto = "queue/elsewhere"\n')
    assert "to queue/elsewhere is stored" in place.run("task", "submit", "--", "true", env=env).stdout


def test_the_state_folder_is_found_by_flag_before_environment(place: Place) -> None:
    place.hub()
    env = place.env(ORCHESTRA_STATE=str(place.folder / "nowhere"))
    assert place.run("status", env=env).code == 4
    assert place.run("status", "--state", str(place.state), env=env).code == 0


@pytest.mark.parametrize("program", [HUB, (*AGENT, "x", "--runner", "exec"), (*ORCHESTRA, "status")])
@pytest.mark.parametrize("content", [b"not = [toml", b"\xff\xfe", b"= 1"])
def test_a_file_that_is_no_configuration_is_one_sentence(
    place: Place, program: tuple[str, ...], content: bytes
) -> None:
    path = place.folder / "config.toml"
    path.write_bytes(content)
    ended = place.run(program=program, env=place.env(ORCHESTRA_CONFIG=str(path)))
    assert f"configuration file {path} can't be read" in ended.assert_is_one_sentence(5)


@pytest.mark.parametrize("text", ['[hub]\nport = "many"\n', '[hub]\ndurability = "none"\n'])
def test_a_setting_of_the_wrong_type_is_wrong_usage(place: Place, text: str) -> None:
    ended = place.run(program=HUB, env=_configured(place, text))
    assert ended.code == 2
    assert "Traceback" not in ended.stderr


def test_a_configuration_file_that_is_not_there_is_no_fault(place: Place) -> None:
    place.hub()
    assert not Path(place.env()["ORCHESTRA_CONFIG"]).exists()
    assert place.run("status").code == 0
