"""The port of the gateway: its sockets, its certificate, and what it is called."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import suppress
from typing import Final

from orchestra.errors import PortInUse, StateFault

from .listeners import listeners_on
from .settings import GatewaySettings

_BACKLOG: Final = 1024


def name_of(settings: GatewaySettings) -> str:
    """Return what people call the gateway."""
    if settings.host in ("", "0.0.0.0", "::"):  # noqa: S104 - it is compared, not bound
        return settings.names[0] if settings.names else socket.gethostname()
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def listen(settings: GatewaySettings) -> list[socket.socket]:
    """Listen; where that is on 127.0.0.1, also on ::1: many programs try that first for `localhost`.

    Raises:
        PortInUse: if another program listens there; it is named where the system tells.
        StateFault: if the address is none of this machine's.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = [socket.create_server((host, port), family=family, backlog=_BACKLOG)]
        if host in ("127.0.0.1", "localhost"):
            with suppress(OSError):  # this machine has no IPv6, or the port there is another program's
                taken = found[0].getsockname()[1]
                found.append(socket.create_server(("::1", taken), family=socket.AF_INET6, backlog=_BACKLOG))
        return found
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            owner = listeners_on(port)
            raise PortInUse(
                f"port {port} of the gateway is in use by {owner or 'another program'}; "
                "choose another with --gateway-port, or 0 for a free one"
            ) from exc
        raise StateFault(f"the gateway can't listen on {host}:{port}: {exc.strerror}") from exc


def tls_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """Return what encrypts; None where nothing does.

    Raises:
        StateFault: if the certificate or its key can't be used.
    """
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as exc:
        raise StateFault(f"the certificate {settings.tls_cert} and its key can't be used: {exc}") from exc
    return context
