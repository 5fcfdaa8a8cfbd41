"""The simulation: hundreds of seeds through which every invariant holds, and broken hubs that do not get through."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from . import invariants
from .__main__ import main as soak
from .conftest import TRIED
from .mutants import MUTANTS, Mutant
from .report import trace
from .run import Ran, run
from .script import FAULTS, make_plan

SEEDS = 300
CHUNK = 50
MUTANT_SEEDS_MAX = 200
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_invariant_holds_through_any_faults(first: int, request: pytest.FixtureRequest) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        ran = run(make_plan(seed))
        counts += ran.counts
        if ran.broken is not None:
            pytest.fail(trace(ran), pytrace=False)
    tried = request.config.stash.setdefault(TRIED, Counter())
    tried.update(counts)
    tried["seeds"] += CHUNK
    for fault in FAULTS - {"heal"}:
        assert counts[f"step {fault}"], f"no run of these tried {fault}"
    for deed in ("messages handed over", "assigned", "fault: hub killed", "fault: commit refused"):
        assert counts[deed], deed


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_hub_that_breaks_one_rule_is_caught(mutant: Mutant) -> None:
    assert _first_caught(mutant).broken is not None


@pytest.mark.timeout(120)
def test_a_run_that_fails_tells_its_seed_and_a_short_trace() -> None:
    mutant = next(each for each in MUTANTS if each.name == "stores a send that comes again")
    ran = _first_caught(mutant)
    with mutant.breaks():
        told = trace(ran, hub=mutant.hub)
    assert told.startswith(f"seed {ran.plan.seed} broke nothing_is_stored_twice: ")
    assert f"--seed {ran.plan.seed}" in told
    steps = told.split("[\n")[1].split("\n]")[0].splitlines()
    assert len(steps) <= 8, told
    assert "BROKEN nothing_is_stored_twice" in told.splitlines()[-1]


def test_the_soak_says_how_many_steps_and_faults_it_tried() -> None:
    told = CliRunner().invoke(soak, ["0.2", "7"])
    assert told.exit_code == 0
    assert re.fullmatch(
        r"nothing broke, from seed 7: \d+ seeds: \d+ steps, .*; \d+ faults: (\D+ \d+(, )?)+\n", told.output
    ), told.output


def test_the_same_seed_gives_the_same_run_in_any_process() -> None:
    script = (
        "from tests.simulation.run import run; from tests.simulation.script import make_plan; import hashlib; "
        "print(hashlib.sha256('\\n'.join(run(make_plan(11), is_wordy=True).story).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=60,
            text=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def test_every_invariant_is_listed_in_the_architecture_and_catches_a_broken_hub() -> None:
    functions = [
        name
        for name, value in vars(invariants).items()
        if inspect.isgeneratorfunction(value) and not name.startswith("_")
    ]
    names = {*functions, "nothing_unexpected_is_raised"}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## What always holds")[1].split("\n## ")[0]
    assert set(re.findall(r"\| `(\w+)`", section)) == names
    assert {mutant.caught_by for mutant in MUTANTS} == names


def _first_caught(mutant: Mutant) -> Ran:
    for seed in range(MUTANT_SEEDS_MAX):
        with mutant.breaks():
            ran = run(make_plan(seed), hub=mutant.hub)
        if ran.broken is not None and ran.broken.invariant == mutant.caught_by:
            return ran
    pytest.fail(f"in {MUTANT_SEEDS_MAX} seeds {mutant.caught_by} did not notice a hub that {mutant.name}")
