"""Says at the end of a test run how much the simulation tried."""

from __future__ import annotations

from collections import Counter

import pytest

from .report import totals

TRIED = pytest.StashKey[Counter[str]]()
"""What the runs of this test run counted, with the number of their seeds."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tried = config.stash.get(TRIED, None)
    if tried is not None:
        terminalreporter.write_line(f"simulation: {totals(tried, seeds=tried['seeds'])}")
