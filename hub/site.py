"""The files of the live page, as they lie in the package, and the headers that every answer carries."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
"""What a browser is told a file is, by the end of its name. Files of other kinds are not served."""

SECURITY: Final = {
    # Scripts and styles come from this hub's own files alone, and no other site may frame the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*\.([a-z0-9]+)")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to be sent."""

    type: str
    body: bytes
    tag: str
    """Changes with the file: a browser that has it is told so instead of being sent it again."""


def load_site() -> dict[str, Asset]:
    """Return the files of the page by the path they are served at; `/` is `index.html`."""
    found = dict(_assets(resources.files(__package__) / "page", "/"))
    if "/index.html" in found:
        found["/"] = found["/index.html"]
    return found


def _assets(folder: Traversable, path: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for each in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(each.name)
        if each.is_dir() and not each.name.startswith(("_", ".")):
            found += _assets(each, f"{path}{each.name}/")
        elif match is not None and match[1] in TYPES and each.is_file():
            body = each.read_bytes()
            found.append((path + each.name, Asset(TYPES[match[1]], body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')))
    return found
