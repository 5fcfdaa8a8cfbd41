"""The TCP connections of libzmq by their descriptors: what it has no call for.

A descriptor belongs to libzmq. It is borrowed here for a moment and never closed.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

# Of Linux, which Python has no names for: asm-generic/socket.h.
_ATTACH_FILTER: Final = 26
_DETACH_FILTER: Final = 27
_RETURN: Final = 6  # BPF_RET | BPF_K: what a packet filter passes, here nothing (linux/filter.h)
_PROGRAM: Final = ctypes.create_string_buffer(struct.pack("=HBBI", _RETURN, 0, 0, 0), 8)
_FILTER: Final = struct.pack("@HP", 1, ctypes.addressof(_PROGRAM))
_DEAF_MS_MAX: Final = 5000  # after which the kernel gives up a connection that was closed while it was deaf


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Give libzmq's socket, without asking the kernel what it is."""
    borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def shut(descriptor: int) -> None:
    """End a connection: libzmq notices, and closes it."""
    with suppress(OSError), _borrowed(descriptor) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def source_of(descriptor: int) -> str:
    """Return the IP address at the other end; "" for a Unix socket, and for a connection that is gone already."""
    name: Any = ""
    with suppress(OSError), _borrowed(descriptor) as connection:
        name = connection.getpeername()
    return str(name[0]) if type(name) is tuple else ""


def deafen(descriptor: int) -> bool:
    """Let the kernel drop whatever comes over a connection, so that it costs nothing; False where it can't be."""
    if sys.platform != "linux":
        return False
    try:
        with _borrowed(descriptor) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAF_MS_MAX)
            connection.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, _FILTER)
    except OSError:
        return False
    return True


def undeafen(descriptor: int) -> None:
    """Let it hear again: without that, closing it in order would never come to an end."""
    with suppress(OSError), _borrowed(descriptor) as connection:
        connection.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)
