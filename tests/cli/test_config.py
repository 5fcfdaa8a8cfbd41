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


@pytest.mark.parametrize(
    ("program", "content", "said"),
    [
        (HUB, "[hub]\nprot = 5", "hub.prot is not known; use durability, gateway-host, "),
        (HUB, "hub = 3", "hub must be a table; write [hub]"),
        (HUB, "[hub]\nport = [1]", "hub.port must be one value"),
        ((*AGENT, "x", "--runner", "exec"), "[agent]\nqueue = 'a'", "agent.queue must be a list"),
        ((*AGENT, "x", "--runner", "exec"), "[agent]\nqueue = [['a']]", "agent.queue must hold plain values"),
        ((*ORCHESTRA, "status"), "colour = 1", "colour is not known; use "),
        ((*ORCHESTRA, "status"), "[task]\nsubmit = 1", "task.submit must be a table; write [task.submit]"),
        ((*ORCHESTRA, "status"), "[task.submit]\ntimeout_s = 1", "task.submit.timeout_s is not known; use "),
    ],
)
def test_a_slip_in_the_file_is_not_ignored(place: Place, program: tuple[str, ...], content: str, said: str) -> None:
    env = _configured(place, content)
    sentence = place.run(program=program, env=env).assert_is_one_sentence(2)
    assert f"configuration file {env['ORCHESTRA_CONFIG']}: {said}" in sentence


def test_options_have_the_names_of_the_command_line(place: Place) -> None:
    place.hub()
    env = _configured(place, '[task.submit]\ntimeout = 7\njson = true\n[status]\nas = "agent/nobody"\n')
    assert place.run("task", "submit", "--", "true", env=env).data["seq"]
    assert "agent-nobody.key" in place.run("status", env=env).stderr


def test_what_the_file_sets_for_one_of_many_commands_is_listed_with_it(place: Place) -> None:
    env = _configured(place, '[memory.learn]\nby = "ann"\n')
    settings = {each["name"]: each for each in place.run("config", "list", "--json", env=env).data["settings"]}
    assert (settings["memory.learn.by"]["value"], settings["memory.learn.by"]["from"]) == ("ann", "file")
    assert settings["by"]["from"] == "default"


def test_the_list_says_where_each_value_comes_from(place: Place) -> None:
    env = _configured(place, '[hub]\nport = 7500\n[task.submit]\nto = "queue/x"\n')
    env["ORCHESTRA_DURABILITY"] = "fast"
    settings = {each["name"]: each for each in place.run("config", "list", "--json", env=env).data["settings"]}
    assert (settings["hub.port"]["value"], settings["hub.port"]["from"]) == (7500, "file")
    assert (settings["task.submit.to"]["value"], settings["task.submit.to"]["from"]) == ("queue/x", "file")
    assert settings["hub.durability"]["value"] == "fast"
    assert settings["hub.durability"]["from"] == "environment ORCHESTRA_DURABILITY"
    assert (settings["hub.host"]["value"], settings["hub.host"]["from"]) == ("127.0.0.1", "default")
    assert settings["state"]["from"] == "environment ORCHESTRA_STATE"
    assert (settings["memory"]["from"], settings["matrix"]["from"]) == ("default", "default")
    assert not [name for name in settings if name.endswith((".memory", ".matrix", ".by"))], "once is enough"
    assert "agent.prompt-by" not in settings
    every = place.run("config", "list", "--all", "--json", env=env).data["settings"]
    assert "agent.prompt-by" in {each["name"] for each in every}
