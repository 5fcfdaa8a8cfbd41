"""How long a save and a recall take in a memory of 1,000, 10,000 and 100,000 rows, by words and by meaning.

One process, the library's own calls: `notebook.add` of one learning (one transaction, on the disk when it returns) and
`recall` of an everyday question of three to five words, eight answers. The rows are made of a fixed vocabulary, so that
every run measures the same. Where a model is installed (`orchestra memory model install`), recalls by meaning are
measured too, with ChromaDB and without, and a save while the index is absent, healthy, hanging and corrupt.

    python bench/memory.py [--rows N]... [--rounds N] [--folder PATH] [--models PATH] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the indexer has it, and before numpy is loaded

from meaning import give_vectors, measure_model, measure_recalls, measure_saves
from rich.console import Console
from rich.table import Table
from rig import machine, machine_line, percentile, timed, wide_console

from orchestra.memory import notebook
from orchestra.memory.embedder import Choice, Embedder, embedder_of
from orchestra.memory.entry import Entry
from orchestra.memory.filters import Filters
from orchestra.memory.recall import recall
from orchestra.memory.store import Store

ROWS: Final = (1_000, 10_000, 100_000)
_BATCH: Final = 1_000
_SAVED_AMONG: Final = 10_000
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


def measure(folder: Path, rows: int, rounds: int, embedder: Embedder | None) -> dict[str, float]:
    """Fill a memory and measure it; return p50 and p99 of a save and of a recall, in microseconds."""
    chance = random.Random(rows)
    with Store(folder / f"{rows}.db") as store:
        begin = time.perf_counter()
        for _ in range(rows // _BATCH):
            notebook.add(store, [_entry(chance) for _ in range(_BATCH)], now_ms=1)
        filled_s = time.perf_counter() - begin
        entries = [_entry(chance) for _ in range(rounds)]
        saves = timed(lambda entry: notebook.add(store, [entry], now_ms=2), entries)
        questions = [_question(chance) for _ in range(rounds)]
        filters = Filters(project="bench")
        recalls = timed(lambda question: recall(store, question, filters, count_max=8), questions)
        nothing = timed(
            lambda question: recall(store, question, filters, count_max=8), ["xyzzy plugh"] * (rounds // 10)
        )
        size = store.path.stat().st_size
        by_meaning: dict[str, float] = {}
        if embedder is not None:
            give_vectors(store, embedder)
            by_meaning = measure_recalls(store, embedder, questions)
    return {
        "rows": rows,
        "filled_a_second": rows / filled_s,
        "save_us_p50": percentile(saves, 50),
        "save_us_p99": percentile(saves, 99),
        "recall_us_p50": percentile(recalls, 50),
        "recall_us_p99": percentile(recalls, 99),
        "nothing_found_us_p50": percentile(nothing, 50),
        "mib": size / 2**20,
        **by_meaning,
    }


def measure_saving(folder: Path, rows: int, rounds: int, choice: Choice) -> dict[str, tuple[float, float, float]]:
    """Return p50 and p99 of a save in each state of the index, and p50 of the nudge after it."""
    chance = random.Random(rows)
    embedder = embedder_of(choice)
    assert embedder is not None
    with Store(folder / "saving.db") as store:
        for _ in range(rows // _BATCH):
            notebook.add(store, [_entry(chance) for _ in range(_BATCH)], now_ms=1)
        give_vectors(store, embedder)
        return measure_saves(store, choice, lambda: notebook.add(store, [_entry(chance)], now_ms=2), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, action="append", help="a size of the memory; may be repeated")
    parser.add_argument("--rounds", type=int, default=500, help="saves and recalls per size (500)")
    parser.add_argument("--folder", type=Path, help="where the files are made: choose the disk you mean")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--models", type=Path, help="folder of the model, if it is not in the user's data folder")
    options = parser.parse_args()
    choice = Choice(models=options.models) if options.models else Choice()
    embedder = embedder_of(choice)
    console = wide_console()
    console.print(machine_line())
    console.print("times in microseconds")
    found = []
    saving: dict[str, tuple[float, float, float]] = {}
    model: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for rows in options.rows or ROWS:
            found.append(measure(Path(folder), rows, options.rounds, embedder))
            if options.json:  # what was measured is kept, whatever comes
                options.json.write_text(json.dumps({"machine": machine(), "memory": found}, indent=2), encoding="utf-8")
        if embedder is not None:
            chance = random.Random(1)
            texts = [f"{each.title} {each.body}" for each in (_entry(chance) for _ in range(options.rounds))]
            model = measure_model(embedder, texts, [_question(chance) for _ in range(options.rounds)])
            saving = measure_saving(Path(folder), _SAVED_AMONG, options.rounds, choice)
    _show(console, found)
    if embedder is not None:
        console.print(f"{embedder.name}: " + ", ".join(f"{name} {value:,.0f}" for name, value in model.items()))
        table = Table("index", "save p50", "save p99", "p50 ÷ absent", "nudge p50")
        for state, (p50, p99, nudge) in saving.items():
            table.add_row(state, f"{p50:,.0f}", f"{p99:,.0f}", f"{p50 / saving['absent'][0]:.2f}", f"{nudge:,.0f}")
        console.print(table)
    if options.json:
        figures = {"machine": machine(), "memory": found, "model": model, "saving": saving}
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _show(console: Console, found: list[dict[str, float]]) -> None:
    """Print one table of what needs no model, and one of what does."""
    names = list(dict.fromkeys(name for each in found for name in each))
    for some in (names[: names.index("mib") + 1], ["rows", *names[names.index("mib") + 1 :]]):
        table = Table(*(name.replace("_us_", " ").replace("_", " ") for name in some))
        for figures in found:
            table.add_row(*(f"{figures[name]:,.0f}" if name in figures else "" for name in some))
        console.print(table)


if __name__ == "__main__":
    main()
