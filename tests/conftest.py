"""What all tests share.

Properties run the same few examples every time, so that a change is to blame when one fails. To look for new
failures: `pytest --hypothesis-profile thorough`.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("thorough", settings.get_profile("quick"), derandomize=False, max_examples=2000)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults", type=int, default=1, metavar="N", help="how many times as many faults as usual (tests/system)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the programs that tests start hear Ctrl-C: a shell that runs us in the background has us ignore it, and
    children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
