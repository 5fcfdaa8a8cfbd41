from __future__ import annotations

import pytest

from orchestra.agents.plan import Plan, PromptBy, Runner, check_sender, make_plan
from orchestra.errors import BadOption, NotAllowed
from orchestra.job import Job

CLAUDE = ("claude", "-p")


def test_a_prompt_is_the_last_argument_of_the_program() -> None:
    plan = make_plan(Job(prompt="-rf it"), runner=Runner.COMMAND, command=CLAUDE, prompt_by=PromptBy.ARGUMENT)
    assert plan == Plan(("claude", "-p", "-rf it"), None, "")


def test_a_prompt_may_go_to_standard_input_instead() -> None:
    plan = make_plan(Job(prompt="tält\0"), runner=Runner.COMMAND, command=CLAUDE, prompt_by=PromptBy.STDIN)
    assert plan == Plan(CLAUDE, "tält\0".encode(), "")


def test_a_prompt_with_nul_can_not_be_an_argument_and_the_refusal_says_what_can_be_done() -> None:
    with pytest.raises(BadOption, match="--prompt-by stdin"):
        make_plan(Job(prompt="a\0b"), runner=Runner.COMMAND, command=CLAUDE, prompt_by=PromptBy.ARGUMENT)


def test_exec_runs_the_argv_of_the_task_in_its_folder() -> None:
    job = Job(argv=("git", "log"), cwd="/src")
    plan = make_plan(job, runner=Runner.EXEC, command=(), prompt_by=PromptBy.ARGUMENT)
    assert plan == Plan(("git", "log"), None, "/src")


def test_exec_takes_no_prompts() -> None:
    with pytest.raises(NotAllowed, match="submit one as: orchestra task submit -- COMMAND"):
        make_plan(Job(prompt="hello"), runner=Runner.EXEC, command=(), prompt_by=PromptBy.ARGUMENT)


@pytest.mark.parametrize("prompt_by", PromptBy)
def test_an_agent_with_a_program_of_its_own_never_runs_the_argv_of_a_task(prompt_by: PromptBy) -> None:
    with pytest.raises(NotAllowed, match="--runner exec"):
        make_plan(Job(argv=("id",)), runner=Runner.COMMAND, command=CLAUDE, prompt_by=prompt_by)


def test_without_a_list_every_sender_is_accepted() -> None:
    check_sender("matrix/any", accepted=frozenset())


def test_with_a_list_only_those_on_it_are_accepted() -> None:
    accepted = frozenset({"operator/me", "matrix/mine"})
    check_sender("matrix/mine", accepted=accepted)
    with pytest.raises(NotAllowed, match=r"matrix/mine, operator/me only, not from operator/other"):
        check_sender("operator/other", accepted=accepted)
