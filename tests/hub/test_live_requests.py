"""Live requests between real clients."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestra.conversation import Requested
from orchestra.errors import DeadlinePassed, NotFound, Offline, OrchestraError

from .livehub import live_hub, run, soon, until


async def _answer(requested: Requested) -> bytes:
    if requested.body == b"unknown":
        raise NotFound("there is no such thing")
    if requested.body == b"broken":
        raise ValueError("a slip of the application")
    if requested.body == b"slow":
        await asyncio.Event().wait()
    return requested.sender.encode() + b" asked " + requested.body


def test_any_two_peers_ask_and_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("agent/a", on_request=_answer),
            hub.connect("matrix/m", on_request=_answer) as matrix,
            hub.connect("agent/b") as agent,
        ):
            assert await soon(matrix.request("agent/a", "which?")) == b"matrix/m asked which?"
            assert await soon(agent.request("matrix/m", b"\x00")) == b"agent/b asked \x00"

    run(scenario())


def test_who_asks_is_told_at_once_what_went_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            async with hub.connect("agent/a", on_request=_answer):
                with pytest.raises(NotFound, match="there is no such thing"):
                    await soon(operator.request("agent/a", "unknown", timeout_s=60))
                with pytest.raises(OrchestraError, match="agent/a failed to answer; its log says why"):
                    await soon(operator.request("agent/a", "broken", timeout_s=60))
                with pytest.raises(DeadlinePassed, match="agent/a did not answer in time"):
                    await operator.request("agent/a", "slow", timeout_s=0.1)
                left = asyncio.ensure_future(operator.request("agent/a", "slow", timeout_s=60))
                await until(lambda: hub.decider.requests._open, "the request to be with the agent")
            with pytest.raises(Offline, match="agent/a went away before it answered"):
                await soon(left)
            with pytest.raises(Offline, match="agent/a is not connected; send a message instead"):
                await soon(operator.request("agent/a", "anybody?", timeout_s=60))

    run(scenario())
    assert "a slip of the application" in caplog.text
