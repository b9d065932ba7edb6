"""Quantized and spread-out models: scores equal brute force under the same loading; what they cost is counted."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BitsAndBytesConfig

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.errors import DeviceError, ModelError
from explorer.evaluation.perplexity import score
from explorer.export import export
from explorer.masks.mask import NONE, Mask
from explorer.measures.similarity import measure_similarity
from explorer.model import loading
from explorer.model.loading import LoadedModel, load
from explorer.model.parameter_counts import count_parameters
from explorer.model.placement import Placement, place
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.conftest import Real
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny

CONFIGS = {
    "int8": BitsAndBytesConfig(load_in_8bit=True),
    "nf4": BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    ),
}
MASKS = [NONE, Mask.parse("1"), Mask.parse("a0,m2"), Mask.parse("0,a3")]


def place_tiny(tiny: Tiny, family: str, **how: str) -> LoadedModel:
    folder = tiny.folder(family)
    return load(dataclasses.replace(ModelSpec(str(folder), "float32", "cpu"), **how), Store(None), folder)


def plainly_quantized(folder: Path, quantize: str, dtype: torch.dtype = torch.float32) -> Any:
    model = brute_force.plain(folder, dtype, quantization_config=CONFIGS[quantize])
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def nll_with_sites_out(model: Any, mask: Mask, ids: np.ndarray) -> np.ndarray:
    """Nats of a llama whose sites that are off are replaced by modules that add nothing."""

    class Nothing(torch.nn.Module):
        def __init__(self, form: int) -> None:
            super().__init__()
            self.form = form

        def forward(self, hidden_states: torch.Tensor, **_: Any) -> Any:
            zeros = torch.zeros_like(hidden_states)
            return (zeros, None) if self.form else zeros

    kept = [(layer, layer.self_attn, layer.mlp) for layer in model.model.layers]
    for site in mask.sites:
        name, form = ("self_attn", 2) if site.part == "attention" else ("mlp", 0)
        setattr(model.model.layers[site.layer], name, Nothing(form))
    found = brute_force.window_nll(model, ids)
    for layer, attention, mlp in kept:
        layer.self_attn, layer.mlp = attention, mlp
    return found


@pytest.mark.parametrize("quantize", list(CONFIGS))
def test_quantized_scores_equal_brute_force(tiny: Tiny, quantize: str) -> None:
    loaded = place_tiny(tiny, "llama", quantize=quantize)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    plain = plainly_quantized(tiny.folder("llama"), quantize)
    for found in score(loaded, corpus, MASKS, Store(None)):
        expected = nll_with_sites_out(plain, found.mask, corpus.held_out.ids)
        np.testing.assert_allclose(found.nll, expected, rtol=1e-5, err_msg=str(found.mask))
    whole = score(tiny.load("llama"), corpus, [NONE], Store(None))[0]
    assert not np.allclose(whole.nll, found.baseline, rtol=1e-4), "quantization changes the numbers"


@pytest.mark.parametrize("quantize", list(CONFIGS))
def test_quantized_real_model_equals_brute_force(reals: Real, quantize: str) -> None:
    torch.set_num_threads(2)
    loaded = load(ModelSpec(DEFAULT_MODEL, "float32", "cpu", quantize=quantize), Store(None), reals.cache)
    corpus = loaded.tokenize("python-docs", 2 * 128, 128)
    plain = plainly_quantized(loaded.checkpoint.folder, quantize)
    first = {}
    for found in score(loaded, corpus, [NONE, Mask.parse("a12,20,m25")], Store(None)):
        first[found.mask] = found.nll
        expected = nll_with_sites_out(plain, found.mask, corpus.held_out.ids)
        np.testing.assert_allclose(found.nll, expected, rtol=1e-5)
    for again in score(loaded, corpus, list(first), Store(None)):
        np.testing.assert_array_equal(again.nll, first[again.mask], "the weights are as they were before use")
    torch.set_num_threads(1)
    cost_model = count_parameters(loaded.model, loaded.architecture)
    scales = cost_model.total_bytes - loaded.model.get_memory_footprint()
    assert 0 < scales < 0.03 * cost_model.total_bytes
    assert cost_model.total_bytes < 0.45 * 4 * cost_model.total


def test_int8_windows_do_not_depend_on_their_company(tiny: Tiny) -> None:
    loaded = place_tiny(tiny, "llama", quantize="int8")
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    (whole,) = score(loaded, corpus, [NONE], Store(None))
    (alone,) = score(loaded, corpus, [NONE], Store(None), rows=slice(3, 4))
    assert alone.nll[0] == whole.nll[3]


@pytest.mark.parametrize("quantize", list(CONFIGS))
def test_quantized_parameters_are_counted_unpacked(tiny: Tiny, quantize: str) -> None:
    loaded, whole = place_tiny(tiny, "llama", quantize=quantize), tiny.load("llama")
    cost_model, plain = (
        count_parameters(loaded.model, loaded.architecture),
        count_parameters(whole.model, whole.architecture),
    )
    for mask in MASKS:
        assert cost_model.costs(mask, 64).parameters == plain.costs(mask, 64).parameters


@pytest.mark.parametrize("quantize", list(CONFIGS))
def test_export_of_a_quantized_model_is_from_the_files_and_proven(
    tiny: Tiny, quantize: str, store: Store, tmp_path: Path
) -> None:
    loaded = place_tiny(tiny, "llama", quantize=quantize)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    made = export(loaded, Mask.parse("1,a2"), tmp_path / "out", corpus, store)
    assert made.verification.max_abs_logit_difference < 1e-4
    assert brute_force.plain(tmp_path / "out").dtype == torch.float32


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "bloom", "falcon_new", "mixtral"])
def test_spread_model_gives_the_same_scores(tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"cpu": f"{sum(p.nbytes for p in tiny.load(family).model.parameters()) // 2000}KB"}
    monkeypatch.setattr(loading, "place", lambda name: dataclasses.replace(place("map"), limits=limits))
    loaded, whole = place_tiny(tiny, family), tiny.load(family)
    assert "disk" in loaded.model.hf_device_map.values()
    (scratch,) = tiny.folder(family).glob("offload/*")
    assert loaded.device == torch.device("cpu")
    assert loaded.numerics_key(4) == whole.numerics_key(4)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    for mask in MASKS:
        (found,), (expected,) = (score(m, corpus, [mask], Store(None)) for m in (loaded, whole))
        np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-6)
    spread, plain = (measure_similarity(m, corpus, Store(None)) for m in (loaded, whole))
    np.testing.assert_allclose(spread.norms, plain.norms, rtol=1e-6)
    for mask in MASKS:
        costs = [count_parameters(m.model, m.architecture).costs(mask, 16) for m in (loaded, whole)]
        assert costs[0] == costs[1]
    loaded.unload()
    assert not scratch.exists()


@pytest.mark.parametrize(
    ("device", "free", "spread"),
    [  #
        ("auto", 1000, True),
        ("auto", 10**9, False),
        ("cpu", 1, False),
    ],
)
def test_a_model_beyond_the_memory_is_spread(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, device: str, free: int, spread: bool
) -> None:
    asked: list[Placement] = []
    read = loading.read_all_weights
    monkeypatch.setattr(loading, "free_bytes", lambda device: free)
    monkeypatch.setattr(loading, "read_all_weights", lambda c, to, *rest: asked.append(to) or read(c, to, *rest))
    place_tiny(tiny, "llama", device=device)
    assert [placement.spread for placement in asked] == [spread]


def test_device_maps_are_read() -> None:
    assert place("map").options == {"device_map": "auto", "max_memory": None}
    assert place("map:0=20GiB,1=8GB,cpu=1.5GiB").limits == {0: "20GiB", 1: "8GB", "cpu": "1.5GiB"}
    for name in ("map:0", "map:gpu=1GiB", "map:0=1", "map:0=1GiB;cpu=2GiB", "maps"):
        with pytest.raises(DeviceError, match="map:0=20GiB,cpu=40GiB"):
            place(name)


def test_unknown_quantization_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match=r"Unknown quantization: 'int3'. Use none, int8, nf4"):
        place_tiny(tiny, "llama", quantize="int3")


def test_quantization_dtype_model_and_device_are_in_the_key(tiny: Tiny) -> None:
    base = tiny.load("llama")
    others = [place_tiny(tiny, "llama", quantize="nf4"), place_tiny(tiny, "llama", dtype="bfloat16"), tiny.load("gpt2")]
    contexts = [base.numerics_key(4), *(other.numerics_key(4) for other in others)]
    elsewhere = dataclasses.replace(base)
    elsewhere.wrappers = type("Hooks", (), {"device": torch.device("cuda:0")})()  # type: ignore[assignment]
    contexts.append(elsewhere.numerics_key(4))
    assert len(set(contexts)) == 5


def test_unloading_frees_the_weights(tiny: Tiny) -> None:
    loaded = place_tiny(tiny, "llama")
    corpus: Corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    score(loaded, corpus, [Mask.parse("a1")], Store(None))
    weights = [weakref.ref(parameter) for parameter in loaded.model.parameters()]
    loaded.unload()
    gc.collect()
    assert not any(weight() is not None for weight in weights)
