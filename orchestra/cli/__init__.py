"""`orchestra`: the command line for people.

Commands are named here as strings and loaded when they are used, so that `orchestra --help` stays quick.
"""

from __future__ import annotations

from typing import Final

import click

from orchestra.version import VERSION

from .config import load_defaults
from .group import LazyGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("up:up", "Start a hub and two agents here, until Ctrl-C."),
    "status": ("status:status", "Show the hub: what runs, what waits, how much is stored."),
    "peers": ("peers:peers", "Show who is known, who is connected and what they do."),
    "away": ("peers:away", "Say that you are away, and why."),
    "online": ("peers:online", "Say that you are back."),
    "send": ("mail:send", "Send a message to a peer, a channel or everyone."),
    "inbox": ("mail:inbox", "Show the unread messages to you; they stay unread."),
    "read": ("mail:read", "Show messages in full and mark them as read."),
    "watch": ("watch:watch", "Show messages as they come, or what becomes of those you sent."),
    "request": ("live:request", "Ask a peer something live and print its answer."),
    "respond": ("live:respond", "Answer live requests with what a command prints."),
    "channel": ("channel:channel", "Publish to named logs and follow them."),
    "context": ("context:context", "Read and set what everybody should know."),
    "trace": ("trace:trace", "Tell the story of a message or task, and why it is not over yet."),
    "dead": ("dead:dead", "Show what is dead and why; send it again, or drop it."),
    "invite": ("keys:invite", "Print a code that lets one new peer in."),
    "join": ("keys:join", "Join a hub with the code of an invitation."),
    "keys": ("keys:keys", "Show, accept and revoke the keys that are let in."),
    "page": ("page:page", "Print a link that signs you in at the live page."),
    "token": ("token:token", "Make and revoke tokens: they let browsers in."),
    "audit": ("audit:audit", "Show and verify the log of every decision about keys."),
    "config": ("config:config", "Show the settings and where each comes from."),
    "task": ("task:task", "Submit tasks to agents and follow them."),
    "bridge": ("bridge:bridge", "Let old programs that exchange files work with the hub."),
    "memory": ("memory:memory", "Keep what was learned, and find it again."),
    "mcp": ("mcp:mcp", "Serve the memory and the hub to a model, by MCP."),
}


@click.group(
    cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(VERSION, prog_name="orchestra")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Messages and tasks for your AI agents: stored, pushed, and always accounted for.

    Start with `orchestra up`, then, in another terminal: `orchestra task submit --wait -- git log --oneline -3`
    """
    ctx.default_map = load_defaults(ctx.command)
