"""Families of every mechanism, tiny and random: what each can do, and that it is what plain transformers does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from explorer.errors import UnsupportedModel
from tests.support.every_family import CAUSAL, IMAGE_TEXT
from tests.support.family_checks import (
    check_cache,
    check_code_exported,
    check_layers_exported,
    check_masks,
    check_padding,
    check_similarity,
    check_sites_exported,
    check_text,
    make_random,
)
from tests.support.family_table import Line, examine_apart, read_page, write_page
from tests.support.tiny_models import REPOSITORY, load_folder, save

#: Model type -> the modules of attention and MLP in each form of layer that it has.
_FULL = {
    "mamba": "mixer/",  # one site a layer
    "nemotron_h": "/mixer, mixer/",  # each layer one site, of one kind or the other
    "qwen3_next": "linear_attn/mlp, self_attn/mlp",  # layers of mixed kinds
    "jamba": "mamba/feed_forward, self_attn/feed_forward",
    "lfm2_moe": "conv/feed_forward, self_attn/feed_forward",
    "falcon_h1": "mamba+self_attn/feed_forward",  # two that are summed
    "granitemoehybrid": "mamba/block_sparse_moe+shared_mlp, self_attn/block_sparse_moe+shared_mlp",  # and multiplied
    "biogpt": "self_attn/fc1+fc2",  # an MLP of the layer's own projections
    "ctrl": "multi_head_attention/ffn",  # names of no other family
    "minicpm3": "self_attn/mlp",  # a multiplier of its own
    "exaone4": "self_attn/mlp",  # norms behind
    "inkling_text": "self_attn/mlp",  # convolutions in attention and MLP
    "whisper": "self_attn/fc1+fc2",  # positions learned, counted by the cache
}
#: Further ones, whose layers are of the forms above.
_MORE = (
    *("afmoe", "apertus", "bamba", "bitnet", "codegen", "cohere_compass_text", "cwm", "deepseek_v32", "dots1"),
    *("falcon_mamba", "flex_olmo", "gemma4_unified_text", "glm4", "glm4_moe", "gptj", "hy_v3", "hunyuan_v1_moe"),
    *("laguna", "lfm2", "lfm3", "mamba2", "mimo_v2_flash", "minimax_m3_vl_text", "modernbert-decoder", "mpt"),
    *("nanochat", "nemotron", "olmo_hybrid", "persimmon", "phimoe", "qwen3_5_moe_text", "recurrent_gemma", "rwkv"),
    *("seed_oss", "solar_open", "xglm", "xlstm", "youtu", "zamba"),
)
_MORE_IMAGES = (
    *("gemma3", "llama4", "qwen3_vl_moe", "lfm2_vl", "glm4v", "got_ocr2", "inkling_mm_model", "gemma4"),
    "qwen3_omni_moe_thinker",
)
_IMAGES = {
    "qwen3_vl": "self_attn/mlp",
    "qwen3_5": "linear_attn/mlp, self_attn/mlp",
    "mistral3": "self_attn/mlp",
    "unlimited_ocr": "self_attn/mlp",
}
#: Biases beside experts, modules in a row, names of no other family.
_ZEROED = ("jetmoe", "ctrl", "recurrent_gemma", "modernbert-decoder")
#: Kinds of layers in a pattern, the number of layers said twice, layers that name others.
_DROPPED = (("recurrent_gemma", "text"), ("xlstm", "text"), ("mistral_large4", "images"))
_WHOLE = ("bart", "openai-gpt", "gemma3n_text", "gemma4_text", "doge", "minimax")
_REFUSED = {
    ("bert", "text"): "its tokens see those that come after them",
    ("paligemma", "images"): "its tokens see those that come after them",
    ("inkling2_text", "text"): "its layers, run one by one, do not give its logits",
}
#: Of the page, those that have a row of another kind than the families above.
_ROWS = (("prophetnet", "text"), ("olmo3", "text"), ("kimi_k25", "images"))


def _read_page() -> str:
    return (REPOSITORY / "docs" / "families.md").read_text(encoding="utf-8")


_PAGE = {(line.name, line.kind): line for line in read_page(_read_page())}


@pytest.mark.parametrize(
    ("name", "kind", "forms"),
    [(name, "text", forms) for name, forms in _FULL.items()]
    + [(name, "images", forms) for name, forms in _IMAGES.items()],
)
def test_each_layer_is_taken_apart(name: str, kind: str, forms: str, tmp_path: Path) -> None:
    loaded = load_folder(save(make_random(name, kind), tmp_path / "model"))
    own = [loaded.architecture.at(layer) for layer in range(loaded.n_layers)]
    assert ", ".join(sorted({"/".join(("+".join(each.attention), "+".join(each.mlp))) for each in own})) == forms
    check_masks(loaded)
    check_similarity(loaded)
    check_text(loaded)
    check_padding(loaded)
    check_cache(loaded)
    check_code_exported(loaded)


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "text") for name in _MORE), *((name, "images") for name in _MORE_IMAGES)]
)
def test_what_a_layer_does_is_what_transformers_does(name: str, kind: str, tmp_path: Path) -> None:
    loaded = load_folder(save(make_random(name, kind), tmp_path / "model"))
    check_masks(loaded)
    check_text(loaded)
    check_padding(loaded)
    check_cache(loaded)


@pytest.mark.parametrize("name", _ZEROED)
def test_what_a_site_writes_with_is_zeroed_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    check_sites_exported(load_folder(save(make_random(name, "text"), tmp_path / "model")))


@pytest.mark.parametrize(("name", "kind"), _DROPPED)
def test_layers_go_where_a_config_speaks_of_them_in_its_own_way(name: str, kind: str, tmp_path: Path) -> None:
    check_layers_exported(load_folder(save(make_random(name, kind), tmp_path / "model")))


@pytest.mark.parametrize("name", _WHOLE)
def test_only_whole_layers_go_where_layers_are_not_sums(name: str, tmp_path: Path) -> None:
    loaded = load_folder(save(make_random(name, "text"), tmp_path / "model"))
    assert "is not its input plus what its modules add" in loaded.architecture.whole
    check_masks(loaded)
    check_similarity(loaded)
    check_text(loaded)
    check_padding(loaded)
    check_cache(loaded)


@pytest.mark.parametrize(("name", "kind"), list(_REFUSED))
def test_a_refusal_says_what_was_found(name: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=_REFUSED[name, kind]):
        load_folder(save(make_random(name, kind), tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "text") for name in CAUSAL), *((name, "images") for name in IMAGE_TEXT)]
    if os.environ.get("EVERY")
    else _ROWS,
)
def test_the_page_says_what_works(name: str, kind: str) -> None:
    line, row = examine_apart(name, kind), _PAGE[name, kind]
    assert not [found for found in line.found.values() if found.startswith(("WRONG", "TRACEBACK"))]
    assert line.mode == row.mode
    assert _passed(line) == _passed(row)


def _passed(line: Line) -> list[str]:
    return [check for check, found in line.found.items() if found == "yes"]


def test_rows_of_the_page_can_be_made_anew_one_by_one() -> None:
    page = _read_page()
    lines = read_page(page)
    assert write_page(lines) == page
    assert len(lines) == len(CAUSAL) + len(IMAGE_TEXT)
