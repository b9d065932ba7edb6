"""Experts in one tensor: each is pruned by the tokens that are sent to it, against NumPy over a plain model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer.deltas.variant import Variant
from explorer.evaluation import decode_speed
from explorer.export import export
from explorer.masks.mask import NONE, Mask
from explorer.model.layerwise import LayerwisePass
from explorer.model.loading import LoadedModel
from explorer.modifiers.expert_maps import ExpertMaps, list_expert_maps
from explorer.modifiers.modify import modify
from explorer.sparsity.picture import take_picture
from explorer.sparsity.zeros import count_zeros, list_zeros
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.pruning import find_lowest, update
from tests.support.tiny_models import WINDOW, Tiny, load_folder

MAPS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


@pytest.fixture
def loaded(tiny: Tiny) -> LoadedModel:
    return load_folder(tiny.folder("mixtral"), "float32")


@pytest.fixture
def corpus(loaded: LoadedModel) -> Corpus:
    return loaded.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=6 * WINDOW)


def read_experts(model: Any, layer: int, ids: np.ndarray) -> dict[str, list[np.ndarray]]:
    """What each expert of a Mixtral reads, and its map out of it, over all windows; by the model as it is."""
    module, seen = model.model.layers[layer].mlp.experts, []
    hook = module.register_forward_pre_hook(lambda _, args: seen.append((args[0], args[1])))
    with torch.no_grad():
        model(torch.from_numpy(ids))
    hook.remove()
    given, chosen = (torch.cat(each).double().numpy() for each in zip(*seen, strict=True))
    routed = [given[[expert in row for row in chosen]] for expert in range(len(module.down_proj))]
    inner = []
    for read, weight in zip(routed, module.gate_up_proj.detach().double().numpy(), strict=True):
        gate, up = np.split(read @ weight.T, 2, axis=1)
        inner.append(gate / (1 + np.exp(-gate)) * up)
    return dict(zip(MAPS, (routed, inner), strict=True))


def prune(method: str, weight: np.ndarray, read: np.ndarray, spec: str) -> np.ndarray:
    if method == "sparsegpt":
        return update(weight, read.T @ read, spec)
    norms = np.sqrt(np.square(read).sum(0)) if method == "wanda" else 1.0
    return np.where(find_lowest(np.abs(weight) * norms, spec), 0, weight)


@pytest.mark.parametrize("spec", ["sparsity=50%", "pattern=2:4"])
@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_each_expert_is_pruned_by_its_own_tokens(loaded: LoadedModel, corpus: Corpus, method: str, spec: str) -> None:
    variant = modify(loaded, corpus, NONE, [f"{method};{spec};targets=experts"], Store(None))
    model = brute_force.plain(loaded.checkpoint.folder)
    for layer in range(loaded.n_layers):
        read = read_experts(model, layer, corpus.calibration.ids)
        experts = model.model.layers[layer].mlp.experts
        for name in MAPS:
            own = getattr(experts, name.rpartition(".")[2])
            made = loaded.wrappers.weight(layer, name, variant.deltas).double().numpy()
            pairs = zip(own.detach().double().numpy(), read[name], strict=True)
            expected = np.stack([prune(method, weight, x, spec) for weight, x in pairs])
            assert ((made == 0) == (expected == 0)).mean() > 0.999
            np.testing.assert_allclose(made, expected, atol=2e-3)
        for name in MAPS:
            own = getattr(experts, name.rpartition(".")[2])
            own.data.copy_(loaded.wrappers.weight(layer, name, variant.deltas))


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "wanda++;optimise=no;gradients=no"])
def test_an_expert_without_tokens_loses_its_smallest_weights(loaded: LoadedModel, corpus: Corpus, method: str) -> None:
    one = corpus.calibration.ids[:1]
    read: list[np.ndarray] = []
    model = brute_force.plain(loaded.checkpoint.folder)
    model.model.layers[0].mlp.gate.register_forward_pre_hook(lambda _, args: read.append(args[0][:WINDOW].numpy()))
    with torch.no_grad():
        model(torch.from_numpy(one))
    away = np.linalg.pinv(read[0].reshape(WINDOW, -1)) @ np.full(WINDOW, -1e3)
    loaded.wrappers.layers[0].mlp.gate.weight.data[2] = torch.from_numpy(away)
    poor = type(corpus)(**{**vars(corpus), "calibration": corpus.calibration[slice(0, 1)]})
    variant = modify(loaded, poor, NONE, [f"{method};pattern=2:4;layers=0;targets=experts"], Store(None))
    for name in MAPS:
        own, made = (loaded.wrappers.weight(0, name, deltas)[2].numpy() for deltas in ((), variant.deltas))
        assert ((made == 0) == find_lowest(np.abs(own), "pattern=2:4")).all()
        np.testing.assert_allclose(made[made != 0], own[made != 0], rtol=1e-6)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_what_experts_read_gives_what_they_give(tiny: Tiny, family: str) -> None:
    """Of one layer, by the maps' weights and what they read alone."""
    loaded = tiny.load(family)
    ids = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW).held_out.ids
    run = LayerwisePass(loaded, ids, 1)
    layer = next(layer for layer in range(loaded.n_layers) if list_expert_maps(loaded, layer, NONE))
    into, out = sorted(list_expert_maps(loaded, layer, NONE), key=lambda each: each.first is not None)
    assert out.first is not None
    assert (out.first.name, out.name) == (into.name, "mlp.experts.down_proj")
    module: Any = loaded.wrappers.layers[layer].get_submodule(into.watched)
    for seen in run.look(layer, run.embed(), NONE, (into.watched,)):
        given, chosen = seen.given[into.watched][0], seen.chosen[into.watched][0]
        ones = torch.ones_like(chosen, dtype=given.dtype)
        expected, found = module(given, chosen, ones), torch.zeros_like(given)
        for expert, read in enumerate(into.route(given, chosen)):
            bias = (module.gate_up_proj_bias[expert], module.down_proj_bias[expert]) if module.has_bias else (0, 0)
            inner = out.activate(read @ into.weight[expert].T + bias[0])
            found[(chosen == expert).any(-1)] += inner @ out.weight[expert].T + bias[1]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_experts_are_counted_and_looked_at(loaded: LoadedModel, corpus: Corpus) -> None:
    variant = modify(loaded, corpus, NONE, ["wanda;pattern=2:4"], Store(None))
    found = list(list_zeros(loaded, variant))
    assert sum(isinstance(each.linear, ExpertMaps) for each in found) == 2 * loaded.n_layers
    counts = count_zeros(found)
    assert counts is not None
    assert (counts.matrices, counts.holding, counts.share) == (6 * loaded.n_layers, 6 * loaded.n_layers, 0.5)
    picture = take_picture(loaded, variant, 1, MAPS[1])
    zeros = variants.overwritten(loaded.checkpoint.folder, variant).model.layers[1].mlp.experts.down_proj == 0
    assert (picture.cut(0, 0, 10_000) == zeros.flatten(0, 1).numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_an_export_has_the_experts_as_they_were_measured(
    tiny: Tiny, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, method: str
) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)
    loaded = load_folder(tiny.folder(family), "float32")
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=6 * WINDOW)
    variant = modify(loaded, corpus, Mask.parse("1"), [f"{method};pattern=2:4"], store)
    assert isinstance(variant, Variant)
    made = export(loaded, variant, tmp_path / "out", corpus, store, format="transformers")
    zeros = json.loads((made.out / "recipe.json").read_text())["measured"]["verify"]["zeros"]
    counts = count_zeros(list_zeros(loaded, variant))
    assert counts is not None
    assert (zeros["matrices"], zeros["holding"], zeros["share"]) == (counts.matrices, counts.matrices, 0.5)
    expected = brute_force.logits(variants.overwritten(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    found = brute_force.logits(brute_force.plain(made.out), corpus.held_out.ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
