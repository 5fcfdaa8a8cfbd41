"""Which folder stands for whom, and the day on which a bridge is to be gone."""

from __future__ import annotations

from datetime import date

import pytest

from orchestra.agents.agentmap import AgentMap, parse_map
from orchestra.agents.parting import parting_word
from orchestra.errors import BadAddress, BadOption


def test_without_a_map_each_folder_that_is_a_number_stands_for_the_agent_of_that_name() -> None:
    assert str(AgentMap().address_of("3")) == "agent/3"
    assert AgentMap().address_of("notes") is None


def test_with_a_map_all_other_folders_are_left_to_the_old_agents() -> None:
    agents = parse_map("1=coder-1, 2=queue/review,", [])
    assert [str(agents.address_of(each)) for each in ("1", "2", "3")] == ["agent/coder-1", "queue/review", "None"]


def test_an_old_agent_at_the_hub_has_an_address_and_may_serve_queues() -> None:
    agents = parse_map("", ["3=old-3+review+queue/docs"])
    agent, queues = agents.served["3"]
    assert (str(agent), queues) == ("agent/old-3", ("queue/review", "queue/docs"))
    assert agents.address_of("3") is agents.address_of("4") is None


@pytest.mark.parametrize(
    ("text", "served", "why"),
    [
        ("coder-1", [], "write it as 1=coder-1"),
        ("1=", [], "write it as"),
        ("a/b=coder", [], "write it as"),
        ("1=coder,1=other", [], "mapped twice"),
        ("1=matrix/x", [], "takes no tasks"),
        ("1=coder", ["1=old-1"], "named twice"),
        ("", ["1=old", "2=old"], "named twice"),
        ("", ["1=queue/x"], "no agent"),
        ("", ["1=old+agent/y"], "after + come queues"),
    ],
)
def test_a_map_that_can_not_be_meant_is_refused(text: str, served: list[str], why: str) -> None:
    with pytest.raises(BadOption, match=why.replace("+", r"\+")):
        parse_map(text, served)
    with pytest.raises(BadAddress):
        parse_map("1=Not A Name", [])


def test_a_bridge_says_when_it_is_to_go_from_two_weeks_before_and_does_not_start_after() -> None:
    until = date(2026, 12, 31)
    assert parting_word(until, date(2026, 12, 16)) is None
    assert "14 days are left" in str(parting_word(until, date(2026, 12, 17)))
    assert "1 day is left" in str(parting_word(until, date(2026, 12, 30)))
    assert "today is its last day" in str(parting_word(until, date(2026, 12, 31)))
    with pytest.raises(BadOption, match=r"was to be gone after 2026-12-31; .*docs/migration.md"):
        parting_word(until, date(2027, 1, 1))
