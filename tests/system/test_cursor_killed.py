"""Cursors that outlive their reader and their hub, and the client for ordinary code."""

from __future__ import annotations

import json

import pytest

import orchestra
from orchestra.errors import Conflict

from .programs import ORCHESTRA, Place, free_port

TAIL = ("channel", "tail", "status", "--cursor", "c", "--json")


def _seqs(text: str) -> list[int]:
    return [json.loads(line)["data"]["seq"] for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_reader_and_its_hub_are_killed_and_the_next_reader_misses_nothing(place: Place) -> None:
    port = free_port()
    hub = place.hub(port=port)
    with orchestra.connect(state=place.state, patience_s=None) as sender:
        sent = sender.send_all("channel/status", [str(i) for i in range(500)])
        reader = place.start((*ORCHESTRA, *TAIL, "-f", "--from-start"), name="tail")
        reader.wait_output(f'"seq": {sent[-1]},')
        reader.kill()
        seen = _seqs(reader.stdout)
        hub.kill()
        place.hub(port=port)
        sent += sender.send_all("channel/status", [str(i) for i in range(10)])
    rest = _seqs(place.run(*TAIL).stdout)
    assert seen == sent[: len(seen)]
    assert rest == sent[-len(rest) :]
    assert len(seen) + len(rest) >= len(sent)
    assert _seqs(place.run(*TAIL).stdout) == []


def test_ordinary_code_follows_a_channel_and_sets_the_context(place: Place) -> None:
    place.hub()
    with orchestra.connect(state=place.state) as client:
        version = client.context_set("plan", "1", if_version=0)
        with pytest.raises(Conflict, match=f"version {version}"):
            client.context_set("plan", "2", if_version=0)
        found = client.context_get("plan")
        assert (found.text, found.version) == ("1", version)
        sent = [client.publish("channel/status", str(i)) for i in range(3)]
        with client.subscribe("channel/status", after=0, cursor="c") as entries:
            assert (entries.after, entries.missed) == (0, 0)
            for entry in entries:
                if entry.seq == sent[1]:
                    break
            entries.confirm()
        for entry in client.subscribe("channel/status", cursor="c"):
            assert entry.seq == sent[2]
            break
