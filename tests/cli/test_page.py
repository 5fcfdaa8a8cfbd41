"""`orchestra page`."""

from __future__ import annotations

from pathlib import Path

from ..system.programs import HUB, LEASH, Place


def test_a_link_is_printed_and_opened(place: Place, tmp_path: Path) -> None:
    env = place.env(ORCHESTRA_NO_GATEWAY="0")
    hub = place.start((*HUB, *LEASH, "--port", "0", "--gateway-port", "0"), env=env)
    gateway = hub.wait_output("hub ready").split()[-1]
    made = place.run("page")
    assert made.stdout.startswith(f"{gateway}/signin?code=")
    assert "signs operator/" in made.stderr
    assert place.run("page", "--json").data.keys() == {"url", "address", "expires_ms"}
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    made = place.run("page", "--open", env=place.env(BROWSER=str(browser)))
    assert (made.code, opened.read_text()) == (0, made.stdout)


def test_a_hub_without_a_page_says_so(desk: Place) -> None:
    sentence = desk.run("page").assert_is_one_sentence(1)
    assert sentence.startswith("this hub serves no page")
