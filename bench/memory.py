"""How long a save and a recall take in a memory of 1,000, 10,000 and 100,000 rows.

One process, the library's own calls: `notebook.add` of one learning (one transaction, on the disk when it returns) and
`recall` of an everyday question of three to five words, eight answers. The rows are made of a fixed vocabulary, so that
every run measures the same.

    python bench/memory.py [--rows N]... [--rounds N] [--folder PATH] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console
from rich.table import Table
from rig import machine, machine_line, percentile

from orchestra.memory import notebook
from orchestra.memory.entry import Entry
from orchestra.memory.filters import Filters
from orchestra.memory.recall import recall
from orchestra.memory.store import Store

T = TypeVar("T")

ROWS: Final = (1_000, 10_000, 100_000)
_BATCH: Final = 1_000
_TITLE_WORDS, _BODY_WORDS = 8, 40
# A few common words and many rare ones, as in real notes (Zipf's law).
_VOCABULARY: Final = [f"word{number}" for number in range(20_000)]
_WEIGHTS: Final = list(accumulate(1 / (number + 1) for number in range(len(_VOCABULARY))))


def _entry(chance: random.Random) -> Entry:
    words = chance.choices(_VOCABULARY, cum_weights=_WEIGHTS, k=_TITLE_WORDS + _BODY_WORDS)
    title, body = " ".join(words[:_TITLE_WORDS]), " ".join(words[_TITLE_WORDS:])
    return Entry(title=title, body=body, category="insight", confidence="low", project="bench")


def _question(chance: random.Random) -> str:
    return "why does " + " ".join(chance.choices(_VOCABULARY, cum_weights=_WEIGHTS, k=chance.randint(3, 5)))


def _timed(work: Callable[[T], object], things: list[T]) -> list[float]:
    """Return the microseconds that `work` takes for each of the things, in ascending order."""
    taken = []
    for thing in things:
        begin = time.perf_counter_ns()
        work(thing)
        taken.append((time.perf_counter_ns() - begin) / 1000)
    return sorted(taken)


def measure(folder: Path, rows: int, rounds: int) -> dict[str, float]:
    """Fill a memory and measure it; return p50 and p99 of a save and of a recall, in microseconds."""
    chance = random.Random(rows)
    with Store(folder / f"{rows}.db") as store:
        begin = time.perf_counter()
        for _ in range(rows // _BATCH):
            notebook.add(store, [_entry(chance) for _ in range(_BATCH)], now_ms=1)
        filled_s = time.perf_counter() - begin
        entries = [_entry(chance) for _ in range(rounds)]
        saves = _timed(lambda entry: notebook.add(store, [entry], now_ms=2), entries)
        questions = [_question(chance) for _ in range(rounds)]
        filters = Filters(project="bench")
        recalls = _timed(lambda question: recall(store, question, filters, count_max=8), questions)
        nothing = _timed(
            lambda question: recall(store, question, filters, count_max=8), ["xyzzy plugh"] * (rounds // 10)
        )
        size = store.path.stat().st_size
    return {
        "rows": rows,
        "filled_a_second": rows / filled_s,
        "save_us_p50": percentile(saves, 50),
        "save_us_p99": percentile(saves, 99),
        "recall_us_p50": percentile(recalls, 50),
        "recall_us_p99": percentile(recalls, 99),
        "nothing_found_us_p50": percentile(nothing, 50),
        "mib": size / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, action="append", help="a size of the memory; may be repeated")
    parser.add_argument("--rounds", type=int, default=500, help="saves and recalls per size (500)")
    parser.add_argument("--folder", type=Path, help="where the files are made: choose the disk you mean")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    table = Table(
        "rows", "filled a second", "save p50", "save p99", "recall p50", "recall p99", "nothing found p50", "MiB"
    )
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for rows in options.rows or ROWS:
            figures = measure(Path(folder), rows, options.rounds)
            found.append(figures)
            table.add_row(*(f"{value:,.0f}" for value in figures.values()))
    console = Console()
    console.print(machine_line())
    console.print("times in microseconds")
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "memory": found}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
