"""How the vectors and the index of a memory are: numbers for `stats`, findings for `doctor`."""

from __future__ import annotations

from typing import Any

from . import model, vectors
from .embedder import plan_of
from .meaning import Semantics
from .repair import Finding
from .store import Store

_REINDEX = "orchestra memory reindex"
_INSTALL = "orchestra memory model install"


def semantics_of(store: Store, semantics: Semantics) -> dict[str, Any]:
    """Return the numbers and the state, ready for JSON."""
    return {**vectors.facts(store), **semantics.facts()}


def check(store: Store, semantics: Semantics) -> list[Finding]:
    """Look at the model, the vectors and the index; changes nothing."""
    plan = plan_of(semantics.choice)
    if not plan.name:
        return [Finding(f"meaning is not searched for, only words: {plan.reason}", is_well=True)]
    findings = []
    if plan.way == "files":
        wrong = model.faults(semantics.choice.models)
        findings = [Finding(text, is_well=False, advice=_INSTALL) for text in wrong]
    if not store.exists:
        return findings
    found = semantics_of(store, semantics)
    return [*findings, *_of_vectors(found), _of_index(found)]


def _of_vectors(found: dict[str, Any]) -> list[Finding]:
    count = found["vectors"].get(found["model"], 0)
    waits = f", {found['waiting']:,} wait for theirs" if found["waiting"] else ""
    findings = [Finding(f"{count:,} memories have a vector of {found['model']}{waits}", is_well=True)]
    if found["failing"]:
        ids = ", ".join(f"#{each['id']}" for each in found["failing"][:5])
        said = found["failing"][0]["error"]
        findings.append(Finding(f"no vector can be made for {ids}: {said}", is_well=False, advice=_REINDEX))
    if found.get("fault"):
        findings.append(Finding(f"no vectors can be made: {found['fault']}", is_well=False, advice=_REINDEX))
    return findings


def _of_index(found: dict[str, Any]) -> Finding:
    if found["backend"] == "chromadb":
        return Finding(f"ChromaDB {found['chromadb']} is in step and was checked", is_well=True)
    if found["backend"] == "hung" or found.get("failures"):
        what = f"the index is not used, and meaning is searched exactly: {found['reason']}"
        return Finding(what, is_well=False, advice=_REINDEX)
    return Finding(f"meaning is searched exactly{': ' if found['reason'] else ''}{found['reason']}", is_well=True)
