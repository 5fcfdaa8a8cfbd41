"""`orchestra audit`."""

from __future__ import annotations

import json
import sqlite3

from ..system.programs import Place


def test_the_log_is_shown_verified_and_exported(place: Place) -> None:
    place.hub()
    place.run("invite", "agent/a")
    assert "\tinvited\tagent/a\t" in place.run("audit", "tail").stdout
    verified = place.run("audit", "verify")
    assert verified.stdout.startswith("2 entries, none changed; 2:")
    mark = verified.stdout.split("; ")[1].strip()
    assert place.run("audit", "verify", "--json").data == {"entries": 2, "mark": mark}
    lines = [json.loads(line) for line in place.run("audit", "export").stdout.splitlines()]
    assert [line["action"] for line in lines] == ["accepted", "invited"]
    place.run("invite", "agent/b")
    assert place.run("audit", "verify", "--expect", mark).code == 0


def test_what_was_changed_behind_the_hub_is_found(place: Place) -> None:
    hub = place.hub()
    place.run("invite", "agent/a")
    mark = place.run("audit", "verify", "--json").data["mark"]
    hub.kill()
    database = sqlite3.connect(place.state / "hub.db")
    with database:
        database.execute("DELETE FROM audit WHERE n = 2")
    database.close()
    hub = place.hub()
    assert place.run("audit", "verify").code == 0, "a log that was cut off is whole"
    assert "entry 2 is gone" in place.run("audit", "verify", "--expect", mark).assert_is_one_sentence(1)
    hub.kill()
    database = sqlite3.connect(place.state / "hub.db")
    with database:
        database.execute("UPDATE audit SET subject = 'operator/other' WHERE n = 1")
    database.close()
    place.hub()
    assert "entry 1 does not follow" in place.run("audit", "verify").assert_is_one_sentence(1)


def test_an_expectation_that_is_none_is_refused(place: Place) -> None:
    place.hub()
    assert "must be N:HASH" in place.run("audit", "verify", "--expect", "7").assert_is_one_sentence(2)
