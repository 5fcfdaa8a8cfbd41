"""agent-orchestra: the message hub and memory for people with many AI coding agents.

    with orchestra.connect() as client:
        task = client.submit("queue/default", argv=["git", "log", "--oneline", "-3"])
        print(task.result().text)

`orchestra.aio.connect` is the same for asyncio. Nothing is imported before it is used, so that
`import orchestra` and `orchestra --help` stay quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import VERSION as __version__

if TYPE_CHECKING:
    from . import aio
    from .blocking import connect
    from .terms import Terms

__all__ = ["Terms", "__version__", "aio", "connect"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "connect":
        return import_module(".blocking", __name__).connect
    if name == "Terms":
        return import_module(".terms", __name__).Terms
    if name == "aio":
        return import_module(".aio", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
