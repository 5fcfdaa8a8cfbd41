"""What to write into the configuration of a program that is to use the server. Pure.

Sources: code.claude.com/docs/en/mcp, developers.openai.com/codex/mcp, geminicli.com/docs/tools/mcp-server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

NAME: Final = "agent-orchestra"
"""What the server is called: its tools appear as mcp__agent-orchestra__get_inbox."""
FILES: Final[dict[str, str]] = {
    "claude": ".mcp.json in the clone",
    "codex": ".codex/config.toml in the clone, or ~/.codex/config.toml",
    "gemini": ".gemini/settings.json in the clone, or ~/.gemini/settings.json",
}
"""The programs, and where each looks."""


def config_for(client: str, argv: Sequence[str]) -> str:
    """Return what belongs into the file of `client`, to start the server with `argv`."""
    command, *args = argv
    if client == "codex":
        # JSON's strings are TOML's, except for characters beyond the first plane, which stay as they are.
        shown = ", ".join(json.dumps(each, ensure_ascii=False) for each in args)
        return f"[mcp_servers.{NAME}]\ncommand = {json.dumps(command, ensure_ascii=False)}\nargs = [{shown}]"
    servers = {"mcpServers": {NAME: {"command": command, "args": args}}}
    return json.dumps(servers, indent=2, ensure_ascii=False)
