"""Any history of entries, names, readers and crashes: a reader gets what the log holds, and cursors skip nothing.

The real decider and the real store, against a model of each channel that is one dictionary.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from orchestra import wire
from orchestra.hub.channel import OVERWRITE
from orchestra.hub.channels import BUILT_IN
from orchestra.wire import Record

from .fakehub import FakeHub, FakePeer

USED = ("channel/status", "channel/context")  # the first appends, the second overwrites
CHANNELS = st.sampled_from(USED)
NAMES = st.sampled_from(["a", "b"])
WRITER, READER = "operator/o", "matrix/m"


class ChannelMachine(RuleBasedStateMachine):
    """One peer publishes, another reads with a cursor and a small window; connections and the hub break."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.hub = FakeHub(Path(self._folder.name))
        self.writer = self.hub.join(WRITER)
        self.reader: FakePeer | None = None
        self.log: dict[str, dict[int, str | None]] = {channel: {} for channel in USED}
        """Channel → seq → name, as a reader from the start gets it."""
        self.got: dict[str, list[int]] = {channel: [] for channel in USED}
        """What the reader was sent since it last began."""
        self.place: dict[str, int] = {}
        """Where its cursors are."""

    def teardown(self) -> None:
        self.hub.close()
        self._folder.cleanup()

    def _version(self, channel: str, name: str | None) -> int:
        if name is None and BUILT_IN[channel] == OVERWRITE:
            name = ""
        return max((seq for seq, each in self.log[channel].items() if each == name and name is not None), default=0)

    def _publish(self, channel: str, name: str | None, **options: Any) -> str | int:
        """Publish; return the seq, or the code of the refusal."""
        chosen = options if name is None else {"entry": name, **options}
        told = self.writer.say(self.writer.sending(channel, **chosen))
        (answer,) = [each for each in told if each[0] in (wire.OK, wire.ERROR)]
        return int(answer[2]) if answer[0] == wire.OK else str(answer[3])

    def _logged(self, channel: str, name: str | None, seq: int) -> None:
        if name is None and BUILT_IN[channel] == OVERWRITE:
            name = ""
        self.log[channel].pop(self._version(channel, name), None)
        self.log[channel][seq] = name

    def _take(self, told: list[Record]) -> None:
        for record in told:
            if record[0] == wire.DELIVER:
                self.got[record[5]].append(record[3])

    # What may happen.

    @rule(channel=CHANNELS, name=st.none() | NAMES)
    def publish(self, channel: str, name: str | None) -> None:
        seq = self._publish(channel, name)
        assert isinstance(seq, int)
        self._logged(channel, name, seq)

    @rule(channel=CHANNELS, name=NAMES, is_newest=st.booleans())
    def publish_a_version(self, channel: str, name: str, is_newest: bool) -> None:
        version = self._version(channel, name) + (0 if is_newest else 1)
        seq = self._publish(channel, name, if_version=version)
        assert isinstance(seq, int) if is_newest else seq == "conflict"
        if isinstance(seq, int):
            self._logged(channel, name, seq)

    @rule(channel=CHANNELS, name=NAMES)
    def remove(self, channel: str, name: str) -> None:
        version = self._version(channel, name)
        seq = self._publish(channel, name, remove=True)
        assert isinstance(seq, int) if version else seq == "not_found"
        if isinstance(seq, int):
            del self.log[channel][version]
            self.log[channel][seq] = None

    @rule(channel=CHANNELS, window=st.integers(1, 3), is_start=st.booleans())
    def follow(self, channel: str, window: int, is_start: bool) -> None:
        if self.reader is None:
            self.reader = self.hub.join(READER)
        params = {"after": 0} if is_start else {}
        begun = self.reader.call("subscribe", channel=channel, cursor="c", credit=window, **params)
        if channel in self.place:
            assert begun["after"] == self.place[channel], "a cursor goes on where it was"
        self.place[channel] = begun["after"]
        self.got[channel] = []
        self._take(self.reader.take())

    @rule(channel=CHANNELS)
    def see(self, channel: str) -> None:
        if self.reader is not None and self.got[channel] and self.got[channel][-1] > self.place[channel]:
            self._see(channel)

    def _see(self, channel: str) -> None:
        assert self.reader is not None
        seq = self.place[channel] = self.got[channel][-1]
        self.reader.ref += 1
        seen = {"channel": channel, "seq": seq, "cursor": "c"}
        self._take(self.reader.say([wire.CALL, self.reader.ref, "channel.seen", seen]))

    @rule()
    def reader_leaves(self) -> None:
        if self.reader is not None:
            self._take(self.reader.take())
            self.reader.vanish()
            self.reader = None

    @rule()
    def hub_crashes(self) -> None:
        self.reader = None
        self.hub.restart()
        self.writer = self.writer.again()

    # What always holds.

    @invariant()
    def the_log_is_what_the_model_says(self) -> None:
        for channel, log in self.log.items():
            self.hub.clock.advance(0.001)
            found = self.writer.call("channel.read", channel=channel)["entries"]
            assert [each["seq"] for each in found] == sorted(log)
            known = self.hub.decider.channels.all[channel]
            assert known.count == len(log)
            assert {name: newest.seq for name, newest in known.newest.items()} == {
                name: seq for seq, name in log.items() if name is not None
            }

    @invariant()
    def a_reader_that_goes_on_gets_all_there_is_after_its_place_once_and_in_order(self) -> None:
        if self.reader is None:
            return
        self._take(self.reader.take())
        for channel, got in self.got.items():
            assert got == sorted(set(got))
            session = self.reader.session
            assert session is not None
            follower = session.subscriptions.get(self.hub.decider.channels.all[channel].id)
            if follower is None:
                continue
            place = got[-1] if got else self.place[channel]
            owed = [seq for seq in self.log[channel] if seq > place]
            assert follower.is_behind == bool(owed), "who has room and is owed nothing is pushed, and nobody else"
            assert [seq for seq in self.log[channel] if self.place[channel] < seq <= place and seq not in got] == []
            assert len(follower.on_way) <= follower.window


def test_any_history_of_a_channel_holds_what_its_model_says() -> None:
    run_state_machine_as_test(
        ChannelMachine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True)
    )
