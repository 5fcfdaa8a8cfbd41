"""The hub's next key: announced, then taken over, and nobody who heard of it loses a message."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestra import aio, wire
from orchestra.address import parse_peer
from orchestra.cli.keys import keys
from orchestra.enrol import join
from orchestra.errors import HubUnreachable, StorageFault, TokenRefused
from orchestra.hub.hubkeys import take_over
from orchestra.hub.service import Hub
from orchestra.hub.settings import HubSettings
from orchestra.invitation import Invitation, decode_invitation
from orchestra.keys import KeyPair, is_sealed, load_key, make_key_pair
from orchestra.limits import KEY_OVERLAP_S_MAX
from orchestra.state import HubCard, StateFolder

from .fakehub import NEXT_KEY, FakeHub
from .livehub import live_hub, run, soon, until

# As the decider sees it.


def test_it_is_told_to_who_is_there_and_to_who_comes_also_after_a_restart(hub: FakeHub) -> None:
    operator, there = hub.join("operator/o"), hub.join("agent/a")
    made = operator.call("hub.rotate", overlap_ms=60_000)
    assert (made["public_key"], made["at_ms"]) == (NEXT_KEY, hub.clock.now_ms + 60_000)
    told = [wire.EVENT, "hub_key", {"public_key": NEXT_KEY, "at_ms": made["at_ms"]}]
    assert told in there.told
    assert told in hub.join("agent/b").told
    hub.restart()
    assert told in hub.join("agent/c").told
    assert hub.join("operator/o").call("keys.list")["next_key"]["at_ms"] == made["at_ms"]


def test_it_is_due_once_and_the_audit_log_says_both(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    operator.call("hub.rotate", overlap_ms=60_000)
    succession = hub.decider.succession
    assert not succession.is_due(hub.clock.now_ms + 59_999)
    assert succession.is_due(hub.clock.now_ms + 60_000)
    with hub.deciding() as turn:
        succession.took_over(now_ms=turn.now_ms)
    assert not succession.is_due(2**60)
    actions = [entry["action"] for entry in operator.call("audit.list")["entries"]]
    assert [action for action in actions if action.startswith("rotat")] == ["rotating", "rotated"]
    hub.restart()
    assert hub.decider.succession.public == ""
    assert [record[0] for record in hub.join("agent/a").told] == []


def test_only_those_who_administer_change_it_and_the_time_may_be_moved(hub: FakeHub) -> None:
    assert hub.join("matrix/m").call("hub.rotate", overlap_ms=0) == "not_allowed"
    operator = hub.join("operator/o")
    assert operator.call("hub.rotate", overlap_ms=int(KEY_OVERLAP_S_MAX * 1000) + 1) == "bad_option"
    operator.call("hub.rotate", overlap_ms=60_000)
    assert operator.call("hub.rotate", overlap_ms=0)["at_ms"] == hub.clock.now_ms


# On real sockets.


def test_messages_flow_on_while_the_hub_changes_its_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            old, far = hub.public_key, _elsewhere(tmp_path, hub.tcp, hub.public_key)
            sender_key, reader_key = hub.enrol("matrix/s"), hub.enrol("matrix/r")
            async with (
                hub.connect("operator/o") as operator,
                hub.connect("matrix/s", key=sender_key) as sender,
                _connect(far, "matrix/r", reader_key) as reader,
            ):
                sent: list[bytes] = []
                read: list[bytes] = []

                async def send_until_well_after_it() -> None:
                    after = 0
                    while after < 20:
                        sent.append(b"%d" % len(sent))
                        await sender.send("matrix/r", sent[-1])
                        after += hub.public_key != old

                async def read_all() -> None:
                    async for message in reader.messages():
                        read.append(message.body)

                sending, reading = (asyncio.create_task(each()) for each in (send_until_well_after_it, read_all))
                await until(lambda: len(read) > 20, "some messages")
                made = await soon(operator.call("hub.rotate", overlap_ms=0))
                await soon(sending)
                await until(lambda: len(read) == len(sent), "the last messages")
                await until(
                    lambda: far.read_card() == HubCard((hub.tcp,), made["public_key"], "", old), "the reader to know it"
                )
                reading.cancel()
            assert hub.public_key == made["public_key"]
            assert read == sent
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(len(sent),)]

    run(scenario())


def test_who_was_away_when_it_took_over_comes_back_with_what_it_heard_and_others_do_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            heard, deaf = (_elsewhere(tmp_path / name, hub.tcp, hub.public_key) for name in ("heard", "deaf"))
            key = hub.enrol("agent/a")
            async with hub.connect("operator/o") as operator:
                await soon(operator.call("hub.rotate", overlap_ms=3_600_000))
                async with _connect(heard, "agent/a", key):
                    await until(lambda: heard.read_card().next_public_key, "the next key")
                old = hub.public_key
                await soon(operator.call("hub.rotate", overlap_ms=0))
                await until(lambda: hub.public_key != old, "the new key")
            async with _connect(heard, "agent/a", key) as client:
                await soon(client.call("peers"))
            assert heard.read_card() == HubCard((hub.tcp,), hub.public_key, "", old)
            assert heard.read_card().hub_id == hub.folder.read_card().hub_id == old, "it is the same hub"
            with pytest.raises(HubUnreachable, match="does not have the hub's key"):
                async with _connect(deaf, "agent/a", key):
                    pass

    run(scenario())


def test_an_invitation_made_before_is_good_after_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            made = await soon(operator.call("hub.rotate", overlap_ms=3_600_000))
            once = make_key_pair()
            asked = {"address": "matrix/m", "public_key": once.public, "ttl_ms": 60_000, "uses": 1}
            await soon(operator.call("invite", **asked))
            card = HubCard((hub.tcp,), hub.public_key, made["public_key"])
            code = Invitation(parse_peer("matrix/m"), card, once.secret).encode()
            old = hub.public_key
            await soon(operator.call("hub.rotate", overlap_ms=0))
            await until(lambda: hub.public_key != old, "the new key")
            await soon(join(StateFolder(tmp_path / "far"), decode_invitation(code)))
            assert StateFolder(tmp_path / "far").read_card().public_key == made["public_key"]

    run(scenario())


def test_a_hub_that_was_stopped_in_between_takes_over_when_it_starts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            old, made = hub.public_key, await soon(operator.call("hub.rotate", overlap_ms=1000))
            await until(lambda: hub.folder.read_card().next_public_key, "the card to say so")
        folder = hub.folder
        assert stat.S_IMODE(folder.next_hub_key.stat().st_mode) == 0o600
        take_over(folder)  # as far as it came when it was killed, say: the files are changed, the database is not
        take_over(folder)
        assert load_key(folder.hub_key).public == made["public_key"]
        again = Hub(HubSettings(folder, port=0, durability="fast"))
        try:
            assert folder.read_card().public_key == made["public_key"]
            assert folder.read_card().hub_id == old, "it is the same hub"
        finally:
            again.close()

    run(scenario())


def test_a_hub_whose_keys_are_sealed_changes_them_and_they_stay_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.passphrase._key", lambda word, salt: hashlib.sha256(salt + word).digest())
    word = tmp_path / "word"
    word.write_text("open sesame\n")
    word.chmod(0o600)
    monkeypatch.setenv("ORCHESTRA_KEY_PASSPHRASE_FILE", str(word))

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            folder = hub.folder
        sealed = CliRunner().invoke(keys, ["seal", "hub", "--state", str(folder.path)])
        assert sealed.output == f"{folder.hub_key} is sealed\n{folder.signing_key} is sealed\n"
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            old = hub.public_key
            await soon(operator.call("hub.rotate", overlap_ms=0))
            await until(lambda: hub.public_key != old, "the new key")
            assert load_key(folder.hub_key).public == hub.public_key
        assert is_sealed(folder.hub_key)
        assert is_sealed(folder.signing_key)

    run(scenario())


def test_a_hub_that_cannot_write_goes_on_with_its_key_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            old, commit, refused = hub.public_key, hub.store.commit, []

            def refusing(writes: Any, *, now_ms: int) -> None:
                if any(entry.action == "rotated" for entry in writes.audit) and not refused:
                    refused.append(writes)
                    raise StorageFault("the disk is full")
                commit(writes, now_ms=now_ms)

            monkeypatch.setattr(hub.store, "commit", refusing)
            made = await soon(operator.call("hub.rotate", overlap_ms=0))
            await until(lambda: hub.public_key != old, "the new key")
            assert refused
            assert hub.public_key == made["public_key"]
            await soon(operator.call("peers"))
            actions = [entry["action"] for entry in (await soon(operator.call("audit.list")))["entries"]]
            assert actions.count("rotated") == 1

    run(scenario())


def test_who_is_invited_meanwhile_is_told_of_the_next_key_by_the_code(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            made = await soon(operator.call("hub.rotate", overlap_ms=3_600_000))
            await until(lambda: hub.folder.read_card().next_public_key == made["public_key"], "the card to say so")

    run(scenario())


def test_tokens_signed_before_are_good_after_one_change_of_the_key_and_not_after_two(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as operator:
            token = (await soon(operator.call("token.create", ttl_ms=60_000)))["token"]
            for is_good in (True, False):
                old = hub.public_key
                await soon(operator.call("hub.rotate", overlap_ms=0))
                await until(lambda old=old: hub.public_key != old, "the new key")
                if is_good:
                    hub.decider.tokens.verify(token, now_ms=0)
                else:
                    with pytest.raises(TokenRefused, match="replaced"):
                        hub.decider.tokens.verify(token, now_ms=0)

    run(scenario())


def _elsewhere(folder: Path, endpoint: str, public_key: str) -> StateFolder:
    """A state folder of another machine that knows the hub."""
    there = StateFolder(folder / "elsewhere")
    there.make()
    there.write_card(HubCard((endpoint,), public_key))
    return there


def _connect(folder: StateFolder, text: str, key: KeyPair) -> Any:
    return aio.connect(state=folder.path, address=text, key=key)
