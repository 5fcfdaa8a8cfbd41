"""Tokens: the format, checked against another implementation, and everything that is none."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pyseto
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyseto import Key

from orchestra.errors import TokenRefused
from orchestra.limits import TOKEN_CHARS_MAX
from orchestra.rfc3339 import read_time, write_time
from orchestra.token import Claims, TokenKey, key_id, open_token, pre_auth, sign

KEY, OTHER = TokenKey(bytes(range(32))), TokenKey(bytes(32))
KEYS = {KEY.key_id: KEY.public}
CLAIMS = Claims("operator/me", "hub-1", "0123456789abcdef", 1_700_000_000_123, 1_700_000_060_000, 1_700_000_060_000)
TOKEN = sign(CLAIMS, KEY)


def _their_key(key: TokenKey, *, public: bool = False) -> pyseto.KeyInterface:
    if public:
        return Key.from_asymmetric_key_params(4, x=key.public)
    return Key.from_asymmetric_key_params(4, d=key.seed)


@pytest.mark.parametrize(
    "claims",
    [
        CLAIMS,
        replace(CLAIMS, grants=()),
        replace(CLAIMS, grants=("send:*", "administer")),
        replace(CLAIMS, ends_ms=CLAIMS.expires_ms + 5),
    ],
)
def test_what_was_signed_is_read_again(claims: Claims) -> None:
    assert open_token(sign(claims, KEY), KEYS) == claims


def test_pyseto_verifies_what_we_sign_and_reads_the_claims_as_paseto_names_them() -> None:
    claims = replace(CLAIMS, expires_ms=4_102_444_800_000, ends_ms=4_102_444_800_000)
    found = pyseto.decode(_their_key(KEY, public=True), sign(claims, KEY), deserializer=json)
    assert found.footer == {"kid": KEY.key_id}
    assert found.payload == {
        "sub": "operator/me",
        "aud": "hub-1",
        "jti": "0123456789abcdef",
        "iat": "2023-11-14T22:13:20.123Z",
        "exp": "2100-01-01T00:00:00.000Z",
    }


def test_we_verify_what_pyseto_signs() -> None:
    payload = {
        "sub": "operator/me",
        "aud": "hub-1",
        "jti": "0123456789abcdef",
        "iat": "2023-11-14T23:13:20.123+01:00",
        "exp": "2023-11-14T22:14:20Z",
    }
    theirs = pyseto.encode(_their_key(KEY), payload, footer={"kid": KEY.key_id}, serializer=json).decode()
    assert open_token(theirs, KEYS) == CLAIMS


def test_the_key_is_named_by_its_paserk_id() -> None:
    assert key_id(KEY.public) == _their_key(KEY, public=True).to_paserk_id()


def test_the_pre_authentication_encoding_is_that_of_the_specification() -> None:
    assert pre_auth() == bytes(8)
    assert pre_auth(b"") == b"\x01" + bytes(7) + bytes(8)
    assert pre_auth(b"test") == b"\x01" + bytes(7) + b"\x04" + bytes(7) + b"test"


def test_a_key_shows_no_secret() -> None:
    assert "x01" not in repr(KEY)
    assert repr(KEY) == "TokenKey()"


def test_one_of_several_keys_may_have_signed() -> None:
    keys = KEYS | {OTHER.key_id: OTHER.public}
    assert open_token(sign(CLAIMS, OTHER), keys) == open_token(TOKEN, keys) == CLAIMS


def test_a_token_of_another_key_is_refused_also_under_the_name_of_ours() -> None:
    with pytest.raises(TokenRefused, match="another hub"):
        open_token(sign(CLAIMS, OTHER), KEYS)
    with pytest.raises(TokenRefused, match="signature"):
        open_token(sign(CLAIMS, OTHER), {OTHER.key_id: KEY.public})


def test_no_changed_character_is_overlooked() -> None:
    for place in range(len(TOKEN)):
        changed = TOKEN[:place] + ("A" if TOKEN[place] != "A" else "B") + TOKEN[place + 1 :]
        with pytest.raises(TokenRefused) as refused:
            open_token(changed, KEYS)
        assert TOKEN[20:40] not in str(refused.value)


def _piece(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


BODY, FOOTER = TOKEN.removeprefix("v4.public.").split(".")
MANY_BRACKETS = b"[" * 3000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v4.public.",
        "v4.public..",
        "v4.public",
        BODY,
        f"v4.public.{BODY}",
        f"v4.public.{BODY}.{FOOTER}.",
        f"v4.public.{BODY}.{FOOTER}.{FOOTER}",
        f"v4.public.{BODY}=.{FOOTER}",
        f"v4.public.{BODY}.{FOOTER}\n",
        f" {TOKEN}",
        f"v4.local.{BODY}.{FOOTER}",
        f"v3.public.{BODY}.{FOOTER}",
        f"v4.public.{BODY}.{_piece([])}",
        f"v4.public.{BODY}.{_piece({})}",
        f"v4.public.{BODY}.{_piece({'kid': 5})}",
        f"v4.public.{BODY}.{_piece({'kid': ['a']})}",
        f"v4.public.{BODY}.{_piece(b'xff')}",
        f"v4.public.{_piece(b'x' * 64)}.{FOOTER}",
        f"v4.public.{_piece(MANY_BRACKETS[:2000])}.{_piece(MANY_BRACKETS[:600])}",
        f"v4.public.{BODY}é.{FOOTER}",
        "v4.public." + "A" * TOKEN_CHARS_MAX,
    ],
)
def test_what_is_no_token_is_refused_in_words(text: str) -> None:
    with pytest.raises(TokenRefused):
        open_token(text, KEYS)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: "v4.public." + _piece(data) + "." + FOOTER))
def test_garbage_raises_only_our_error(text: str) -> None:
    with pytest.raises(TokenRefused):
        open_token(text, KEYS)


def _signed(payload: dict[str, object]) -> str:
    return pyseto.encode(_their_key(KEY), payload, footer={"kid": KEY.key_id}, serializer=json).decode()


GOOD: dict[str, object] = {
    "sub": "operator/me",
    "aud": "hub-1",
    "jti": "x",
    "iat": "2023-11-14T22:13:20Z",
    "exp": "2023-11-14T22:14:20Z",
}


@pytest.mark.parametrize(
    "change",
    [
        {"sub": None},
        {"sub": 5},
        {"aud": ["hub-1"]},
        {"exp": 1_700_000_000},
        {"exp": "soon"},
        {"exp": "2023-13-14T22:13:20Z"},
        {"exp": "2023-11-14T22:13:20"},
        {"until": 5},
        {"grants": "send:*"},
        {"grants": [5]},
        {"grants": ["send:*"] * 101},
        {"only_on_mondays": True},
    ],
)
def test_claims_that_are_not_understood_are_refused_also_when_we_signed_them(change: dict[str, object]) -> None:
    assert open_token(_signed(GOOD), KEYS).subject == "operator/me"
    said = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(TokenRefused):
        open_token(_signed(said), KEYS)


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_is_read_as_it_was_written(ms: int) -> None:
    assert read_time(write_time(ms)) == ms
