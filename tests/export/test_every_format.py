"""Every format of every family that it takes, under masks of every kind, with nothing changed, with refit, with LoRA.

What was written and read again is the variant; it writes the same ten tokens; saved once more it is the same.
A third of all cases, with every family, mask and change among them; all with EVERY set, as by `make test-families`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from explorer.deltas.variant import Variant
from explorer.errors import ModifyError
from explorer.export import plan_export
from explorer.export.formats import only_whole_layers
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.gguf_configs import ARCHITECTURES
from tests.support.gguf_files import load_gguf, write_model
from tests.support.tiny_models import FAMILIES, WINDOW, load_folder, make_model, save
from tests.support.wide_models import WIDE

MASKS = ("1", "a1", "m2", "0,a1,m2")
CHANGES = {"nothing": (), "refit": ("refit",), "lora": ("lora;steps=2;warmup=0",)}


def _list_cases(families: Iterable[str]) -> list[tuple[str, str, str]]:
    return [
        (family, mask, changes)
        for first, family in enumerate(families)
        for second, mask in enumerate(MASKS)
        for third, changes in enumerate(CHANGES)
        if os.environ.get("EVERY") or (first + second + third) % 3 == 0
    ]


def _make(loaded: LoadedModel, corpus: Corpus, mask: str, changes: str) -> Variant:
    """Make a variant; skip the test where a family has nothing to refit, for norms come after what is read."""
    try:
        return variants.make(loaded, corpus, mask, *CHANGES[changes]) if CHANGES[changes] else Variant(Mask.parse(mask))
    except ModifyError as error:
        pytest.skip(str(error))


@torch.no_grad()
def _write_on(model: Any, corpus: Corpus) -> list[int]:
    """Write ten tokens after the beginning of a held-out window, greedily and with a cache."""
    ids = torch.from_numpy(corpus.held_out.ids[:1, :8])
    options: dict[str, Any] = {"do_sample": False, "min_new_tokens": 10, "max_new_tokens": 10, "pad_token_id": 0}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()


def _read(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()


def _check(loaded: LoadedModel, corpus: Corpus, variant: Variant, formats: list[str], folder: Path) -> None:
    oracle = variants.overwritten(loaded.checkpoint.folder, variant)
    expected, written = brute_force.logits(oracle, corpus.held_out.ids), _write_on(oracle, corpus)
    for format in formats:
        out, again = folder / format, folder / f"{format}-again"
        out.mkdir()
        plan_export(loaded, variant, format).write(out, lambda size: None)
        reloaded = _read(out)
        found = brute_force.logits(reloaded, corpus.held_out.ids)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        assert _write_on(reloaded, corpus) == written
        reloaded.save_pretrained(again)
        assert torch.equal(brute_force.logits(_read(again), corpus.held_out.ids), found)


@pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys"
)  # PEFT's own, for experts that have no LoRA
@pytest.mark.parametrize(("family", "mask", "changes"), _list_cases(FAMILIES))
def test_safetensors_of_each_family(
    loaded: LoadedModel, corpus: Corpus, tmp_path: Path, mask: str, changes: str
) -> None:
    formats = ["transformers"] * (mask == "1") + ["transformers-zeroed", "pruned-remote-code"]
    _check(loaded, corpus, _make(loaded, corpus, mask, changes), formats, tmp_path)


@pytest.fixture(scope="module")
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_folder(save(make_model(WIDE[request.param]()), tmp_path_factory.mktemp("wide") / request.param))


@pytest.mark.parametrize(("wide", "mask", "changes"), _list_cases(WIDE), indirect=["wide"])
def test_deci_of_each_family(wide: LoadedModel, tmp_path: Path, mask: str, changes: str) -> None:
    corpus = wide.tokenize("python-docs", 5 * WINDOW, WINDOW)
    _check(wide, corpus, _make(wide, corpus, mask, changes), ["deci"], tmp_path)


@pytest.fixture(scope="module")
def of_gguf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model that comes as a GGUF file of float32."""
    path = tmp_path_factory.mktemp("gguf") / f"{request.param}.gguf"
    return load_gguf(write_model(path, make_model(ARCHITECTURES[request.param]()), request.param))


_OF_GGUF = [
    (name, mask, changes)
    for name, mask, changes in _list_cases(ARCHITECTURES)
    if (only_whole_layers(Mask.parse(mask)) or name in ("llama", "qwen2"))
    and (changes == "nothing" or not name.endswith("moe"))  # experts that share a tensor are refused
]


@pytest.mark.parametrize(("of_gguf", "mask", "changes"), _OF_GGUF, indirect=["of_gguf"])
def test_gguf_of_each_architecture(of_gguf: LoadedModel, tmp_path: Path, mask: str, changes: str) -> None:
    corpus = of_gguf.tokenize("python-docs", 5 * WINDOW, WINDOW)
    if of_gguf.config.model_type == "gemma2":
        mask = "1-2"  # what is left has to alternate
    variant = _make(of_gguf, corpus, mask, changes)
    planned = plan_export(of_gguf, variant, "gguf")
    (out := tmp_path / "out").mkdir()
    planned.write(out, lambda size: None)
    assert planned.reload is not None
    reloaded, oracle = planned.reload(of_gguf, out), variants.overwritten(of_gguf.checkpoint.folder, variant)
    expected = brute_force.logits(oracle, corpus.held_out.ids)
    found = brute_force.logits(reloaded, corpus.held_out.ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert _write_on(reloaded, corpus) == _write_on(oracle, corpus)
