"""No version of a dependency with a known fault is allowed or installed.

This knows what is written here and asks nobody: it runs without a network. `pip-audit` knows what was found since.
"""

from __future__ import annotations

import configparser
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import zmq

FIRST_GOOD: dict[str, tuple[str, str]] = {
    "mcp": ("1.28.1", "CVE-2026-59950, CVE-2025-66416: servers that any web page could talk to"),
    "msgpack": ("1.2.1", "GHSA-6v7p-g79w-8964: an Unpacker that is used after an error reads beyond its end"),
    "pynacl": ("1.6.2", "CVE-2025-69277: its libsodium takes points for valid that are not"),
    "websockets": ("9.1", "CVE-2021-33880: how long a check of a password takes tells of it"),
}
"""Package → the first version without the faults that are known, and which those are."""

LIBZMQ_FIRST_GOOD = (4, 3, 3)  # CVE-2019-13132, CVE-2020-15166, CVE-2021-20234 to 20237: before any key is proved


def _requirements() -> dict[str, str]:
    """Return each package that we ask for, and the lowest version that will do."""
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    lines = config["options"]["install_requires"] + "\n".join(config["options.extras_require"].values())
    found = re.findall(r"^([\w-]+)>=([\d.]+)", lines, re.MULTILINE)
    assert len(found) == len([line for line in lines.split() if not line.startswith("agent-orchestra")])
    return dict(found)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", text)[:3])


@pytest.mark.parametrize("package", FIRST_GOOD)
def test_no_version_with_a_known_fault_is_allowed_or_installed(package: str) -> None:
    good, fault = FIRST_GOOD[package]
    assert _numbers(_requirements()[package]) >= _numbers(good), f"setup.cfg allows a {package} with {fault}"
    try:
        installed = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is an extra that is not installed")
    assert _numbers(installed) >= _numbers(good), f"{package} {installed} has {fault}"


def test_the_libzmq_that_is_used_speaks_curve_and_has_no_known_fault() -> None:
    assert zmq.has("curve")
    assert zmq.zmq_version_info() >= LIBZMQ_FIRST_GOOD
