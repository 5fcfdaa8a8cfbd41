"""Mailboxes: a window in memory over a longer line in the database."""

from __future__ import annotations

import random

import pytest

from orchestra.hub.mailbox import Letter, Mailbox
from orchestra.limits import WINDOW_MESSAGES


class Line:
    """A mailbox with the rows its hub would have in the database."""

    def __init__(self, *, stored: list[tuple[int, int]] | None = None) -> None:
        self.rows: dict[tuple[int, int], int] = dict.fromkeys(stored or [], 0)
        self.mailbox = Mailbox(1, count=len(self.rows))
        self.now_ms = 0

    def put(self, seq: int, rank: int = 2) -> None:
        self.rows[rank, seq] = 0
        self.mailbox.put(_letter(seq, rank))

    def refill(self, rows_max: int = WINDOW_MESSAGES) -> None:
        after = self.mailbox.wants
        assert after is not None
        self.mailbox.is_fetching = True
        found = sorted(key for key in self.rows if key > after)[:rows_max]
        self.mailbox.refill((_letter(seq, rank) for rank, seq in found), is_all=len(found) < rows_max)

    def take(self, count: int) -> list[Letter]:
        """Take up to `count`, refilling as the hub does."""
        taken: list[Letter] = []
        while len(taken) < count:
            for letter in self.mailbox.take(self.now_ms):
                taken.append(letter)
                if len(taken) == count:
                    return taken
            if self.mailbox.wants is None:
                return taken
            self.refill()
        return taken

    def settle(self, letter: Letter) -> None:
        assert self.mailbox.settle(letter.seq) is not None
        del self.rows[letter.rank, letter.seq]


def _letter(seq: int, rank: int = 2) -> Letter:
    return Letter(seq, rank, 0, "operator/o", "agent/a", 0, None, b"")


def _keys(letters: list[Letter]) -> list[tuple[int, int]]:
    return [(letter.rank, letter.seq) for letter in letters]


def test_what_is_put_is_taken_in_order_and_is_in_flight_then() -> None:
    line = Line()
    for seq, rank in ((1, 2), (2, 0), (3, 3), (4, 0)):
        line.put(seq, rank)
    assert _keys(line.take(9)) == [(0, 2), (0, 4), (2, 1), (3, 3)]
    assert set(line.mailbox.in_flight) == {1, 2, 3, 4}
    assert line.take(9) == []
    assert line.mailbox.count == 4


def test_only_an_empty_mailbox_lets_a_new_message_pass_at_once() -> None:
    mailbox = Mailbox(1)
    assert mailbox.is_empty_handed
    mailbox.put(_letter(1))
    assert not mailbox.is_empty_handed
    assert not Mailbox(1, count=1).is_empty_handed


def test_a_handed_message_is_in_flight_and_counted() -> None:
    mailbox = Mailbox(1)
    mailbox.hand(_letter(1))
    assert (mailbox.count, list(mailbox.in_flight), list(mailbox.take(0))) == (1, [1], [])


def test_the_window_stays_within_its_bound_and_nothing_is_lost() -> None:
    line = Line()
    count = 3 * WINDOW_MESSAGES + 7
    for seq in range(1, count + 1):
        line.put(seq)
        assert len(line.mailbox._window) <= WINDOW_MESSAGES
    assert line.mailbox.count == count
    assert [letter.seq for letter in line.take(count + 9)] == list(range(1, count + 1))
    assert line.mailbox.wants is None


def test_an_urgent_message_enters_a_full_window_and_pushes_the_last_out() -> None:
    line = Line()
    for seq in range(1, WINDOW_MESSAGES + 1):
        line.put(seq)
    line.put(WINDOW_MESSAGES + 1, rank=0)
    assert len(line.mailbox._window) == WINDOW_MESSAGES
    got = _keys(line.take(9999))
    assert got == [(0, WINDOW_MESSAGES + 1)] + [(2, seq) for seq in range(1, WINDOW_MESSAGES + 1)]


def test_a_mailbox_that_was_loaded_asks_for_everything() -> None:
    line = Line(stored=[(2, 5), (0, 9)])
    assert line.mailbox.wants is not None
    assert _keys(line.take(9)) == [(0, 9), (2, 5)]


def test_a_message_put_before_the_first_refill_comes_once() -> None:
    line = Line(stored=[(2, 1)])
    line.put(2)
    line.put(3, rank=0)
    assert _keys(line.take(9)) == [(0, 3), (2, 1), (2, 2)]
    assert line.mailbox.count == 3


def test_what_is_in_flight_is_not_refilled() -> None:
    line = Line()
    for seq in range(1, WINDOW_MESSAGES + 3):
        line.put(seq)
    first = line.take(WINDOW_MESSAGES)
    line.mailbox.put_back(first[-1], not_before_ms=0)
    again = line.take(9)
    assert [letter.seq for letter in again] == [WINDOW_MESSAGES, WINDOW_MESSAGES + 1, WINDOW_MESSAGES + 2]


def test_what_is_put_back_waits_until_its_time_and_does_not_hold_up_others() -> None:
    line = Line()
    for seq in (1, 2):
        line.put(seq)
    (first,) = line.take(1)
    line.mailbox.put_back(first, not_before_ms=100)
    assert first.holders == set()
    assert [letter.seq for letter in line.take(9)] == [2]
    line.now_ms = 99
    assert line.take(9) == []
    line.now_ms = 100
    assert [letter.seq for letter in line.take(9)] == [1]


def test_nothing_is_asked_for_while_something_is_being_fetched() -> None:
    mailbox = Mailbox(1, count=5)
    mailbox.is_fetching = True
    assert mailbox.wants is None


@pytest.mark.parametrize("is_in_flight", [False, True])
def test_a_settled_message_is_forgotten(is_in_flight: bool) -> None:
    line = Line()
    line.put(1)
    if is_in_flight:
        line.take(1)
    letter = line.mailbox.settle(1)
    assert letter is not None
    assert letter.seq == 1
    assert (line.mailbox.count, line.take(9)) == (0, [])
    assert line.mailbox.settle(1) is None
    assert line.mailbox.count == 0


def test_messages_beyond_the_window_are_not_forgotten_when_others_are_put_back_among_them() -> None:
    """Rows between the edge and a message that was put back beyond it are still to be read from the database."""
    line = Line()
    seq = 0
    for _ in range(WINDOW_MESSAGES):  # a window of normal ones, all delivered
        line.put(seq := seq + 1)
    delivered = line.take(WINDOW_MESSAGES)
    for _ in range(WINDOW_MESSAGES + 50):  # high ones fill the window; fifty of them are beyond it
        line.put(seq := seq + 1, rank=1)
    for letter in delivered:  # their session is lost: all are beyond the edge now
        line.mailbox.put_back(letter, not_before_ms=0)
    line.put(seq := seq + 1, rank=0)  # enters the window, and pushes one out
    got = _keys(line.take(9999))
    assert sorted(got) == sorted(line.rows)
    assert len(set(got)) == len(got)


@pytest.mark.parametrize("seed", range(12))
def test_any_history_of_puts_takes_settles_and_failures_loses_and_doubles_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.hub.mailbox.WINDOW_MESSAGES", 8)
    chance = random.Random(seed)
    line, in_hand, seq = Line(), {}, 0
    for _ in range(600):
        match chance.choice(("put", "put", "put", "take", "settle", "fail", "fail_all", "time")):
            case "put":
                for _ in range(chance.randint(1, 12)):
                    line.put(seq := seq + 1, rank=chance.choice((0, 1, 2, 2, 2, 3)))
            case "take":
                for letter in line.take(chance.randint(1, 12)):
                    assert letter.seq not in in_hand, "delivered twice at once"
                    assert (letter.rank, letter.seq) in line.rows, "delivered after it was settled"
                    in_hand[letter.seq] = letter
            case "settle" if in_hand:
                line.settle(in_hand.pop(chance.choice(list(in_hand))))
            case "fail" if in_hand:
                letter = in_hand.pop(chance.choice(list(in_hand)))
                line.mailbox.put_back(letter, not_before_ms=line.now_ms + chance.choice((0, 5)))
            case "fail_all":
                for letter in in_hand.values():
                    line.mailbox.put_back(letter, not_before_ms=line.now_ms)
                in_hand.clear()
            case "time":
                line.now_ms += 5
        assert line.mailbox.count == len(line.rows)
        assert set(line.mailbox.in_flight) == set(in_hand)
    line.now_ms += 5
    rest = line.take(99_999)
    assert sorted(_keys(rest + list(in_hand.values()))) == sorted(line.rows)


@pytest.mark.parametrize("is_all", [True, False])
def test_what_is_put_while_rows_are_read_that_lack_it_comes_in_its_order_or_with_the_next_rows(is_all: bool) -> None:
    line = Line(stored=[(2, 1), (2, 2), (2, 3)])
    line.mailbox.is_fetching = True
    rows = [_letter(seq) for seq in (1, 2, 3)][: 3 if is_all else 2]
    for seq, rank in ((5, 2), (6, 0), (7, 2)):
        line.put(seq, rank)
    line.settle(_letter(7))
    line.mailbox.refill(rows, is_all=is_all)
    assert _keys(line.take(9)) == [(0, 6), (2, 1), (2, 2), (2, 3), (2, 5)]
    assert line.mailbox.wants is None
