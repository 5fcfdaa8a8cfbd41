"""The configuration file, and `orchestra config list`.

Its tables are named like the commands (`[task.submit]`), with `[hub]` and `[agent]` for the other two programs, and
hold the names of options. What no command knows is an error: a setting with a slip of the pen must not be ignored.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
import platformdirs

from orchestra.errors import BadOption, StateFault

from .group import Group
from .shared import print_json, table

_PROGRAMS: Final = {"hub": "orchestra.hub.cli", "agent": "orchestra.agents.cli"}
"""Tables that belong to programs of their own; strings, because nothing here may import an upper floor."""
_EVERYWHERE: Final = ("state", "as", "memory", "matrix", "by")  # the same options of many commands, listed once
_SCALARS: Final = (str, int, float, bool)


def config_path() -> Path:
    return Path(
        os.environ.get("ORCHESTRA_CONFIG")
        or platformdirs.user_config_path("agent-orchestra", appauthor=False) / "config.toml"
    )


def load_defaults(program: click.Command, section: str = "") -> dict[str, Any]:
    """Return what the file sets for `program`, as click's `default_map`; `section` is its table, "" for `orchestra`.

    Raises:
        StateFault: if the file is there and can't be read.
        BadOption: if the part for this program names what it does not have.
    """
    found = _read()
    if section:
        chosen = found.get(section, {})
        if not isinstance(chosen, Mapping):
            raise _bad(f"{section} must be a table; write [{section}]")
    else:
        chosen = {name: value for name, value in found.items() if name not in _PROGRAMS}
    return _defaults(program, chosen, [section] if section else [])


def _read() -> dict[str, Any]:
    path = config_path()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise StateFault(f"configuration file {path} can't be read: {exc}") from exc


def _bad(text: str) -> BadOption:
    return BadOption(f"configuration file {config_path()}: {text}")


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options that a file may set, by the names people write on the command line."""
    return {
        next(flag for flag in param.opts if flag.startswith("--"))[2:]: param
        for param in command.params
        if isinstance(param, click.Option) and param.expose_value
    }


def _defaults(command: click.Command, values: Mapping[str, Any], trail: list[str]) -> dict[str, Any]:
    """Translate one table into click's names for its options, and those of the commands below it."""
    context = click.Context(command)
    options = _options(command)
    commands = command.list_commands(context) if isinstance(command, click.Group) else []
    found: dict[str, Any] = {}
    for name, value in values.items():
        label = ".".join([*trail, name])
        if name in commands:
            assert isinstance(command, click.Group)
            inner = command.get_command(context, name)
            assert inner is not None
            if not isinstance(value, Mapping):
                raise _bad(f"{label} must be a table; write [{label}]")
            found[name] = _defaults(inner, value, [*trail, name])
        elif name in options:
            option = options[name]
            if option.multiple != isinstance(value, list):
                raise _bad(f"{label} must be {'a list' if option.multiple else 'one value'}")
            if not all(isinstance(each, _SCALARS) for each in (value if option.multiple else [value])):
                raise _bad(f"{label} must hold plain values")
            found[option.name or name] = value
        else:
            raise _bad(f"{label} is not known; use {', '.join(sorted([*commands, *options]))}")
    return found


@click.group(cls=Group)
def config() -> None:
    """Show the settings and where each comes from."""


@config.command("list")
@click.option("--all", "is_all", is_flag=True, help="Also options that are neither set nor taken from the environment.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_context
def list_(ctx: click.Context, is_all: bool, as_json: bool) -> None:
    """Show each setting with its value and where it comes from.

    A flag beats the environment, which beats the file, which beats the default.
    """
    settings = _settings(ctx.find_root().command, is_all=is_all)
    found = list({each["name"]: each for each in settings}.values())
    if as_json:
        print_json({"file": str(config_path()), "settings": found})
        return
    click.echo(f"file: {config_path()}{'' if config_path().exists() else ' (does not exist)'}")
    table(["SETTING", "VALUE", "FROM"], [[each["name"], each["shown"], each["from"]] for each in found])


def _settings(root: click.Command, *, is_all: bool) -> Iterator[dict[str, Any]]:
    yield from _settings_of(root, load_defaults(root), [], is_all=is_all)
    for name, module in _PROGRAMS.items():
        program = import_module(module).main
        yield from _settings_of(program, load_defaults(program, name), [name], is_all=is_all)


def _settings_of(
    command: click.Command, values: Mapping[str, Any], trail: list[str], *, is_all: bool
) -> Iterator[dict[str, Any]]:
    context = click.Context(command)
    for name, option in _options(command).items():
        variable = str(option.envvar or "")
        if variable and os.environ.get(variable):
            value, source = os.environ[variable], f"environment {variable}"
        elif option.name in values:
            value, source = values[option.name], "file"
        elif is_all or variable:
            default = option.to_info_dict()["default"]
            value, source = default() if callable(default) else default, "default"
        else:
            continue
        told = option.show_default if isinstance(option.show_default, str) else ""
        label = name if name in _EVERYWHERE and source != "file" else ".".join([*trail, name])
        yield {"name": label, "value": value, "shown": told if value is None else json.dumps(value), "from": source}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _settings_of(inner, values.get(name, {}), [*trail, name], is_all=is_all)
