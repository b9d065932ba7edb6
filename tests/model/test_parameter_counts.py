"""Costs: what is counted is what an exported model and its cache really hold."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from explorer.export import export
from explorer.masks.mask import Mask
from explorer.model.cost_model import Costs
from explorer.model.kv_cache import measure_cache, read_cache
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import Tiny


def _count(loaded: LoadedModel, text: str, context: int = 16) -> Costs:
    return count_parameters(loaded.model, loaded.architecture).costs(Mask.parse(text), context)


def test_parameters_are_those_of_the_exported_model(
    loaded: LoadedModel, corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    whole = sum(p.numel() for p in loaded.model.parameters())
    assert _count(loaded, "none").parameters == whole
    export(loaded, Mask.parse("0,2"), tmp_path / "out", corpus, store)
    written = sum(p.numel() for p in brute_force.plain(tmp_path / "out").parameters())
    found = _count(loaded, "0,2")
    assert found.parameters == written < whole
    assert found.bytes == 4 * written


def test_kv_bytes_are_those_of_the_cache(loaded: LoadedModel) -> None:
    length = 5  # shorter than every sliding window
    for text in ("none", "a0", "1", "a0-1,m2"):
        mask = Mask.parse(text)
        cache = DynamicCache(config=loaded.model.config)
        with torch.inference_mode(), loaded.wrappers.as_variant(mask):
            loaded.model(torch.arange(length)[None], past_key_values=cache, use_cache=True)
        layers = [layer for index, layer in enumerate(cache.layers) if not mask.off(index)[0]]
        held = sum(t.numel() * t.itemsize for layer in layers for t in (layer.keys, layer.values))
        assert _count(loaded, text).kv_bytes_per_token * length == held


def test_the_cache_of_every_family_can_be_asked(loaded: LoadedModel) -> None:
    """And what the names in its config say is the same, for these families."""
    kept = measure_cache(loaded.model)
    assert kept == tuple(read_cache(loaded.model.config, layer) for layer in range(loaded.n_layers))


def test_flops_follow_the_sites(tiny: Tiny) -> None:
    llama = tiny.load("llama")
    layer = llama.wrappers.layers[1]
    attention, mlp = (sum(p.numel() for p in m.parameters()) for m in (layer.self_attn, layer.mlp))
    base = _count(llama, "none").flops_per_token
    assert base - _count(llama, "m1").flops_per_token == 2 * mlp
    assert base - _count(llama, "a1").flops_per_token == 2 * attention + 4 * 4 * 8 * 16
    assert _count(llama, "none", 32).flops_per_token - base == 4 * 4 * 4 * 8 * 16


def test_flops_are_those_that_torch_counts(loaded: LoadedModel) -> None:
    """Of a pass over a context, for each of its tokens: products alone, of experts those that the token is sent to."""
    length = 6  # shorter than every window; where nothing is masked every token sees as much as the last one
    model = brute_force.plain(loaded.checkpoint.folder, attn_implementation="eager")
    model.set_experts_implementation("eager")
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        model(torch.arange(length)[None], use_cache=False)
    added = sum(p.numel() for p in model.parameters() if p.dim() == 1)  # norms and biases
    biases = [p.numel() for name, p in model.named_parameters() if name.endswith("_bias") and p.dim() == 2]
    added += sum(biases) // 2  # of half of the experts
    assert _count(loaded, "none", length).flops_per_token - 2 * added == counted.get_total_flops() / length


def test_sliding_attention_sees_and_keeps_a_window(tiny: Tiny) -> None:
    loaded = tiny.load("gemma2")
    cost_model, config = count_parameters(loaded.model, loaded.architecture), loaded.config
    slides = [kind == "sliding_attention" for kind in config.layer_types]
    assert 0 < sum(slides) < len(slides)
    context = 3 * config.sliding_window
    seen = sum(config.sliding_window if slid else context for slid in slides)
    per_token = 2 * config.num_key_value_heads * config.head_dim * 4
    assert cost_model.kv_bytes(Mask(), context) == seen * per_token
    assert cost_model.costs(Mask(), context).kv_bytes_per_token == len(slides) * per_token
    near, far = (cost_model.costs(Mask(), at).flops_per_token for at in (context, context + 1))
    assert far - near == 4 * config.num_attention_heads * config.head_dim * slides.count(False)
    first = slides.index(True)
    assert cost_model.kv_bytes(Mask.parse(f"a{first}"), context) == (seen - config.sliding_window) * per_token
