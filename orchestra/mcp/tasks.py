"""The tools for tasks and peers, which need the hub: `assign_task`, `get_task` and `list_peers`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestra.job import TIMEOUT_S_DEFAULT, Job
from orchestra.limits import DEPENDENCIES_MAX, TASK_ATTEMPTS_MAX
from orchestra.terms import Terms

from . import answers
from .desk import Desk, iso, soon

_OUTPUT_CHARS = 20_000  # what a model can read; the whole is in: orchestra task show


class Tasks:
    """Work for agents, and who is there to do it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def assign_task(
        self,
        prompt: Annotated[str, Field(min_length=1, description="what to do, in full")],
        to: Annotated[
            str, Field(description="queue/NAME: any one agent that serves it; agent/NAME: that agent")
        ] = "queue/default",
        context: Annotated[str, Field(description="what the agent's program should know besides")] = "",
        priority: Literal["low", "normal", "high", "urgent"] = "normal",
        depends_on: Annotated[
            list[int] | None, Field(max_length=DEPENDENCIES_MAX, description="ids of tasks that must complete first")
        ] = None,
        max_attempts: Annotated[int, Field(ge=1, le=TASK_ATTEMPTS_MAX)] = 1,
        timeout_s: Annotated[float, Field(gt=0, description="seconds that one attempt may take")] = TIMEOUT_S_DEFAULT,
        key: Annotated[
            str | None, Field(description="the same key again submits nothing and returns the same task")
        ] = None,
    ) -> answers.Assigned:
        """Give a task to an agent, or to a queue that agents serve. It needs the hub: without one nothing is submitted.

        Returns at once with the id; get_task tells how it goes.
        """
        job = Job(prompt=prompt, context=context, timeout_s=timeout_s)
        terms = Terms(depends_on=tuple(depends_on or ()), max_attempts=max_attempts)
        client = self._desk.link.client()
        seq = await soon(client.store_job(to, job, priority=priority, terms=terms, key=key))
        return answers.Assigned(id=seq, recipient=to, hub=await self._desk.hub())

    async def get_task(self, id: Annotated[int, Field(ge=1, description="what assign_task returned")]) -> answers.Task:
        """Tell where a task is, and its output once there is one."""
        found = await soon(self._desk.link.client().call("task.get", seq=id))
        report = found["report"] or {}
        output = bytes(found["output"] or b"").decode("utf-8", "replace")
        return answers.Task(
            id=id,
            state=str(found["state"]),
            sender=found["from"],
            recipient=found["to"],
            agent=found["agent"] or "",
            attempt=found["attempt"],
            attempts_failed=found.get("failures", 0),
            why=found["why"],
            question=found.get("question", ""),
            exit_code=report.get("exit_code"),
            error=str(report.get("text", "")),
            output=output[-_OUTPUT_CHARS:],
            is_cut=bool(report.get("is_cut")) or len(output) > _OUTPUT_CHARS,
        )

    async def list_peers(
        self, only_online: Annotated[bool, Field(description="leave out who is offline")] = False
    ) -> answers.Peers:
        """List who is known at the hub: agents with the queues they serve, matrices, and people; and who is there."""
        client = self._desk.link.client()
        found: list[dict[str, Any]] = []
        while True:
            page = await soon(client.call("peers", **({"after": found[-1]["address"]} if found else {})))
            found += page["peers"]
            if not page["is_cut"]:
                break
        shown = [_peer(each) for each in found if each["state"] != "offline" or not only_online]
        return answers.Peers(peers=shown, hub=await self._desk.hub())


def _peer(facts: dict[str, Any]) -> answers.Peer:
    served = {queue for session in facts["sessions"] for queue in session["queues"]}
    return answers.Peer(
        address=facts["address"],
        state=facts["state"],
        since=iso(facts["since_ms"]) if facts["since_ms"] else None,
        away=facts["away_text"] or "",
        serves=sorted(served),
        busy=facts["busy"],
        slots=facts["slots"],
        unread=facts["unread"],
    )
