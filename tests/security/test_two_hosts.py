"""Two machines in two minutes: a hub on one host, an agent on another, and nothing between them but a cable."""

from __future__ import annotations

import time
from pathlib import Path

from orchestra.limits import LOBBY_PER_SOURCE_MAX

from ..system.programs import AGENT, HUB, ORCHESTRA, PYTHON, Place, wait_until
from .hosts import two_hosts

_CROWD = """
import socket, sys
crowd = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(int(sys.argv[3]))]
print("here", flush=True)
sys.stdin.read()
"""


def test_an_agent_of_another_host_is_let_in_works_and_is_sent_away(tmp_path: Path) -> None:
    place = Place(tmp_path)
    far_state = str(tmp_path / "far")
    try:
        with two_hosts() as (near, far):
            here, there = near.program(ORCHESTRA), far.program(ORCHESTRA)
            began = time.monotonic()

            hub = place.start(near.program((*HUB, "--host", near.address, "--port", "0")), name="hub")
            assert f"tcp://{near.address}:" in hub.wait_output("hub ready")
            code = place.run("invite", "agent/far", program=here).stdout.strip()
            joined = place.run("join", "-", "--state", far_state, stdin=code, program=there)
            assert joined.stdout.startswith(f"agent/far is in: connected to tcp://{near.address}:"), joined.stderr
            agent = place.start(far.program((*AGENT, "far", "--state", far_state, "--runner", "exec")), name="agent")
            agent.wait_output("agent ready")
            done = place.run(
                "task", "submit", "--to", "agent/far", "--wait", "--", "cat", "/proc/net/dev", program=here
            )
            print(f"\nfrom nothing to a result of the other host: {time.monotonic() - began:.1f} s")  # noqa: T201 - measured

            assert far.name in done.stdout, "it ran on the other host"
            assert near.name not in done.stdout

            again = place.run("join", code, "--state", far_state + "-2", program=there)
            assert "was used already" in again.assert_is_one_sentence(3)
            assert place.run("keys", "revoke", "agent/far", program=here).code == 0
            ended = agent.wait_end()
            assert (ended.code, "was revoked" in ended.stderr) == (3, True)
            stranger = place.run("inbox", "--as", "agent/far", "--state", far_state, program=there)
            assert "does not know this key" in stranger.assert_is_one_sentence(3)
            wait_until(
                lambda: "refused" in place.run("audit", "tail", program=here).stdout, "the stranger in the audit log"
            )
            assert far.address in place.run("audit", "tail", program=here).stdout, "with where it came from"
            listed = place.run("keys", "list", "--json", program=here).data
            assert listed["pending"] == [], "strangers of other machines are not held unless that is wanted"
    finally:
        place.close()


def test_a_host_that_fills_its_place_keeps_no_other_host_out(tmp_path: Path) -> None:
    place = Place(tmp_path)
    try:
        with two_hosts() as (near, far):
            here = near.program(ORCHESTRA)
            hub = place.start(near.program((*HUB, "--host", near.address, "--port", "0")), name="hub")
            port = hub.wait_output("hub ready").split(f"tcp://{near.address}:")[1].split()[0]
            crowd = (*PYTHON, "-c", _CROWD, near.address, port, str(2 * LOBBY_PER_SOURCE_MAX))
            place.start(far.program(crowd)).wait_output("here")
            code = place.run("invite", "agent/near", program=here).stdout.strip()
            joined = place.run("join", code, "--state", str(tmp_path / "other"), program=here)
            assert joined.stdout.startswith("agent/near is in"), joined.stderr
            counts = place.run("status", "--json", program=here).data["counts"]
            assert counts["lobby_full"] + counts.get("crowded_out", 0) >= LOBBY_PER_SOURCE_MAX
    finally:
        place.close()
