"""Code in the folder, of language models that are in a model of more, and of layers that add up several modules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from explorer.checkpoints.spec import ModelSpec
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, plan_export
from explorer.export.remote_code import Names
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel, load
from explorer.model.parameter_counts import count_parameters
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.family_checks import compare_code, make_random, read_bytes
from tests.support.tiny_models import WINDOW, load_folder, save

FORMAT = "pruned-remote-code"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def _export_twice(loaded: LoadedModel, first: str, more: str, later: str, store: Store, parent: Path) -> LoadedModel:
    """Export, and what that gives once more: code and costs are the plain model's without the modules, both times."""
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    ids, mask = torch.from_numpy(corpus.held_out.ids), Mask.parse(first)
    made = export(loaded, mask, parent / "first", corpus, store, format=FORMAT)
    assert made.verification.same_tokens == 10
    compare_code(loaded, mask, parent / "first", ids)
    again = load(ModelSpec(str(parent / "first"), "float32", "cpu", trust_remote_code=True), store, parent / "cache")
    costs = [count_parameters(each.model, each.architecture) for each in (loaded, again)]
    assert costs[0].costs(mask, 6) == costs[1].costs(Mask(), 6)
    assert plan_export(again, Mask()).format.name == FORMAT
    export(again, Mask.parse(more), parent / "second", corpus, store)
    compare_code(loaded, Mask.parse(later), parent / "second", ids)
    return again


@pytest.mark.parametrize(("name", "autos"), [("gemma3", 2), ("qwen3_5", 1)])
def test_the_language_model_of_an_image_text_model(name: str, autos: int, store: Store, tmp_path: Path) -> None:
    loaded = load_folder(save(make_random(name, "images"), tmp_path / "model"))
    (tmp_path / "model" / "preprocessor_config.json").write_text("{}")
    again = _export_twice(loaded, "1,a0,m3", "m0", "0-1,m3", store, tmp_path)
    out, source, written = tmp_path / "first", *(read_bytes(tmp_path / each) for each in ("model", "first"))
    towers = {tensor for tensor in source if ".layers." not in tensor or "vis" in tensor}
    assert {tensor: source[tensor] for tensor in towers} == {t: e for t, e in written.items() if t in towers}
    of_images = ["AutoModelForCausalLM", "AutoModelForImageTextToText"][-autos:]
    config = json.loads((out / "config.json").read_text())
    assert list(config["auto_map"]) == ["AutoConfig", "AutoModel", *of_images]
    assert type(again.model).__mro__[1] is type(loaded.model)
    assert f"import {of_images[0]}, AutoTokenizer" in (out / "README.md").read_text()
    assert (out / "preprocessor_config.json").is_file()
    _, report = AutoModel.from_pretrained(out, trust_remote_code=True, output_loading_info=True)
    assert not report["missing_keys"]


@pytest.mark.parametrize(
    ("name", "masks"),
    [
        ("falcon_h1", ("1,a0,m3", "a1", "1,a0,a2,m3")),
        ("granitemoehybrid", ("1,a0,m3", "m1", "1,a0,m2-3")),
        ("qwen3_next", ("a0,m3", "m1", "a0,m1,m3")),
    ],
)
def test_sums_of_several_modules_and_layers_of_several_kinds(
    name: str, masks: tuple[str, str, str], store: Store, tmp_path: Path
) -> None:
    loaded = load_folder(save(make_random(name, "text"), tmp_path / "model"))
    _export_twice(loaded, *masks, store, tmp_path)


def test_a_copy_that_writes_other_text_is_refused(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits without a cache are right."""
    whole, nothing = Names.write_code, "torch.zeros_like(hidden_states)"

    def disturb(self: Names, *of: str) -> dict[str, str]:
        one = f"({nothing} + (hidden_states.shape[1] == 1))"
        return {name: text.replace(nothing, one) for name, text in whole(self, *of).items()}

    monkeypatch.setattr(Names, "write_code", disturb)
    with pytest.raises(ExportError, match="does not write what was measured: logits of token"):
        export(llama, Mask.parse("a0"), tmp_path / "disturbed", llama_corpus, store, format=FORMAT)
    assert not (tmp_path / "disturbed").exists()
