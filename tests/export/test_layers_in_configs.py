"""Configs that speak of layers: what is sliced, renumbered, or refused by name when layers go."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Ernie4_5_MoeConfig,
    Gemma3TextConfig,
    GPTNeoConfig,
    Llama4TextConfig,
    LlamaConfig,
    LlavaConfig,
    Qwen2MoeConfig,
    Qwen3NextConfig,
)

from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, plan_export
from explorer.export.config_slicing import slice_config
from explorer.export.tensor_layout import Layout
from explorer.masks.mask import Mask
from explorer.model.architecture import Architecture
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.tiny_models import FAMILIES as CONFIGS, WINDOW, load_folder, make_model, save

_KEPT = [0, 2, 3, 5]

#: Counts, widths, intervals and shares, though they speak of layers; and numbers that are of the same layer as before.
_NO_LAYER: dict[str, Any] = {
    "n_layer": 3, "num_layer": 3, "num_dense_decoder_layers": 3, "encoder_layers": 4, "block_size": 4, "depth": 2,
    "layer_norm_eps": 1e-5, "encoder_layerdrop": 0.0, "experts_per_layer": 2, "hidden_size_per_layer_input": 4,
    "attn_layer_period": 2, "no_rope_layer_interval": 4, "interleave_moe_layer_step": 2, "layer_group_size": 3,
    "index_topk_blocks": 2, "unk_index": 3, "altup_active_idx": 2, "vision_feature_layer": -2, "insert_layer_id": 3,
    "use_layer_offset": True, "exit_layer": 0, "exit_layer_idx": -1, "first_layer_id": 6,
}  # fmt: skip

#: A key -> what it is for six layers, and what for four of them.
_IN_STEP: list[tuple[str, Any, Any]] = [
    ("layer_types", [*["full_attention"] * 5, "sliding_attention"], [*["full_attention"] * 3, "sliding_attention"]),
    ("mlp_layer_types", ["dense"] + ["sparse"] * 5, ["dense"] + ["sparse"] * 3),
    ("num_attention_heads_per_layer", [1, 2, 3, 4, 5, 6], [1, 3, 4, 6]),
    ("first_k_dense_replace", 3, 2),
    ("num_dense_layers", 1, 1),
    ("max_window_layers", 28, 28),
    ("max_window_layers", 3, 2),
    ("layers_block_type", ["mamba", "attention"] * 3, ["mamba", "mamba", "attention", "attention"]),
    ("indexer_types", ["full", "shared"] * 3, ["full", "full", "shared", "shared"]),
    ("layer_rope_theta", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 3.0, 4.0, 6.0]),
    ("no_rope_layers", [1, 1, 1, 0, 1, 0], [1, 1, 0, 0]),
    ("attn_layer_indices", [1, 3, 5], [2, 3]),
    ("mlp_only_layers", [0, 4], [0]),
    ("block_configs", [{"n": n} for n in range(6)], [{"n": n} for n in (0, 2, 3, 5)]),
    ("swiglu_limits", [1, 2, 3, 4, 5, 6], [1, 3, 4, 6]),
    ("moe_layers", [1, 3, 5], [2, 3]),
    ("full_attn_idxs", [2, 4], [1]),
    ("num_nextn_predict_layers", 1, 0),
    ("mtp_num_hidden_layers", 1, 0),
    ("eos_token_id", [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
    ("gains", [1.0, 2.0], [1.0, 2.0]),
    ("num_blocks", 6, 4),
    ("num_blocks", 3, 3),
    ("kv_source_layers", [0, 1, 2, 2, 4, 5], [0, 1, 1, 3]),
    ("block_types", ["recurrent", "recurrent", "attention"], ["recurrent", "attention", "recurrent", "attention"]),
    *((key, value, value) for key, value in _NO_LAYER.items()),
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def slice_six(**keys: Any) -> dict[str, Any]:
    """Return what a config of six layers with some keys becomes without layers 1 and 4."""
    layout = Layout(Architecture(), Mask.parse("1,4"), 6)
    return slice_config({"num_hidden_layers": 6, **keys}, LlamaConfig(num_hidden_layers=6, **keys), _KEPT, layout.move)


def slice_inside(text: dict[str, Any], **beside: Any) -> dict[str, Any]:
    """Return what a config of images and text becomes whose language model has these six layers."""
    own = {"model_type": "llama", "num_hidden_layers": 6, **text}
    made = {"text_config": own, "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 6}, **beside}
    layout = Layout(Architecture("model.language_model.layers"), Mask.parse("1,4"), 6)
    return slice_config(made, LlavaConfig(**copy.deepcopy(made)), _KEPT, layout.move)


@pytest.mark.parametrize(("key", "before", "after"), _IN_STEP)
def test_what_is_known_is_brought_in_step(key: str, before: Any, after: Any) -> None:
    made = slice_six(**{key: before})
    assert made[key] == after
    assert made["num_hidden_layers"] == 4
    assert slice_inside({key: before})["text_config"] == {"model_type": "llama", **made}


@pytest.mark.parametrize(
    ("made", "keys", "expected"),
    [
        (GPTNeoConfig, {"num_layers": 6, "attention_types": [[["global", "local"], 3]]},
         {"num_layers": 4, "attention_types": [[["global", "global", "local", "local"], 1]]}),
        (Ernie4_5_MoeConfig, {"num_hidden_layers": 6, "moe_layer_start_index": 2, "moe_layer_interval": 1},
         {"moe_layer_start_index": 1, "moe_layer_end_index": 3, "moe_layer_interval": 1}),
        (Qwen2MoeConfig, {"num_hidden_layers": 6, "decoder_sparse_step": 2},
         {"mlp_only_layers": [0, 1], "decoder_sparse_step": 1}),
        (Gemma3TextConfig, {"num_hidden_layers": 6, "sliding_window_pattern": 3},
         {"layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}),
        (Llama4TextConfig, {"num_hidden_layers": 6, "interleave_moe_layer_step": 2, "no_rope_layer_interval": 3},
         {"moe_layers": [2, 3], "no_rope_layers": [1, 0, 1, 0]}),
        (Qwen3NextConfig, {"num_hidden_layers": 6, "full_attention_interval": 3},
         {"layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"]}),
        (LlamaConfig, {"num_hidden_layers": 6, "per_layer_config": {"2": {"num_key_value_heads": 2}}},
         {"per_layer_config": {"1": {"num_key_value_heads": 2}}}),
    ],
)  # fmt: skip
def test_what_a_family_says_of_layers_in_its_own_way(made: Any, keys: dict[str, Any], expected: dict[str, Any]) -> None:
    """And what transformers makes of it is the same of the layers that stay."""
    layout = Layout(Architecture(), Mask.parse("1,4"), 6)
    config = made(**keys)
    sliced = slice_config(keys, config, _KEPT, layout.move)
    assert {key: sliced[key] for key in expected} == expected
    again = made(**sliced)
    for key in ("layer_types", "mlp_layer_types", "moe_layers", "no_rope_layers", "attention_layers"):
        if isinstance(each := getattr(config, key, None), list) and len(each) == 6:
            assert getattr(again, key) == [each[layer] for layer in _KEPT]


def test_experts_that_are_no_range_any_more_are_refused() -> None:
    config = Ernie4_5_MoeConfig(num_hidden_layers=6, moe_layer_start_index=0, moe_layer_interval=2)
    layout = Layout(Architecture(), Mask.parse("0,4,5"), 6)
    with pytest.raises(ExportError, match="moe_layer_interval cannot say which of these layers have experts"):
        slice_config(config.to_dict(), config, layout.kept, layout.move)


def test_a_source_of_keys_and_values_that_goes_is_refused() -> None:
    with pytest.raises(ExportError, match="kv_source_layers in the config names layer 1 as a source, which goes"):
        slice_six(kv_source_layers=[0, 1, 1, 3, 4, 5])


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("gains", [1.0] * 6, "gains in the config has 6 entries, as many as layers"),
        ("watched_layers", [0, 4], "watched_layers in the config names layers by number"),
        ("router_indices", [5], "router_indices in the config names layers by number"),
        ("deepstack_layer_map", [[-2, 0], [-1, 3]], "deepstack_layer_map in the config names layers by number"),
        ("exit_layer_idx", 5, "exit_layer_idx in the config names a layer by number, 5"),
        ("moe_start_layer", 1, "moe_start_layer in the config names a layer by number, 1"),
        ("kv_block_index", -3, "kv_block_index in the config names a layer by number, -3"),
        ("early_exit", {"layer_id": 4}, r"early_exit\.layer_id in the config names a layer by number, 4"),
        ("ranks", {"0": 8, "3": 4}, "ranks in the config has entries for layers by number"),
        ("adapter", {"ranks": [8, 8, 4, 4, 8, 8]}, r"adapter\.ranks in the config has 6 entries"),
        ("quantization_config", {"dynamic": {r"model\.layers\.3\..*": {"bits": 8}}},
         r"quantization_config\.dynamic in the config names layers by a pattern"),
        ("quantization_config", {"ignore": ["re:.*layers.[0-3].mlp.*"]}, r"quantization_config\.ignore in the config"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(key: str, value: Any, found: str) -> None:
    with pytest.raises(ExportError, match=found):
        slice_six(**{key: value})
    if key != "quantization_config":
        with pytest.raises(ExportError, match=found):
            slice_inside({key: value})
    with pytest.raises(ExportError, match=found):
        slice_inside({}, **{key: value})


def test_paths_of_modules_are_renumbered() -> None:
    before = {
        "llm_int8_skip_modules": ["lm_head", "model.layers.3.self_attn", "model.layers.4.mlp", "layers.5.mlp", "h.1",
                                  "vision_tower.layers.4"],
        "per_module": {"model.layers.2": {"bits": 8}, "model.layers.1.mlp": {"bits": 2}, "model.layers.*": {"bits": 4}},
    }  # fmt: skip
    assert slice_six(quantization_config=before)["quantization_config"] == {
        "llm_int8_skip_modules": ["lm_head", "model.layers.2.self_attn", "layers.3.mlp", "h.1",
                                  "vision_tower.layers.4"],
        "per_module": {"model.layers.1": {"bits": 8}, "model.layers.*": {"bits": 4}},
    }  # fmt: skip


def test_other_towers_have_layers_of_their_own() -> None:
    """And lists that are as long as they are for other reasons; a path is of the tower that it names."""
    skipped = ["model.language_model.layers.5.mlp", "language_model.layers.4.mlp", "model.vision_tower.layers.4.mlp"]
    beside = {"vision_feature_layer": [1, 4], "image_grid_pinpoints": [[1, 1]] * 6}
    made = slice_inside({}, quantization_config={"llm_int8_skip_modules": skipped}, **beside)
    assert made["quantization_config"] == {"llm_int8_skip_modules": ["model.language_model.layers.3.mlp", skipped[2]]}
    assert made["vision_config"]["num_hidden_layers"] == 6
    assert {key: made[key] for key in beside} == beside


def test_layers_after_the_last_one_go_only_with_layers() -> None:
    name = "model.layers.6.eh_proj.weight"
    for text, placed in (("a1", (name, False)), ("1", None)):
        layout = Layout(Architecture(), Mask.parse(text), 6)
        assert layout.place(name) == placed
        assert layout.place("model.layers.5.mlp.up_proj.weight") == (
            f"model.layers.{5 if placed else 4}.mlp.up_proj.weight", False,
        )  # fmt: skip
        assert layout.beyond == [name]


def test_experts_and_layers_of_one_number_are_told_apart() -> None:
    layout = Layout(Architecture(), Mask.parse("0"), 6)
    for layer, expert in ((1, 1), (2, 0), (3, 3)):
        placed = layout.place(f"model.layers.{layer}.mlp.experts.{expert}.down_proj.weight")
        assert placed == (f"model.layers.{layer - 1}.mlp.experts.{expert}.down_proj.weight", False)


@pytest.fixture(scope="module")
def own_head(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model whose config says that the head is tied, and whose files hold one of its own."""
    config = CONFIGS["llama"]()
    config.tie_word_embeddings = True
    folder = save(make_model(config), tmp_path_factory.mktemp("own") / "model")
    head = {"lm_head.weight": torch.randn(config.vocab_size, config.hidden_size)}
    save_file(load_file(folder / "model.safetensors") | head, folder / "model.safetensors", {"format": "pt"})
    return load_folder(folder)


def test_a_head_of_its_own_beside_a_tie_flag(own_head: LoadedModel, store: Store, tmp_path: Path) -> None:
    config = own_head.config
    cost_model = count_parameters(own_head.model, own_head.architecture)
    assert cost_model.embedding_parameters == config.vocab_size * config.hidden_size
    assert cost_model.total == sum(p.numel() for p in brute_force.plain(own_head.checkpoint.folder).parameters())
    corpus, mask = own_head.tokenize("python-docs", 2 * WINDOW, WINDOW), Mask.parse("1")
    for format in ("transformers", "gguf-f16"):
        export(own_head, mask, tmp_path / format, corpus, store, format=format)
    assert json.loads((tmp_path / "transformers" / "config.json").read_text())["tie_word_embeddings"] is False
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "gguf-f16", gguf_file="model.gguf")
    torch.testing.assert_close(written.lm_head.weight, own_head.model.lm_head.weight, rtol=1e-3, atol=1e-3)
    with pytest.raises(ExportError, match="it leaves tie_word_embeddings as it was"):
        plan_export(own_head, mask, "mergekit")


def test_mergekit_refuses_what_transformers_refuses(llama: LoadedModel, tmp_path: Path) -> None:
    folder = save(make_model(CONFIGS["llama"]()), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "gains": [1.0] * llama.n_layers}))
    lines = set()
    for format in ("transformers", "mergekit", "pruned-remote-code"):
        with pytest.raises(ExportError, match="gains in the config has 4 entries") as refused:
            plan_export(load_folder(folder), Mask.parse("1"), format)
        lines.add(str(refused.value))
    assert len(lines) == 1
    plan_export(load_folder(folder), Mask.parse("a1"), "mergekit")
