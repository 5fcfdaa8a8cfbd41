"""all-MiniLM-L6-v2 by numpy: texts to vectors, without torch or onnxruntime.

BERT (Devlin et al. 2018) with 6 layers and 12 heads, the mean of its last layer over the words, and length 1
(Reimers and Gurevych 2019). Weights are read as they are: float32, in the safetensors format. A test compares the
vectors with those of the published model.
"""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .wordpiece import WordPiece

TOKENS_MAX: Final = 256  # what the model was made for: about 1,000 characters
DIMENSIONS: Final = 384
WEIGHTS: Final = "model.safetensors"
VOCABULARY: Final = "vocab.txt"

_LAYERS, _HEADS, _EPSILON = 6, 12, 1e-12

Floats = NDArray[np.float32]


class MiniLM:
    """The model, read from a folder with its two files. Use from one thread at a time.

    Raises:
        OSError, ValueError: if a file is missing or none of this model.
    """

    def __init__(self, folder: Path) -> None:
        self._words = words_of(folder)
        self._weights = _read(folder / WEIGHTS)
        query = self._weight("embeddings.word_embeddings.weight")
        if query.shape[1] != DIMENSIONS:
            raise ValueError(f"{folder / WEIGHTS} gives vectors of {query.shape[1]} numbers, not {DIMENSIONS}")

    def embed(self, texts: list[str]) -> list[bytes]:
        """Return a vector of length 1 for each text: little-endian float32."""
        return [self._vector(self._words.ids(text, count_max=TOKENS_MAX)).astype("<f4").tobytes() for text in texts]

    def _vector(self, ids: list[int]) -> Floats:
        """Read one text. Several at once would have to be as long as the longest, and take no less time here."""
        hidden = self._weight("embeddings.word_embeddings.weight")[ids]
        hidden = hidden + self._weight("embeddings.position_embeddings.weight")[: len(ids)]
        hidden = hidden + self._weight("embeddings.token_type_embeddings.weight")[0]
        hidden = self._normal("embeddings.LayerNorm", hidden)
        for number in range(_LAYERS):
            layer = f"encoder.layer.{number}"
            seen = self._linear(f"{layer}.attention.output.dense", self._attention(f"{layer}.attention.self", hidden))
            hidden = self._normal(f"{layer}.attention.output.LayerNorm", hidden + seen)
            inner = _gelu(self._linear(f"{layer}.intermediate.dense", hidden))
            hidden = self._normal(f"{layer}.output.LayerNorm", hidden + self._linear(f"{layer}.output.dense", inner))
        mean: Floats = hidden.mean(axis=0)
        return mean / np.float32(max(float(np.linalg.norm(mean)), _EPSILON))

    def _attention(self, name: str, hidden: Floats) -> Floats:
        """Let each word look at the others: heads as (head, word, number)."""
        query, key, value = (
            self._linear(f"{name}.{part}", hidden).reshape(len(hidden), _HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(query.shape[2]))
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        seen: Floats = (weights @ value).transpose(1, 0, 2).reshape(hidden.shape)
        return seen

    def _linear(self, name: str, hidden: Floats) -> Floats:
        made: Floats = hidden @ self._weight(f"{name}.weight").T + self._weight(f"{name}.bias")
        return made

    def _normal(self, name: str, hidden: Floats) -> Floats:
        centred = hidden - hidden.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(_EPSILON))
        made: Floats = centred / spread * self._weight(f"{name}.weight") + self._weight(f"{name}.bias")
        return made

    def _weight(self, name: str) -> Floats:
        return self._weights[name]


def words_of(folder: Path) -> WordPiece:
    """Return the tokenizer whose vocabulary lies in this folder."""
    return WordPiece((folder / VOCABULARY).read_text(encoding="utf-8").split("\n"))


def _read(path: Path) -> dict[str, Floats]:
    """Map a file of weights into memory, so that several processes share it: name to matrix."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = int.from_bytes(data[:8], "little")
        described: dict[str, Any] = json.loads(data[8 : 8 + size])
        return {
            name: np.frombuffer(data, "<f4", math.prod(facts["shape"]), 8 + size + facts["data_offsets"][0]).reshape(
                facts["shape"]
            )
            for name, facts in described.items()
            if name != "__metadata__" and facts["dtype"] == "F32"
        }
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as exc:
        raise ValueError(f"{path} holds no weights") from exc


def _gelu(x: Floats) -> Floats:
    """x · Φ(x), with erf by Abramowitz and Stegun 7.1.26 (wrong by at most 1.5e-7)."""
    z = np.abs(x) * np.float32(1 / math.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    erf = np.copysign(1 - series * np.exp(-z * z), x)
    made: Floats = (x * (1 + erf) * np.float32(0.5)).astype(np.float32)
    return made
