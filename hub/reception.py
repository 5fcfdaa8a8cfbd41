"""The HTTP side of the gateway: who may come in, and what is answered to those who want no WebSocket.

The `websockets` library has parsed the request; a request with a body never gets here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, parse_qsl, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from orchestra.address import Kind, parse_address
from orchestra.errors import HubFull, NotAllowed, NotFound, OrchestraError, PeerError, RateLimited, TokenRefused
from orchestra.version import VERSION

from . import vocabulary
from .dialogue import MODERN, Wishes, read_wishes
from .site import SECURITY, Asset
from .tokens import Admission

logger = logging.getLogger(__name__)

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_BEARER: Final = "bearer."
_WEBSOCKET_PATHS: Final = ("/", "/ws")
_READS: Final[dict[str, tuple[str, dict[str, type]]]] = {
    "/status": ("status", {}),
    "/peers": ("peers", {"after": str}),
    "/matrices": ("peers", {"after": str}),
    "/tasks": ("task.list", {"state": str, "before": int, "count": int}),
    "/task": ("task.get", {"seq": int}),
    "/trace": ("trace", {"seq": int}),
    "/dead": ("dead.list", {"before": int, "count": int}),
    "/inbox": ("inbox", {"after": int, "count": int}),
    "/channels": ("channel.list", {}),
}
"""What scripts may read: path → method of CALL and its parameters."""


class Hall(Protocol):
    """What the gateway asks of the hub behind it."""

    def admit(self, token: str, *, is_url: bool, source: str) -> Admission:
        """Return whom a token lets in; raises a PeerError."""

    def sign_in(self, code: str) -> tuple[str, int]:
        """Return a token for a one-time code, and for how many seconds it is good; raises a PeerError."""

    def ask(self, admission: Admission, method: str, params: dict[str, Any]) -> Awaitable[dict[str, Any]]:
        """Answer one CALL outside of a session; raises a PeerError."""

    def wake(self) -> None:
        """Let a turn be taken soon."""

    def has_input(self) -> bool:
        """Whether a turn has something to do."""

    def give_way(self) -> None:
        """Take a turn now where the other transport has input."""

    def metrics(self) -> bytes:
        """Return everything that is measured, as Prometheus reads it."""

    def why_not_ready(self) -> str:
        """Return why peers are not served now; empty where they are."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Who comes in over a WebSocket."""

    admission: Admission
    wishes: Wishes
    source: str


class Reception:
    """Answers requests. Holds no state but what it was made with."""

    def __init__(
        self, hall: Hall, site: Mapping[str, Asset], *, port: int, names: Iterable[str], is_tls: bool, is_open: bool
    ) -> None:
        """Args:
        names: under which the gateway may be called; any other is refused (DNS rebinding).
        is_open: whether other machines reach it: then `/metrics` needs a token.
        """
        self._hall = hall
        self._site = site
        self._names = frozenset(name.lower() for name in names) | LOOPBACK
        self._is_tls = is_tls
        self._is_open = is_open
        self._cookie = f"orchestra-{port}"

    async def answer(self, request: Request, source: str) -> Response | Visit:
        """Return what is answered, or who opens a WebSocket."""
        try:
            self._check_host(request)
            path = urlsplit(request.path)
            if "websocket" in request.headers.get("Upgrade", "").lower():
                return self._visit(request, path.path, path.query, source)
            if request.method not in ("GET", "HEAD"):
                return _respond(HTTPStatus.METHOD_NOT_ALLOWED, _told("malformed", "use GET"), Allow="GET, HEAD")
            found = await self._get(request, path.path, path.query, source)
            if request.method == "HEAD":
                found.body = b""
            return found
        except (OrchestraError, ValueError, LookupError) as error:
            return _refusal(error)

    def _visit(self, request: Request, path: str, query: str, source: str) -> Visit:
        if path not in _WEBSOCKET_PATHS:
            raise NotFound(f"no WebSocket is served at {path[:80]}; connect to /")
        offered = _offered(request)
        self._check_origin(request)
        token, way = self._token(request, query, offered)
        if way == "cookie" and "Origin" not in request.headers:
            raise NotAllowed("a cookie alone opens no WebSocket; send the token as Authorization: Bearer")
        admission = self._hall.admit(token, is_url=way == "query", source=source)
        kind = parse_address(admission.claims.subject).kind
        return Visit(admission, read_wishes(query, kind=kind, is_modern=MODERN in offered), source)

    async def _get(self, request: Request, path: str, query: str, source: str) -> Response:
        asset = self._site.get(path)
        if asset is not None:
            if request.headers.get("If-None-Match") == asset.tag:
                return _respond(HTTPStatus.NOT_MODIFIED, b"", asset.type, ETag=asset.tag)
            return _respond(HTTPStatus.OK, asset.body, asset.type, ETag=asset.tag)
        if path == "/health":
            return _respond(HTTPStatus.OK, {"status": "ok", "version": VERSION})
        if path == "/ready":
            why = self._hall.why_not_ready()
            status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
            return _respond(status, {"status": "not ready", "why": why} if why else {"status": "ready"})
        if path == "/metrics":
            if self._is_open:
                self._admit(request, query, source)
            return _respond(HTTPStatus.OK, self._hall.metrics(), "text/plain; version=0.0.4; charset=utf-8")
        if path == "/whoami":
            claims = self._admit(request, query, source).claims
            return _respond(HTTPStatus.OK, {"address": claims.subject, "ends_ms": claims.ends_ms})
        if path == "/signin":
            return self._sign_in(request, query)
        if path == "/signout":
            return _respond(HTTPStatus.SEE_OTHER, b"", **{"Location": "/", "Set-Cookie": self._set_cookie("", 0)})
        if path in _READS:
            return await self._read(request, path, query, source)
        raise NotFound(f"there is no {path[:80]} here; the page is at /, and docs/gateway.md lists what else is served")

    async def _read(self, request: Request, path: str, query: str, source: str) -> Response:
        admission = self._admit(request, query, source)
        method, known = _READS[path]
        params: dict[str, Any] = {}
        for name, value in parse_qsl(query):
            if name != "token":
                params[name] = int(value) if known.get(name) is int and value.isdecimal() else value
        result = vocabulary.with_jobs(method, await self._hall.ask(admission, method, params))
        if path == "/matrices":
            result = {**result, "matrices": [each for each in result.pop("peers") if _is_matrix(each)]}
        return _respond(HTTPStatus.OK, vocabulary.write_message(result))

    def _sign_in(self, request: Request, query: str) -> Response:
        codes = parse_qs(query).get("code", [""])
        try:
            token, left_s = self._hall.sign_in(codes[0])
        except TokenRefused:
            if "text/html" not in request.headers.get("Accept", ""):
                raise
            return _respond(HTTPStatus.SEE_OTHER, b"", Location="/#used")  # the page says it better than JSON
        return _respond(HTTPStatus.SEE_OTHER, b"", **{"Location": "/", "Set-Cookie": self._set_cookie(token, left_s)})

    def _admit(self, request: Request, query: str, source: str) -> Admission:
        token, way = self._token(request, query, ())
        return self._hall.admit(token, is_url=way == "query", source=source)

    def _token(self, request: Request, query: str, offered: Iterable[str]) -> tuple[str, str]:
        """Return the token of a request, and which way it came.

        Raises:
            TokenRefused: if there is none.
        """
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given.strip():
            return given.strip(), "header"
        for each in offered:
            if each.startswith(_BEARER):
                return each.removeprefix(_BEARER), "subprotocol"
        tokens = parse_qs(query).get("token")
        if tokens:
            return tokens[0], "query"
        cookie = self._read_cookie(request)
        if cookie:
            return cookie, "cookie"
        raise TokenRefused(
            "a token is missing; make one with: orchestra token create, and send it as ?token=…, as "
            f"Authorization: Bearer …, or as the subprotocol {_BEARER}…"
        )

    def _read_cookie(self, request: Request) -> str:
        try:
            found = SimpleCookie(request.headers.get("Cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _set_cookie(self, token: str, left_s: int) -> str:
        secure = "; Secure" if self._is_tls else ""
        return f"{self._cookie}={token}; Path=/; Max-Age={left_s}; HttpOnly; SameSite=Strict{secure}"

    def _check_host(self, request: Request) -> None:
        """Refuse a name that is not the gateway's: a page of another site may have been given this address."""
        host = request.headers.get("Host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if name not in self._names:
            raise NotAllowed(f"this hub is not called {name[:80]!r}; allow it with: orchestra-hub --gateway-name NAME")

    def _check_origin(self, request: Request) -> None:
        """Refuse what a page of another site opens."""
        for origin in request.headers.get_all("Origin"):
            found = urlsplit(origin)
            if found.scheme not in ("http", "https") or found.netloc.lower() != request.headers["Host"].lower():
                raise NotAllowed(f"a page of {origin[:80]!r} may not open a WebSocket here")


def _offered(request: Request) -> tuple[str, ...]:
    """Return the subprotocols that a client offers."""
    return tuple(each.strip() for line in request.headers.get_all("Sec-WebSocket-Protocol") for each in line.split(","))


def _is_matrix(peer: Mapping[str, Any]) -> bool:
    return str(peer["address"]).startswith(f"{Kind.MATRIX}/")


_STATUS: Final[tuple[tuple[type[OrchestraError], HTTPStatus], ...]] = (
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (RateLimited, HTTPStatus.TOO_MANY_REQUESTS),
    (HubFull, HTTPStatus.SERVICE_UNAVAILABLE),
    (PeerError, HTTPStatus.BAD_REQUEST),
)


def _refusal(error: Exception) -> Response:
    if not isinstance(error, OrchestraError):  # no address that urllib takes, or a header that came twice
        return _respond(HTTPStatus.BAD_REQUEST, _told("malformed", "this is no valid request"))
    told = _told(error.code, str(error))
    if error.code.startswith("token_"):
        return _respond(HTTPStatus.UNAUTHORIZED, told, **{"WWW-Authenticate": 'Bearer realm="agent-orchestra"'})
    status = next((each for kind, each in _STATUS if isinstance(error, kind)), HTTPStatus.SERVICE_UNAVAILABLE)
    return _respond(status, told)


def _told(code: str, text: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": text}


def _respond(
    status: HTTPStatus, body: bytes | dict[str, Any], kind: str = "application/json", **headers: str
) -> Response:
    if isinstance(body, dict):
        body = json.dumps(body, ensure_ascii=False).encode() + b"\n"
    given = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-cache",
        **SECURITY,
        **headers,
    }
    return Response(status.value, status.phrase, Headers(given), body)
