"""What is refused at once: names, files and numbers, each under its field, and with nothing fetched or loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from explorer.checkpoints.spec import ModelSpec
from explorer.model.preflight import find_faults
from tests.support.tiny_models import Tiny

GOOD = {"text": "python-docs", "tokens": 64, "window": 8}


def faults(model: str = "org/model", **changes: object) -> dict[str, str]:
    how = {name: changes.pop(name) for name in list(changes) if name in ("dtype", "device", "quantize")}
    return {name: str(error) for name, error in find_faults(ModelSpec(model, **how), **{**GOOD, **changes}).items()}  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("something was fetched or loaded")

    monkeypatch.setattr("explorer.checkpoints.resolve.download", refuse)
    monkeypatch.setattr("explorer.model.loading.read_all_weights", refuse)


@pytest.mark.parametrize("model", ["gpt2", "org/model", "Qwen/Qwen2.5-0.5B", "SmolLM2-135M-Instruct", "a_b/c-d.e"])
def test_names_that_may_be_right_pass(model: str) -> None:
    assert faults(model) == {}


def test_a_folder_that_could_be_loaded_passes(tiny: Tiny, tmp_path: Path) -> None:
    assert faults(str(tiny.folder("llama"))) == {}
    (tmp_path / "m.GGUF").write_bytes(b"GGUF")
    assert faults(str(tmp_path / "m.GGUF")) == {}


@pytest.mark.parametrize(
    "model",
    ["", "  ", "./no/such", "/no/such/model", "~/no-such-model", "a/b/c", "no such model", "org/", "../up", "a..b",
     "x" * 5000, "a\0b", "./a\0b", "model.gguf", "/no/x.GGUF", "org/model.git", "-x/y", "bad\nname", "é/è"],
)  # fmt: skip
def test_names_that_cannot_be_right_are_refused_under_the_model(model: str) -> None:
    found = faults(model)
    assert list(found) == ["model"]
    assert len(found["model"]) < 600
    assert found["model"].isprintable()


def test_a_folder_that_is_no_model_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    assert "config.json" in faults(str(tmp_path))["model"]
    copy = shutil.copytree(tiny.folder("llama"), tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    assert "Not a causal language model" in faults(str(copy))["model"]
    (copy / "config.json").write_text("{")
    assert "config.json" in faults(str(copy))["model"]
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "model.safetensors").unlink()
    assert "no weights" in faults(str(copy))["model"]
    assert "model" in faults(str(copy / "config.json")), "a file is no model"


@pytest.mark.parametrize(
    "text", ["", "no-such-text", "./no/such.txt", "x" * 3000, "a\0b.txt", "hf:", "tokens:", "tokens:./none.json"]
)
def test_texts_that_are_not_there_are_refused_under_the_text(text: str) -> None:
    assert list(faults(text=text)) == ["text"]


@pytest.mark.parametrize("text", ["wikitext2", "c4", "hf:org/data", "hf:org/data:config:split:column"])
def test_texts_that_may_be_right_pass(text: str) -> None:
    assert faults(text=text) == {}


def test_a_text_of_any_suffix_will_do_but_it_must_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "text.docx"
    assert list(faults(text=str(path))) == ["text"]
    path.write_text("words")
    assert not faults(text=str(path))
    assert list(faults(text=str(tmp_path))) == ["text"]
    shutil.move(path, tmp_path / "text.txt")
    assert faults(text=str(tmp_path / "text.txt")) == {}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dtype": "int4"}, "dtype"),
        ({"device": "tpu"}, "device"),
        ({"device": "cuda:99999"}, "device"),
        ({"device": "map:0=much"}, "device"),
        ({"quantize": "int2"}, "quantize"),
        ({"tokens": 4}, "window"),
        ({"window": 1}, "window"),
    ],
)
def test_settings_are_refused_under_their_fields(changes: dict[str, object], field: str) -> None:
    assert list(faults(**changes)) == [field]


def test_all_faults_are_told_together() -> None:
    found = faults("./none", text="none", window=1, dtype="x", device="y", quantize="z")
    assert set(found) == {"model", "text", "window", "dtype", "device", "quantize"}
