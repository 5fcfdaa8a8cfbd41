"""`orchestra memory`: what outlives a session, in one SQLite file of the clone. Needs no hub; messages wait for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from .group import LazyGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "learn": ("jot:learn", "Keep something that was learned."),
    "issue": ("issue:issue", "Report something that is broken; list, promote and close issues."),
    "message": ("message:message", "Send a message to other matrices, and read what came."),
    "save": ("jot:save", "Keep what this session did, with branch, commits and files."),
    "recall": ("recall:recall", "Find memories again; without a question, where you left off."),
    "list": ("recall:list_", "List memories, the newest first."),
    "stats": ("stats:stats", "Show what the memory holds."),
    "validate": ("tend:validate", "Say that learnings proved true; their confidence rises."),
    "forget": ("tend:forget", "Hide memories from every answer."),
    "distill": ("tend:distill", "Draw learnings out of sessions."),
    "consolidate": ("tend:consolidate", "Find learnings that say the same, and make them one."),
    "export": ("keep:export", "Write the whole memory as JSON Lines."),
    "import": ("keep:import_", "Take in an export, Beads' issues.jsonl, or an agents.db."),
    "purge": ("keep:purge", "Remove memories for good."),
    "doctor": ("health:doctor", "See whether the memory is whole, and repair it."),
    "reindex": ("health:reindex", "Make the indexes anew from what is stored."),
    "model": ("model:model", "Install the model that finds what is near in meaning."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@click.option(
    "--embed",
    envvar="ORCHESTRA_EMBED",
    default="auto",
    show_default=True,
    help="What makes the vectors: auto (the model that is installed), none, ollama:MODEL, openai:MODEL.  "
    "[env: ORCHESTRA_EMBED]",
)
@click.option(
    "--embed-url",
    envvar="ORCHESTRA_EMBED_URL",
    default=None,
    show_default="Ollama's here, or OpenAI's",
    help="Where that service is: http://host:11434/v1.  [env: ORCHESTRA_EMBED_URL]",
)
@click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="ORCHESTRA_MODELS",
    default=None,
    show_default="the user's data folder",
    help="Folder of the models.  [env: ORCHESTRA_MODELS]",
)
@click.option(
    "--indexer/--no-indexer",
    envvar="ORCHESTRA_INDEXER",
    default=True,
    show_default=True,
    help="Let a process in the background make vectors and keep the index.  [env: ORCHESTRA_INDEXER]",
)
@click.pass_context
def memory(ctx: click.Context, /, **settings: Any) -> None:
    """Learnings, issues, messages and sessions of this clone: kept, found again, and yours.

    All of it is in `.orchestra/memory.db` of the clone you are in, made when you first save something. What a command
    says it stored is on the disk.
    """
    ctx.obj = settings
