"""The model run by numpy, and by onnxruntime, against the vectors of the published one."""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestra.memory.minilm import DIMENSIONS, MiniLM
from orchestra.memory.model import folder_of
from orchestra.memory.onnx import Onnx

PUBLISHED = json.loads((Path(__file__).parents[1] / "data" / "minilm.json").read_text(encoding="utf-8"))["vectors"]


@pytest.mark.parametrize("number", range(len(PUBLISHED)))
def test_a_vector_is_that_of_the_published_model(models: Path, number: int) -> None:
    wanted = PUBLISHED[number]
    (found,) = MiniLM(folder_of(models)).embed([wanted["text"]])
    vector = array("f", found)
    assert vector[: len(wanted["begin"])].tolist() == pytest.approx(wanted["begin"], abs=2e-5)
    assert sum(each * each for each in vector) == pytest.approx(1, abs=1e-5)


def test_several_texts_get_the_vectors_that_each_has_alone(models: Path) -> None:
    model, texts = MiniLM(folder_of(models)), ["one", "a much longer text than that", ""]
    assert model.embed(texts) == [model.embed([text])[0] for text in texts]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, (20).to_bytes(8, "little") + b'{"a": {"dtype": "F32"}}'])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="holds no weights"):
        MiniLM(tmp_path)


def test_onnxruntime_is_told_what_the_model_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nhub")
    asked: list[dict[str, Any]] = []

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            assert Path(path) == tmp_path / "model.onnx"

        def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
            asked.append(inputs)
            hidden = np.zeros((1, inputs["input_ids"].shape[1], DIMENSIONS), np.float32)
            hidden[0, :, 0], hidden[0, :, 1] = 3, 4
            return [hidden]

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    (vector,) = Onnx(tmp_path).embed(["hub hub"])
    assert array("f", vector)[:3].tolist() == pytest.approx([0.6, 0.8, 0])
    (inputs,) = asked
    assert inputs["input_ids"].tolist() == [[2, 4, 4, 3]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1]]
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 0]]
