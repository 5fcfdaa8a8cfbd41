"""Which model makes the vectors of this memory: one function that gives its name, its dimensions, and how to embed.

In this order: what the settings name; all-MiniLM-L6-v2 from its files; the same model where ChromaDB keeps its own
copy; none. Vectors carry the name, so those of two models never meet.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from orchestra.errors import BadOption, EmbedFault
from orchestra.limits import EMBED_ROWS

from . import model
from .endpoint import Endpoint

AUTO, NONE = "auto", "none"
_URLS: Final = {"ollama": "http://127.0.0.1:11434/v1", "openai": "https://api.openai.com/v1"}
_ONNX_FILES: Final = ("model.onnx", "vocab.txt", "tokenizer.json", "config.json")
_ONNX_BYTES_MIN: Final = 80_000_000  # a download that was cut off is smaller


@dataclass(frozen=True, slots=True)
class Choice:
    """What the settings say of vectors. `embed` is `auto`, `none`, `ollama:MODEL` or `openai:MODEL`."""

    embed: str = AUTO
    url: str = ""
    key: str = field(default="", repr=False)
    models: Path = field(default_factory=model.default_models)


@dataclass(frozen=True, slots=True)
class Embedder:
    """A model that is ready. `embed` gives vectors of length 1 (little-endian float32), one a text.

    `dimensions` is 0 where only its first vector tells.
    """

    name: str
    dimensions: int
    embed: Callable[[list[str]], list[bytes]]
    texts_a_call: int = 1
    """More than one only where a call costs much, such as a journey over the network."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be used, found without loading it: `name` is empty where there is none, and `reason` says why."""

    name: str
    reason: str = ""
    way: str = ""
    """`endpoint`, `files` or `chromadb`."""


def plan_of(choice: Choice) -> Plan:
    """Return which model the settings and the files lead to.

    Raises:
        BadOption: if the setting names no model.
    """
    if choice.embed == NONE:
        return Plan("", "switched off by --embed none")
    if choice.embed != AUTO:
        kind, colon, name = choice.embed.partition(":")
        if kind not in _URLS or not name or not colon:
            raise BadOption(f"{choice.embed!r} is no model; say auto, none, ollama:MODEL or openai:MODEL")
        return Plan(choice.embed, way="endpoint")
    if model.is_installed(choice.models):
        if model.has_numpy():
            return Plan(model.NAME, way="files")
        return Plan("", "the model is there but numpy is not; run: pip install 'agent-orchestra[semantic]'")
    if is_onnx_whole(onnx_folder()) and find_spec("onnxruntime") and model.has_numpy():
        return Plan(model.NAME, way="chromadb")
    return Plan("", "no model is installed; run: orchestra memory model install")


def embedder_of(choice: Choice) -> Embedder | None:
    """Load the model; None where there is none. Takes 0.1 to 0.3 s, since numpy is loaded here and nowhere else.

    Raises:
        BadOption: if the setting names no model.
        EmbedFault: if its files can't be read.
    """
    plan = plan_of(choice)
    try:
        if plan.way == "endpoint":
            name = choice.embed.partition(":")[2]
            found = Endpoint(url_of(choice), name, key=choice.key)
            return Embedder(plan.name, 0, found.embed, EMBED_ROWS)
        if not plan.way:
            return None
        # Threads that wait for each other in a loop make it four times slower where the cores are shared.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from .minilm import DIMENSIONS, MiniLM
        from .onnx import Onnx

        loaded = MiniLM(model.folder_of(choice.models)) if plan.way == "files" else Onnx(onnx_folder())
        return Embedder(plan.name, DIMENSIONS, loaded.embed)
    except (OSError, ValueError, ImportError) as exc:
        raise EmbedFault(f"the model {plan.name} can't be loaded: {exc}; run: orchestra memory model install") from exc


def url_of(choice: Choice) -> str:
    """Return where the service is that the settings name."""
    return choice.url or _URLS[choice.embed.partition(":")[0]]


def onnx_folder() -> Path:
    """Where ChromaDB keeps the copy that its own embedding function downloads."""
    return Path.home() / ".cache" / "chroma" / "onnx_models" / model.NAME / "onnx"


def is_onnx_whole(folder: Path) -> bool:
    try:
        sizes = [(folder / name).stat().st_size for name in _ONNX_FILES]
    except OSError:
        return False
    return sizes[0] >= _ONNX_BYTES_MIN and all(sizes)
