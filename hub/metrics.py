"""What Prometheus reads: counted and measured anyway, and put together only when it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestra.address import PEER_KINDS
from orchestra.limits import LIST_ROWS_MAX
from orchestra.task import OVER, TaskState

from . import presence
from .decider import Decider
from .histogram import Durations

_COUNTED: Final = {
    "orchestra_deliveries": ("owed", "Messages owed to recipients, one for each."),
    "orchestra_deliveries_confirmed": ("delivered", "Messages that a client of the recipient has, and left unread."),
    "orchestra_messages_acknowledged": ("acked", "Messages that were read or dealt with by the session that got them."),
    "orchestra_redeliveries": ("redelivered", "Deliveries that had to be made again."),
    "orchestra_dead_letters": ("dead", "Messages that became dead letters."),
    "orchestra_refusals": ("refused", "Records that were answered with an error."),
    "orchestra_lost_leases": ("lost_leases", "Tasks whose agent fell silent."),
    "orchestra_slow_readers": ("slow_reader", "Sessions that were dropped because they did not read."),
    "orchestra_keys_refused": ("keys_refused", "Handshakes with a key that is not known."),
    "orchestra_tokens_refused": ("tokens_refused", "Tokens that let nobody in."),
    "orchestra_turns_undone": ("turns_undone", "Turns that the database did not take."),
}
"""Metric → the name it is counted under, and what it is."""

_MEASURED: Final = {
    "turn": "Seconds of one turn of the hub's loop: deciding, committing and sending.",
    "commit": "Seconds of one transaction.",
    "delivery": "Seconds from when a message was stored until it was confirmed; one sample of each confirmation.",
    "start": "Seconds from when a task was stored until an agent had it.",
    "task": "Seconds from when a task was stored until it was completed.",
}


class Metrics(Collector):
    """One look at the hub."""

    def __init__(
        self, decider: Decider, durations: Durations, counts: Counter[str], *, dead: int, size: dict[str, int]
    ) -> None:
        """Args:
        dead: how many dead letters nobody has dealt with.
        size: bytes of the files, by name.
        """
        self._decider = decider
        self._durations = durations
        self._counts = counts
        self._dead = dead
        self._size = size

    def render(self) -> bytes:
        """Return it in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        state, board = self._decider.state, self._decider.tasks.board
        yield CounterMetricFamily("orchestra_stored", "Messages and tasks stored, ever.", value=state.last_seq)
        for name, (counted, help_text) in _COUNTED.items():
            yield CounterMetricFamily(name, help_text, value=self._counts[counted])
        ended = CounterMetricFamily(
            "orchestra_tasks_ended", "Tasks that ended since the hub started.", labels=["state"]
        )
        for each in sorted(OVER):
            ended.add_metric([each.value], self._counts[each.value])
        yield ended
        open_tasks = GaugeMetricFamily("orchestra_tasks", "Unfinished tasks.", labels=["state"])
        by_state = Counter(task.state for task in board.tasks.values())
        for state_name in TaskState:
            if not state_name.is_over:
                open_tasks.add_metric([state_name.value], by_state[state_name])
        yield open_tasks
        depth = GaugeMetricFamily("orchestra_queue_depth", "Tasks that wait for an agent.", labels=["address"])
        for address, count in sorted(board.lines().items(), key=lambda item: -item[1])[:LIST_ROWS_MAX]:
            depth.add_metric([address], count)
        yield depth
        yield from self._peers()
        yield GaugeMetricFamily("orchestra_dead_letters_open", "Dead letters nobody has dealt with.", value=self._dead)
        size = GaugeMetricFamily("orchestra_size_bytes", "Bytes of the hub's files.", labels=["file"])
        for name, count in self._size.items():
            size.add_metric([name.removesuffix("_bytes")], count)
        yield size
        for name, help_text in _MEASURED.items():
            measured = getattr(self._durations, name)
            family = HistogramMetricFamily(f"orchestra_{name}_seconds", help_text)
            family.add_metric([], buckets=measured.buckets(), sum_value=measured.sum_s)
            yield family

    def _peers(self) -> Iterator[Metric]:
        roster = self._decider.state.roster
        known = GaugeMetricFamily("orchestra_peers", "Peers.", labels=["kind", "state"])
        peers = Counter((peer.address.kind, presence.state_of(peer)) for peer in roster.peers.values())
        for kind in sorted(PEER_KINDS):
            for state in (presence.ONLINE, presence.AWAY, presence.OFFLINE):
                known.add_metric([kind, state], peers[kind, state])
        yield known
        sessions = GaugeMetricFamily("orchestra_sessions", "Sessions that are open.", labels=["transport"])
        keyed = sum(isinstance(link, bytes) for link in roster.sessions)
        sessions.add_metric(["zeromq"], keyed)
        sessions.add_metric(["websocket"], len(roster.sessions) - keyed)
        yield sessions
        waiting = sum(peer.mailbox.waiting for peer in roster.peers.values())
        unread = sum(peer.mailbox.count for peer in roster.peers.values())
        yield GaugeMetricFamily("orchestra_messages_waiting", "Messages to be delivered.", value=waiting)
        yield GaugeMetricFamily(
            "orchestra_messages_unread", "Messages that were not read, delivered or not.", value=unread
        )
