"""all-MiniLM-L6-v2 by onnxruntime, from the copy that ChromaDB keeps: the vectors of minilm.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from .minilm import TOKENS_MAX, words_of

_MODEL: Final = "model.onnx"


class Onnx:
    """The model, read from a folder with `model.onnx` and `vocab.txt`. Use from one thread at a time.

    Raises:
        OSError, ValueError: if a file is missing or none of this model.
        ImportError: if onnxruntime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self._words = words_of(folder)
        try:
            self._session: Any = onnxruntime.InferenceSession(str(folder / _MODEL), providers=["CPUExecutionProvider"])
        except Exception as exc:  # onnxruntime raises its own classes, straight below Exception
            raise ValueError(f"{folder / _MODEL}: {exc}") from exc

    def embed(self, texts: list[str]) -> list[bytes]:
        """Return a vector of length 1 for each text: little-endian float32."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> bytes:
        ids = np.array([self._words.ids(text, count_max=TOKENS_MAX)], dtype=np.int64)
        asked = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean = self._session.run(None, asked)[0][0].mean(axis=0)
        return bytes((mean / max(float(np.linalg.norm(mean)), 1e-12)).astype("<f4").tobytes())
