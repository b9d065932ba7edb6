"""More families: what is measured, counted and exported is what plain transformers does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from explorer.checkpoints.spec import ModelSpec
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export, plan_export
from explorer.masks.mask import Mask
from explorer.model.kv_cache import measure_cache
from explorer.model.loading import LoadedModel, load
from explorer.model.parameter_counts import count_parameters
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.more_families import CONFIGS, More, turned_off
from tests.support.tiny_models import WINDOW, load_folder

#: Its layers depend on their number.
_FIXED = "diffllama"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


@pytest.fixture(scope="session")
def more(tmp_path_factory: pytest.TempPathFactory) -> More:
    return More(tmp_path_factory.mktemp("more"))


@pytest.fixture(params=list(CONFIGS))
def other(request: pytest.FixtureRequest, more: More) -> LoadedModel:
    return more.load(request.param)


@pytest.mark.parametrize("text", ["a0,m1", "2,a3,m0", "0,m4"])
def test_a_masked_model_is_the_plain_one_without_the_modules(other: LoadedModel, text: str) -> None:
    mask = Mask.parse(text if other.n_layers > 4 else text.replace("m4", "m3"))
    ids = torch.arange(2 * WINDOW).view(2, WINDOW)
    with torch.inference_mode(), other.wrappers.as_variant(mask):
        found = other.model(ids, use_cache=False).logits
    expected = brute_force.logits(turned_off(brute_force.plain(other.checkpoint.folder), other, mask), ids.numpy())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_streamed_model_gives_the_same_scores(other: LoadedModel) -> None:
    streamed = load_folder(other.checkpoint.folder, stream=True)
    corpus, masks = other.tokenize("python-docs", 5 * WINDOW, WINDOW), list(map(Mask.parse, ("none", "1", "a0,m2")))
    found = (score(each, corpus, masks, Store(None)) for each in (other, streamed))
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a.nll, b.nll)
    assert streamed.architecture == other.architecture


def test_kv_bytes_are_those_of_transformers_cache(other: LoadedModel) -> None:
    model, length = brute_force.plain(other.checkpoint.folder), 5  # shorter than every window
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(torch.arange(length)[None], past_key_values=cache)
    each = [layer.keys.nbytes + layer.values.nbytes for layer in cache.layers]
    assert measure_cache(other.model) is not None
    cost_model = count_parameters(other.model, other.architecture)
    for mask in (Mask(), Mask.parse("a1"), Mask.parse("0,m2")):
        held = sum(size for layer, size in enumerate(each) if not mask.off(layer)[0])
        assert cost_model.costs(mask, 100).kv_bytes_per_token * length == held


def test_flops_are_those_that_torch_counts(other: LoadedModel) -> None:
    """Of a pass over a context, for each of its tokens: where nothing is masked all see as much as the last one."""
    model, length = brute_force.plain(other.checkpoint.folder, attn_implementation="eager"), 6
    model.set_experts_implementation("eager")
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        model(torch.arange(length)[None], use_cache=False)
    towers = ("vision", "projector")
    added = sum(
        p.numel() for name, p in model.named_parameters() if p.dim() == 1 and not any(t in name for t in towers)
    )
    found = count_parameters(other.model, other.architecture).costs(Mask(), length).flops_per_token
    expected = counted.get_total_flops() / length
    if other.config.model_type == "llama4_text":  # transformers multiplies every expert, most of them by zero
        assert found < expected
    elif other.config.model_type == "ernie4_5_moe":  # a bias that is no vector
        assert found - 2 * added == pytest.approx(expected, rel=1e-3)
    else:
        assert found - 2 * added == expected


@pytest.mark.parametrize(("text", "format"), [("1", "transformers"), ("0,3", "transformers"), ("2,m1", "auto")])
def test_what_is_exported_is_the_plain_model_without_the_modules(
    other: LoadedModel, store: Store, tmp_path: Path, text: str, format: str
) -> None:
    if other.config.model_type == _FIXED:
        pytest.skip("its layers cannot be dropped")
    corpus, mask = other.tokenize("python-docs", 2 * WINDOW, WINDOW), Mask.parse(text)
    export(other, mask, tmp_path / "out", corpus, store, format=format)
    plain = brute_force.plain(tmp_path / "out")
    expected = brute_force.logits(
        turned_off(brute_force.plain(other.checkpoint.folder), other, mask), corpus.held_out.ids
    )
    found = brute_force.logits(plain, corpus.held_out.ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert plain.config.get_text_config().num_hidden_layers == other.n_layers - len(mask.whole_layers)


@pytest.mark.parametrize("family", ["llama4_text", "deepseek_v3", "olmo3", "gpt_neo"])
def test_code_of_their_own_leaves_sites_out(more: More, store: Store, tmp_path: Path, family: str) -> None:
    other = more.load(family)
    corpus, mask = other.tokenize("python-docs", 2 * WINDOW, WINDOW), Mask.parse("0,m1,a2,m3")
    export(other, mask, tmp_path / "out", corpus, store, format="pruned-remote-code")
    found = brute_force.logits(brute_force.plain(tmp_path / "out", trust_remote_code=True), corpus.held_out.ids)
    expected = brute_force.logits(
        turned_off(brute_force.plain(other.checkpoint.folder), other, mask), corpus.held_out.ids
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    again = load(ModelSpec(str(tmp_path / "out"), "float32", "cpu", trust_remote_code=True), store, tmp_path / "cache")
    assert measure_cache(again.model) is not None
    costs = [count_parameters(each.model, each.architecture) for each in (other, again)]
    assert costs[0].costs(mask, 6) == costs[1].costs(Mask(), 6)


def test_layers_that_would_come_back_as_others_are_refused(more: More) -> None:
    for format in ("transformers", "mergekit", "pruned-remote-code"):
        with pytest.raises(ExportError, match=r"layer 2 would come back as another one: self_attn\.lambda_init"):
            plan_export(more.load(_FIXED), Mask.parse("1"), format)
    plan_export(more.load(_FIXED), Mask.parse("4"), "transformers")  # those before it keep their numbers


@pytest.mark.parametrize(
    ("family", "mask", "left"),
    [
        ("deepseek_v3", "1", "first_k_dense_replace"),
        ("gpt_neo", "1", "attention_"),
        ("qwen2_moe", "0", "layer_types|mlp_only_layers"),
        ("olmo3", "2", "layer_types"),
        ("llama4_text", "0", "layer_types"),
    ],
)
def test_mergekit_is_not_asked_for_what_it_would_get_wrong(more: More, family: str, mask: str, left: str) -> None:
    with pytest.raises(ExportError, match=rf"it leaves ({left})\w* as it was\. Use --format transformers"):
        plan_export(more.load(family), Mask.parse(mask), "mergekit")
    plan_export(more.load(family), Mask.parse(mask), "transformers")
