"""Layers that hand keys and values on beside the stream, and streams before the windows: only whole layers go."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3nTextConfig, Gemma4TextConfig

from explorer.errors import ExportError, MaskError, ModifyError
from explorer.evaluation.perplexity import score
from explorer.export import export
from explorer.masks.mask import Mask
from explorer.measures.gradients import measure_taylor
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from tests.support import brute_force, variants
from tests.support.family_checks import check_cache, check_masks, check_padding, check_text, load_plain, read_bytes
from tests.support.more_families import turned_off
from tests.support.tiny_models import VOCABULARY, WINDOW, load_folder, make_model, save

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16, "num_hidden_layers": 6,
    "max_position_embeddings": 128, "pad_token_id": 1, "bos_token_id": 256, "eos_token_id": 257,
    "layer_types": ["sliding_attention", "full_attention"] * 3, "hidden_size_per_layer_input": 8,
    "initializer_range": 0.2, "tie_word_embeddings": False,
}  # fmt: skip
_SPARSITY = [0.9, 0.0, 0.0, 0.5, 0.0, 0.0]
CONFIGS: dict[str, Callable[[], Any]] = {
    "gemma3n": lambda: Gemma3nTextConfig(
        **_COMMON, num_kv_shared_layers=2, laurel_rank=8, activation_sparsity_pattern=_SPARSITY
    ),
    "gemma4": lambda: Gemma4TextConfig(**_COMMON, num_kv_shared_layers=2, global_head_dim=16),
    "streams alone": lambda: Gemma3nTextConfig(
        **_COMMON, num_kv_shared_layers=0, laurel_rank=8, activation_sparsity_pattern=_SPARSITY
    ),
}
_SHARING = ("gemma3n", "gemma4")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LoadedModel]:
    root, known = tmp_path_factory.mktemp("handed-on"), dict[tuple[str, bool], LoadedModel]()

    def find(name: str, stream: bool = False) -> LoadedModel:
        if (name, stream) not in known:
            folder = root / name
            known[name, stream] = load_folder(
                folder if folder.exists() else save(make_model(CONFIGS[name]()), folder), stream=stream
            )
        return known[name, stream]

    return find


def _perplexity(loaded: LoadedModel, mask: Mask, ids: np.ndarray) -> float:
    return brute_force.perplexity(turned_off(load_plain(loaded.checkpoint.folder), loaded, mask), ids)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_scores_are_those_of_plain_layers_that_give_what_they_are_given(
    load: Callable[..., LoadedModel], name: str, stream: bool
) -> None:
    loaded = load(name, stream)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    masks = [Mask.of_layers(layers) for count in (0, 1, 2) for layers in combinations(range(6), count)]
    masks += [Mask.parse(text) for text in ("1-3", "2-5", "0-4")]
    for mask, found in zip(masks, score(loaded, corpus, masks, Store(None)), strict=True):
        assert found.perplexity == pytest.approx(_perplexity(loaded, mask, corpus.held_out.ids), rel=2e-5), str(mask)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_logits_texts_and_caches_are_plain_ones(load: Callable[..., LoadedModel], name: str) -> None:
    loaded = load(name)
    check_masks(loaded)
    assert check_text(loaded) is None
    assert check_padding(loaded) is None
    assert check_cache(loaded) is None


@pytest.mark.parametrize("name", list(CONFIGS))
def test_gradients_are_those_of_a_plain_backward(load: Callable[..., LoadedModel], name: str) -> None:
    loaded = load(name)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    found = next(each.values for each in measure_taylor(loaded, corpus) if each.unit == "layer")
    model, ids = load_plain(loaded.checkpoint.folder), torch.from_numpy(corpus.calibration.ids)
    model(ids, labels=ids, use_cache=False).loss.backward()
    expected = [
        sum(
            float((weight * weight.grad).detach().abs().sum())
            for name, weight in layer.named_parameters()
            if weight.grad is not None and "bias" not in name
        )
        for layer in model.model.layers
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_stream_is_compared_with_its_streams_side_by_side(load: Callable[..., LoadedModel], name: str) -> None:
    loaded = load(name)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    found = measure_similarity(loaded, corpus, Store(None)).influence["layer"]
    states: list[torch.Tensor] = []
    model = load_plain(loaded.checkpoint.folder)
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    model.model.layers[-1].register_forward_hook(lambda _, args, output: states.append(output))
    with torch.inference_mode():
        model(torch.from_numpy(corpus.calibration.ids), use_cache=False)
    flat = [each.permute(1, 2, 0, 3).flatten(2) if each.dim() == 4 else each for each in states]
    pairs = [(a.double(), b.double()) for a, b in pairwise(flat)]
    expected = [1 - float(torch.cosine_similarity(a, b, -1).mean()) for a, b in pairs]
    np.testing.assert_allclose(np.asarray(found).reshape(-1, 6).mean(0), expected, rtol=1e-3)


@pytest.mark.parametrize("name", _SHARING)
def test_what_is_read_stays(load: Callable[..., LoadedModel], name: str) -> None:
    loaded = load(name)
    assert loaded.architecture.hands_on == (2, 3)
    assert "Later layers read keys and values of 2-3: where off, they still run for those" in loaded.notices[-1]
    with pytest.raises(MaskError, match="a1 cannot be turned off by itself"):
        loaded.wrappers.check_sites(Mask.parse("a1"))
    cost_model = count_parameters(loaded.model, loaded.architecture)
    assert cost_model.costs(Mask.parse("2-3"), WINDOW) == cost_model.costs(Mask(), WINDOW)
    assert cost_model.costs(Mask.parse("1-3"), WINDOW) == cost_model.costs(Mask.parse("1"), WINDOW)
    assert cost_model.costs(Mask.parse("1"), WINDOW).parameters < cost_model.costs(Mask(), WINDOW).parameters


@pytest.mark.parametrize("name", _SHARING)
def test_no_plan_removes_what_is_read(load: Callable[..., LoadedModel], name: str) -> None:
    loaded = load(name)
    assert (read := {*(loaded.architecture.hands_on or ())})
    corpus, store = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW), Store(None)
    for method in ("deepest", "block-influence", "similarity-block", "greedy"):
        plan = make_plan(loaded, corpus, PlanSpec.parse(f"{method}/layer"), store)
        assert len(plan.masks) > 1
        assert not any(mask.whole_layers & read for mask in plan.masks), method


def test_a_map_stands_in_for_a_layer_of_one_stream_alone(load: Callable[..., LoadedModel]) -> None:
    loaded = load("gemma4")
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    variant = variants.make(loaded, corpus, "1", "mean")
    (found,) = score(loaded, corpus, [variant], Store(None))
    (stand_in,) = variant.deltas[-1].stand_ins.values()
    bias, model = stand_in.tensors["bias"].float(), load_plain(loaded.checkpoint.folder)
    model.model.layers[1].register_forward_hook(lambda _, args, output: args[0] + bias)
    assert found.perplexity == pytest.approx(brute_force.perplexity(model, corpus.held_out.ids), rel=2e-5)
    with pytest.raises(ModifyError, match="they pass 4 residual streams on"):
        variants.make(load("gemma3n"), corpus, "1", "mean")


@pytest.mark.parametrize("format", ["transformers", "pruned-remote-code"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_tables_go_with_the_layers(load: Callable[..., LoadedModel], name: str, format: str, tmp_path: Path) -> None:
    loaded = load(name)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    made = export(loaded, Mask.parse("1,4"), tmp_path / "out", corpus, Store(None), format=format)
    again = load_plain(tmp_path / "out", trusted=format == "pruned-remote-code")
    ids = torch.from_numpy(corpus.held_out.ids)
    with torch.inference_mode():
        found = again(input_ids=ids, use_cache=False).logits
        plain = turned_off(load_plain(loaded.checkpoint.folder), loaded, Mask.parse("1,4"))
        expected = plain(input_ids=ids, use_cache=False).logits
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    old, new = read_bytes(loaded.checkpoint.folder), read_bytes(tmp_path / "out")
    whole, cut = (
        np.frombuffer(each["model.embed_tokens_per_layer.weight"][1], np.float32).reshape(VOCABULARY, -1, 8)
        for each in (old, new)
    )
    np.testing.assert_array_equal(cut, whole[:, [0, 2, 3, 5]])
    assert made.evidence.after.parameters == sum(each.numel() for each in again.parameters())
    assert again.config.num_kv_shared_layers == (1 if name in _SHARING else 0)
    if name != "gemma4":
        assert again.config.activation_sparsity_pattern == [0.9, 0.0, 0.5, 0.0]


@pytest.mark.parametrize("name", _SHARING)
def test_a_checkpoint_keeps_what_is_read(load: Callable[..., LoadedModel], name: str, tmp_path: Path) -> None:
    loaded = load(name)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    with pytest.raises(ExportError, match="later layers read keys and values of layer 2"):
        export(loaded, Mask.parse("1-2"), tmp_path / "out", corpus, Store(None))
    with pytest.raises(ExportError, match=r"embed_tokens_per_layer\.weight has a part of each layer"):
        export(loaded, Mask.parse("1"), tmp_path / "yaml", corpus, Store(None), format="mergekit")
