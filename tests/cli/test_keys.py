"""`orchestra invite`, `join` and `keys`: as on two machines, each with a state folder of its own."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from ..system.programs import AGENT, ORCHESTRA, Place, wait_until


@pytest.fixture
def far(place: Place) -> str:
    """The state folder of another machine."""
    return str(place.folder / "far")


def _code(place: Place, peer: str, *words: str) -> str:
    return str(place.run("invite", peer, "--json", *words).data["code"])


def test_two_machines_in_two_commands(place: Place, far: str) -> None:
    place.hub()
    invited = place.run("invite", "agent/far")
    assert len(invited.stdout.split()) == 1
    assert "lets agent/far in once until" in invited.stderr
    assert "start it with --host 0.0.0.0" in invited.stderr
    joined = place.run("join", invited.stdout.strip(), "--state", far)
    assert joined.code == 0
    assert joined.stdout.startswith("agent/far is in: connected to tcp://127.0.0.1:")
    assert "next: orchestra-agent far --queue default" in joined.stderr
    listed = place.run("keys", "list")
    told = re.search(r"its key is \S+: ([\da-f ]{24}), the hub's: ([\da-f ]{24})\n", joined.stderr)
    assert told, joined.stderr
    assert f"agent/far\t{told[1]}\t" in listed.stdout, "two people read the same to each other"
    assert f"the hub's key is {told[2]}\n" in listed.stderr
    agent = place.start((*AGENT, "far", "--queue", "default", "--state", far, "--runner", "exec"))
    ended = place.run("task", "submit", "--wait", "--", "echo", "from afar")
    assert (ended.code, ended.stdout) == (0, "from afar\n")
    agent.kill()


def test_who_joined_acts_as_itself_without_saying_so(place: Place, far: str) -> None:
    place.hub()
    joined = place.run("join", _code(place, "operator/far"), "--state", far)
    assert f"next: orchestra status --state {far}" in joined.stderr
    assert place.run("status", "--state", far).code == 0
    place.run("join", _code(place, "matrix/m"), "--state", far)
    assert "choose one with --as" in place.run("status", "--state", far).assert_is_one_sentence(3)


def test_an_agent_is_told_to_serve_what_it_may(place: Place, far: str) -> None:
    place.hub()
    words = ("--grant", "receive", "--grant", "serve:queue/review")
    assert "add: --grant serve:agent/far" in place.run("invite", "agent/far", *words).stderr
    invited = place.run("invite", "agent/far", *words, "--grant", "serve:agent/far")
    assert "add:" not in invited.stderr
    joined = place.run("join", invited.stdout.strip(), "--state", far)
    assert "it may: receive serve:agent/far serve:queue/review\n" in joined.stderr
    assert "next: orchestra-agent far --queue review --state" in joined.stderr


def test_a_used_code_says_so(place: Place, far: str) -> None:
    place.hub()
    code = _code(place, "matrix/m")
    assert place.run("join", code, "--state", far, "--json").data["address"] == "matrix/m"
    again = place.run("join", code, "--state", far + "-2")
    assert "was used already; ask for another" in again.assert_is_one_sentence(3)
    assert place.run("join", code, "--state", far).code == 0, "the same machine may repeat it"


def test_a_revoked_invitation_is_not_known(place: Place, far: str) -> None:
    place.hub()
    code = _code(place, "matrix/m")
    assert place.run("keys", "revoke", "matrix/m", "--invitations").stdout == "1 invitation of matrix/m revoked\n"
    assert "ask for another" in place.run("join", code, "--state", far).assert_is_one_sentence(3)


def test_the_code_can_be_piped_and_be_in_the_environment(place: Place, far: str) -> None:
    place.hub()
    code = _code(place, "matrix/m", "--uses", "2")
    piped = subprocess.run(
        [*ORCHESTRA, "join", "-", "--state", far],
        input=code + "\n",
        text=True,
        env=place.env(),
        check=False,
        timeout=30,
    )
    assert piped.returncode == 0
    assert place.run("join", "--state", far + "-2", env=place.env(ORCHESTRA_INVITATION=code)).code == 0


def test_a_folder_of_another_hub_is_left_alone(place: Place, far: str) -> None:
    place.hub()
    other = place.start((*ORCHESTRA[:-1], "orchestra.hub.cli", "--state", far, "--port", "0"))
    other.wait_output("hub ready")
    refused = place.run("join", _code(place, "matrix/m"), "--state", far)
    assert "belongs to another hub" in refused.assert_is_one_sentence(5)
    other.kill()


def test_a_revoked_agent_stops_and_says_why(place: Place, far: str) -> None:
    place.hub()
    place.run("join", _code(place, "agent/far"), "--state", far)
    agent = place.start((*AGENT, "far", "--state", far, "--runner", "exec"))
    wait_until(lambda: _sessions(place, "agent/far"), "the agent to connect")
    assert place.run("keys", "revoke", "agent/far").stdout == "1 key of agent/far revoked\n"
    ended = agent.wait_end()
    assert ended.code == 3
    assert "this key of agent/far was revoked" in ended.stderr
    assert "does not know this key" in place.run("inbox", "--as", "agent/far", "--state", far).assert_is_one_sentence(3)


def _sessions(place: Place, peer: str) -> int:
    keys = place.run("keys", "list", "--json").data["keys"]
    return sum(each["sessions"] for each in keys if each["address"] == peer)


def test_a_key_can_be_accepted_and_revoked_by_hand(place: Place) -> None:
    place.hub()
    public = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    accepted = place.run("keys", "accept", "agent/hand", public)
    assert accepted.stdout.startswith("agent/hand may connect with the key ")
    fingerprint = accepted.stdout.split("key ")[1].strip()
    listed = place.run("keys", "list").stdout
    assert f"agent/hand\t{fingerprint}\t" in listed
    assert place.run("keys", "revoke", "agent/hand", "--fingerprint", "0000 0000").code == 1
    assert place.run("keys", "revoke", "agent/hand", "--fingerprint", fingerprint[:9]).code == 0
    assert "agent/hand" not in place.run("keys", "list").stdout


def test_the_last_operator_can_not_lock_everybody_out(place: Place) -> None:
    place.hub()
    me = next(each["address"] for each in place.run("keys", "list", "--json").data["keys"])
    assert "last key of the last operator" in place.run("keys", "revoke", me).assert_is_one_sentence(3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("join", "hello"), "is made by: orchestra invite"),
        (("join", "orc1-abc"), "copy it again, whole"),
        (("invite", "queue/q"), "is not a peer"),
    ],
)
def test_what_is_wrong_is_one_sentence(place: Place, words: tuple[str, ...], said: str) -> None:
    assert said in place.run(*words).assert_is_one_sentence(2)


@pytest.mark.parametrize("ttl", ["0", "-1", "soon", "31d", "1w"])
def test_a_bad_length_of_time_is_refused(place: Place, ttl: str) -> None:
    ended = place.run("invite", "agent/a", "--ttl", ttl)
    assert ended.code == 2


def test_a_key_can_be_sealed_and_unsealed(place: Place) -> None:
    place.hub()
    word = place.folder / "word"
    word.write_text("open sesame")
    word.chmod(0o600)
    env = place.env(ORCHESTRA_KEY_PASSPHRASE_FILE=str(word))
    assert place.run("keys", "seal", env=env).stdout.endswith("is sealed\n")
    assert "is sealed with a passphrase" in place.run("status").assert_is_one_sentence(3)
    assert place.run("status", env=env).code == 0
    assert "is sealed already" in place.run("keys", "seal", env=env).assert_is_one_sentence(5)
    assert place.run("keys", "unseal", env=env).code == 0
    assert place.run("status").code == 0


def test_a_running_agent_takes_its_new_key_when_the_old_one_ends(place: Place, far: str) -> None:
    place.hub()
    place.run("join", _code(place, "agent/far"), "--state", far)
    agent = place.start((*AGENT, "far", "--queue", "default", "--state", far, "--runner", "exec"))
    wait_until(lambda: _sessions(place, "agent/far"), "the agent to connect")
    rotated = place.run("keys", "rotate", "agent/far", "--overlap", "1s", "--state", far)
    assert rotated.stdout.startswith("agent/far has a new key: ")
    wait_until(lambda: len(_keys(place, "agent/far")) == 1 and _sessions(place, "agent/far"), "it to come back")
    ((key, fingerprint),) = [(each["public_key"], each["fingerprint"]) for each in _keys(place, "agent/far")]
    assert fingerprint in rotated.stdout
    assert key in (place.folder / "far" / "keys" / "agent-far.key").read_text()
    assert place.run("task", "submit", "--wait", "--", "echo", "still here").stdout == "still here\n"
    agent.kill()


def _keys(place: Place, peer: str) -> list[dict[str, Any]]:
    return [each for each in place.run("keys", "list", "--json").data["keys"] if each["address"] == peer]


def test_a_stranger_is_pending_until_somebody_accepts_it_by_its_fingerprint(place: Place, far: str) -> None:
    place.hub()
    place.run("join", _code(place, "agent/far"), "--state", far)
    fingerprint = _keys(place, "agent/far")[0]["fingerprint"]
    place.run("keys", "revoke", "agent/far")
    assert place.run("inbox", "--as", "agent/far", "--state", far).code == 3
    wait_until(lambda: "pending, from 127.0.0.1" in place.run("keys", "list").stdout, "the key to be pending")
    assert place.run("keys", "accept", "agent/far", "0000").code == 1
    assert place.run("keys", "accept", "agent/far", fingerprint).code == 0
    assert place.run("inbox", "--as", "agent/far", "--state", far).code == 1, "no mail"
    place.run("keys", "revoke", "agent/far")
    place.run("inbox", "--as", "agent/far", "--state", far)
    wait_until(lambda: "pending" in place.run("keys", "list").stdout, "the key to be pending again")
    assert place.run("keys", "reject", fingerprint[:9]).stdout == f"{fingerprint} is rejected\n"


def test_what_a_peer_may_do_is_shown_and_changed(place: Place) -> None:
    place.hub()
    place.run("keys", "accept", "agent/hand", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")
    assert (
        place.run("keys", "grant", "agent/hand").stdout
        == "agent/hand: receive read:* send:* serve:*  (what its kind may)\n"
    )
    changed = place.run("keys", "grant", "agent/hand", "submit:queue/review", "--remove", "send:*")
    assert changed.stdout == "agent/hand: read:* receive serve:* submit:queue/review\n"
    assert "serve:* submit:queue/review\t" in place.run("keys", "list").stdout
    assert place.run("keys", "grant", "agent/hand", "--default").stdout.endswith("(what its kind may)\n")
    assert "is not a grant; write send:ADDRESS" in place.run(
        "keys", "grant", "agent/hand", "fly"
    ).assert_is_one_sentence(2)


def test_a_sealed_message_is_read_by_its_recipient_and_by_nobody_else(place: Place, far: str) -> None:
    place.hub()
    place.run("join", _code(place, "matrix/m"), "--state", far)
    mine = next(each for each in place.run("keys", "list", "--json").data["keys"] if each["address"] != "matrix/m")
    sent = place.run("send", "matrix/m", "the secret plan", "--seal", "--json").data["seq"]
    database = (place.state / "hub.db").read_bytes() + (place.state / "hub.db-wal").read_bytes()
    assert b"secret plan" not in database
    (message,) = place.run("inbox", "--as", "matrix/m", "--state", far, "--json").data
    assert (message["text"], message["sealed_by"]) == ("the secret plan", mine["fingerprint"])
    place.run("keys", "rotate", "matrix/m", "--state", far)
    assert "can't be opened" in place.run("inbox", "--as", "matrix/m", "--state", far).stdout
    assert place.run("read", str(sent), "--as", "matrix/m", "--state", far).code == 0


@pytest.mark.parametrize("to", ["*", "channel/status"])
def test_only_a_message_to_one_peer_is_sealed(place: Place, to: str) -> None:
    place.hub()
    assert place.run("send", to, "x", "--seal").code == 2
