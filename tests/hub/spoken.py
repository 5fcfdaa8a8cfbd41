"""What may be said on a WebSocket, as docs/gateway.yaml says it: to check messages by, and to make them up from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

FILE: Final = Path(__file__).parents[2] / "docs/gateway.yaml"
SAID: Final = "say"
TOLD: Final = "hear"


@cache
def document() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def messages(side: str) -> dict[str, dict[str, Any]]:
    """Return the schema of each type that clients say (`SAID`) or are told (`TOLD`)."""
    found = document()["components"]["messages"]
    return {each["name"]: each["payload"] for name, each in found.items() if name.startswith(side)}


@cache
def _validators(side: str) -> Mapping[str, Draft202012Validator]:
    shared = {"components": document()["components"]}  # where the schemas refer to
    return {name: Draft202012Validator({**schema, **shared}) for name, schema in messages(side).items()}


def check(message: Mapping[str, Any], side: str = TOLD) -> None:
    """Fail unless the document describes this message."""
    validator = _validators(side).get(message["type"])
    assert validator is not None, f"docs/gateway.yaml does not know the type {message['type']!r}"
    faults = [f"{fault.json_path}: {fault.message[:200]}" for fault in validator.iter_errors(dict(message))]
    assert not faults, f"{faults} in {json.dumps(message)[:500]}"


_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def made_up(known: Mapping[str, list[Any]]) -> st.SearchStrategy[Any]:
    """Make messages that clients may say; now and then one field is anything at all, missing, or unknown.

    `known` are values by the name of the field, so that some messages mean something.
    """
    return st.sampled_from(sorted(messages(SAID))).flatmap(lambda name: _message(messages(SAID)[name], known))


def _message(schema: dict[str, Any], known: Mapping[str, list[Any]]) -> st.SearchStrategy[Any]:
    required = set(schema["required"])
    fields = {name: _value(each, known.get(name, [])) for name, each in schema["properties"].items()}
    good = st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in required},
        optional={name: fields[name] for name in fields if name not in required},
    )
    spoilt = st.tuples(good, st.sampled_from(sorted(fields)), _JSON).map(lambda each: {**each[0], each[1]: each[2]})
    lacking = st.tuples(good, st.sampled_from(sorted(fields))).map(
        lambda each: {k: v for k, v in each[0].items() if k != each[1]}
    )
    return good | good | spoilt | lacking


def _value(schema: dict[str, Any], known: list[Any]) -> st.SearchStrategy[Any]:
    found = _plain(schema)
    return st.sampled_from(known) | found if known else found


def _plain(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _plain(document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "oneOf" in schema:
        return st.one_of(*map(_plain, schema["oneOf"]))
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of(*(_of_type(each, schema) for each in types))


def _of_type(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "string":
        return (
            st.from_regex(schema["pattern"]) if "pattern" in schema else st.text(max_size=schema.get("maxLength", 40))
        )
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "number":
        return st.floats(schema.get("minimum"), allow_nan=False) | st.integers()
    if kind == "array":
        return st.lists(_plain(schema["items"]), max_size=4)
    if kind == "object" and "properties" in schema:
        return st.fixed_dictionaries({name: _plain(each) for name, each in schema["properties"].items()})
    return {
        "boolean": st.booleans(),
        "null": st.none(),
        "object": st.dictionaries(st.text(max_size=8), _JSON, max_size=3),
    }[kind]
