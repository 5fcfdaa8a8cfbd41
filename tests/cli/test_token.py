"""`orchestra token`, with a real hub."""

from __future__ import annotations

import stat

from ..system.programs import Place


def test_a_token_is_made_listed_and_taken_back(place: Place) -> None:
    place.hub()
    made = place.run("token", "create", "--ttl", "2h", "--grant", "send:*")
    assert made.stdout.startswith("v4.public.")
    assert len(made.stdout.split()) == 1
    assert "it may: send:*" in made.stderr
    token_id = made.stderr.split()[1]
    listed = place.run("token", "list")
    assert f"{token_id}\toperator/" in listed.stdout
    assert "\tsend:*\t" in listed.stdout
    assert place.run("token", "revoke", token_id[:6]).stdout.startswith(f"token {token_id} of operator/")
    assert "\trevoked" in place.run("token", "list").stdout
    assert "is not the id of one token" in place.run("token", "revoke", token_id).assert_is_one_sentence(1)
    assert place.run("token", "create", "--for", "matrix/none").assert_is_one_sentence(1)
    assert {"issued", "withdrawn"} <= {each["action"] for each in place.run("audit", "tail", "--json").data}


def test_a_token_for_a_url_says_until_when_it_opens_connections(place: Place) -> None:
    place.hub()
    made = place.run("token", "create", "--url", "--json").data
    assert made["ends_ms"] - made["expires_ms"] == 8 * 3_600_000 - 600_000
    text = place.run("token", "create", "--url")
    assert "opens connections from other machines until" in text.stderr
    operator = made["address"]
    assert place.run("token", "revoke", "--all", operator).stdout == f"all of {operator} revoked\n"
    assert "no token is in use" in place.run("token", "list").stderr
    assert place.run("token", "revoke").code == 2


def test_a_mistyped_revocation_does_not_print_the_token(place: Place) -> None:
    place.hub()
    token = place.run("token", "create").stdout.strip()
    assert token[20:40] not in place.run("token", "revoke", token).assert_is_one_sentence(1)


def test_a_code_to_sign_in_is_printed_alone_and_the_signing_key_is_ours_alone(place: Place) -> None:
    place.hub()
    made = place.run("token", "code")
    assert len(made.stdout.strip()) == 32
    assert "signs operator/" in made.stderr
    key = place.state / "keys" / "hub-tokens.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
