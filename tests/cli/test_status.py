from __future__ import annotations

import re
from collections.abc import Callable

from orchestra.version import VERSION

from ..system.programs import Place


def test_status_tells_what_runs_where(desk: Place) -> None:
    ended = desk.run("status")
    assert (ended.code, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].startswith(f"hub       {VERSION}, process ")
    assert lines[0].endswith(", durability full")
    assert f"          ipc://{desk.state}/hub.sock" in lines
    assert "2 of 2 agents" in ended.stdout


def test_status_as_json_has_what_a_monitor_needs(desk: Place) -> None:
    data = desk.run("status", "--json").data
    assert data["version"] == VERSION
    assert data["peers"]["agent"] == {"known": 2, "online": 2, "away": 0}
    assert {"pid", "endpoints", "durability", "started_ms", "tasks", "stored", "counts", "mailboxes"} <= data.keys()
    assert {"messages", "unread", "entries", "used_bytes", "database_bytes", "wal_bytes"} <= data["stored"].keys()
    assert data["retention"] == {
        "days": 30,
        "dead_days": 90,
        "channel_entries": 100_000,
        "mib": 4096,
        "removed": {},
    }


def test_status_shows_what_waits_since_when_and_what_is_kept(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/waits")
    desk.run("send", to, "hello")
    out = desk.run("status").stdout
    assert re.search(rf"1 for {to} \(oldest \d+ s ago\)", out)
    assert re.search(r"^stored    \d+ in all \(1 unread, \d+ in channels, 0 dead\)$", out, re.MULTILINE)
    assert desk.run("send", "matrix/nobody", "hello").code == 1
    assert re.search(r"^survived  refused \d+", desk.run("status").stdout, re.MULTILINE)
    assert "kept      30 days, dead letters 90 days, 100,000 entries of a channel, 4,096 MiB\n" in out
    assert "MiB of data, database " in out


def test_peers_shows_who_is_connected_and_what_they_serve(desk: Place) -> None:
    rows = [line.split("\t") for line in desk.run("peers").stdout.splitlines()]
    assert rows[0] == ["PEER", "STATE", "SINCE", "TASKS", "SERVES", "HOST", "MAY"]
    agents = {row[0]: row for row in rows if row[0].startswith("agent/exec")}
    assert agents.keys() == {"agent/exec-1", "agent/exec-2"}
    for row in agents.values():
        assert (row[1], row[3], row[4], row[6]) == ("online", "0 of 1", "queue/default", "as its kind")


def test_one_peer_is_shown_with_its_sessions(desk: Place, known: Callable[[str], str]) -> None:
    shown = desk.run("peers", "agent/exec-1").stdout
    assert re.search(r"^peer +agent/exec-1  generation 1$", shown, re.MULTILINE)
    assert "\nmay       receive read:* send:* serve:*  (what its kind may)\n" in shown
    assert re.search(r"^state +online, since \d+ \w+ ago$", shown, re.MULTILINE)
    assert re.search(r"^\d+\t\d+ \w+ ago\t\S+\t\d+\torchestra\.agents\.cli\tqueue/default\t$", shown, re.MULTILINE)
    away = known("matrix/seen-never")
    assert "state     offline, since never\n" in desk.run("peers", away).stdout
    assert "no peer matrix/nobody is known" in desk.run("peers", "matrix/nobody").assert_is_one_sentence(1)
    assert desk.run("peers", "--watch", away).code == 2


def test_peers_online_leaves_out_those_who_are_away(desk: Place, known: Callable[[str], str]) -> None:
    away = known("matrix/away")
    assert away in desk.run("peers").stdout
    assert away not in desk.run("peers", "--online").stdout
    (found,) = [peer for peer in desk.run("peers", "--json").data if peer["address"] == away]
    assert found["sessions"] == []


def test_on_a_terminal_the_table_is_drawn(desk: Place) -> None:
    ended = desk.run_on_terminal("peers")
    assert ended.code == 0
    assert "PEER" in ended.stdout
    assert "─" in ended.stdout
    assert "\t" not in ended.stdout
