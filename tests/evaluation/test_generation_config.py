"""What a checkpoint's generation config says never changes what greedy, or plain sampling, means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.errors import UnsupportedModel
from explorer.evaluation.generation import generate
from explorer.masks.mask import NONE, Mask
from tests.support import brute_force
from tests.support.tiny_models import VOCABULARY, Tiny, load_folder, make_tokenizer

PROMPT = "The quick brown fox jumps over the lazy dog."

SETTINGS: dict[str, dict[str, Any]] = {
    "no cache": {"use_cache": False},
    "dynamic cache": {"cache_implementation": "dynamic"},
    "static cache": {"cache_implementation": "static"},
    "offloaded cache": {"cache_implementation": "offloaded"},
    "quantized cache": {"cache_implementation": "quantized"},
    "beams": {"num_beams": 4, "early_stopping": True, "length_penalty": 2.0},
    "penalties": {"repetition_penalty": 3.0, "no_repeat_ngram_size": 1, "encoder_repetition_penalty": 2.0},
    "suppressed": {"suppress_tokens": list(range(200)), "begin_suppress_tokens": list(range(290))},
    "bad words": {"bad_words_ids": [[token] for token in range(250)]},
    "forced": {"forced_bos_token_id": 7, "forced_eos_token_id": 8},
    "sampling": {"do_sample": True, "temperature": 5.0, "top_k": 3, "top_p": 0.2, "min_p": 0.3, "typical_p": 0.4},
    "lengths": {"max_length": 20, "min_length": 60, "max_new_tokens": 2, "min_new_tokens": 50, "max_time": 0.001},
    "watermark": {"watermarking_config": {"greenlist_ratio": 0.5, "bias": 9.0, "seeding_scheme": "lefthash"}},
    "guidance": {"guidance_scale": 3.0, "sequence_bias": [[[5], 100.0]]},
    "stop strings": {"stop_strings": ["a", "e", "t"]},
    "several": {"num_beam_groups": 1, "renormalize_logits": True, "return_dict_in_generate": True},
}  # fmt: skip


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    return shutil.copytree(tiny.folder("llama"), tmp_path / "copy")


def _expected(folder: Path, mask: Mask, tokens: int) -> list[int]:
    loaded = load_folder(folder)
    return brute_force.greedy(brute_force.zeroed(folder, mask), loaded.tokenizer(PROMPT).input_ids, tokens)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_greedy_is_greedy(name: str, copy: Path, tiny: Tiny) -> None:
    masks = (NONE, Mask.parse("a1"))
    expected = [_expected(tiny.folder("llama"), mask, 10) for mask in masks]
    sampled = generate(tiny.load("llama"), NONE, PROMPT, 8, temperature=0.7, seed=3).token_ids
    path = copy / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **SETTINGS[name]}))
    loaded = load_folder(copy)
    assert [list(generate(loaded, mask, PROMPT, 10).token_ids) for mask in masks] == expected
    assert generate(loaded, NONE, PROMPT, 8, temperature=0.7, seed=3).token_ids == sampled


def test_a_model_config_without_cache_writes_the_same(copy: Path, tiny: Tiny) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_cache": False}))
    (copy / "generation_config.json").unlink()
    assert list(generate(load_folder(copy), NONE, PROMPT, 10).token_ids) == _expected(tiny.folder("llama"), NONE, 10)


@pytest.mark.parametrize("ends", ["</s>", ["x"], [257, "x"], {"a": 1}, 2.5, True, -1, [[1]], [], None])
def test_ends_of_bad_types_are_left_out(ends: Any, copy: Path, tiny: Tiny) -> None:
    path = copy / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": ends, "pad_token_id": "x"}))
    assert list(generate(load_folder(copy), NONE, PROMPT, 10).token_ids) == _expected(tiny.folder("llama"), NONE, 10)


@pytest.mark.parametrize("several", [False, True])
def test_an_end_that_the_file_names_ends_a_text(several: bool, copy: Path, tiny: Tiny) -> None:
    expected = _expected(tiny.folder("llama"), NONE, 10)
    end = expected[4]
    path = copy / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [298, end] if several else end}))
    assert list(generate(load_folder(copy), NONE, PROMPT, 10).token_ids) == expected[: expected.index(end) + 1]


def _overflow_at_layer(folder: Path, layer: int) -> None:
    """Make the letter T overflow there, which is none of the tokens of the self-check."""
    checked = torch.randint(VOCABULARY, (2, 8), generator=torch.Generator().manual_seed(0))
    token = make_tokenizer()("T").input_ids[0]
    assert not (checked == token).any()
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][token, :16] = 65000
    weights[f"model.layers.{layer}.mlp.down_proj.weight"] *= 500
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_text_that_overflows_says_so(copy: Path) -> None:
    _overflow_at_layer(copy, 2)
    loaded = load_folder(copy, "float16")
    found = generate(loaded, NONE, PROMPT, 5)
    assert found.overflow
    assert (found.text, found.token_ids) == ("", ())
    assert found.prompt_perplexity == float("inf")
    fine = generate(loaded, NONE, PROMPT[1:], 5)
    assert not fine.overflow
    assert len(fine.token_ids) == 5
    assert fine.prompt_perplexity is not None
    assert fine.prompt_perplexity < float("inf")


def test_a_model_that_overflows_as_a_whole_is_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"].fill_(6e4)
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert load_folder(copy, "float32").n_layers == 4
    with pytest.raises(UnsupportedModel, match="The model overflows: in float16, from layer 1"):
        load_folder(copy, "float16")


def test_what_was_written_before_an_overflow_is_kept(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of the third new token are made NaN by a module that counts its calls."""
    loaded = tiny.load("llama")
    expected = list(generate(loaded, NONE, PROMPT, 5).token_ids)
    calls: list[int] = []

    def spoil(module: Any, given: Any, logits: torch.Tensor) -> torch.Tensor | None:
        calls.append(1)
        return logits * float("nan") if len(calls) == 4 else None  # the first is the prompt's own perplexity

    handle = loaded.model.lm_head.register_forward_hook(spoil)
    try:
        found = generate(loaded, NONE, PROMPT, 5)
    finally:
        handle.remove()
    assert found.overflow
    assert list(found.token_ids) == expected[:2]
    assert found.text == loaded.tokenizer.decode(expected[:2])
