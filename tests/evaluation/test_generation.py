"""Text under a mask: the cache changes nothing, and has no place for attention that is off."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from explorer.errors import Cancelled, MaskError, TextError
from explorer.evaluation.generation import generate
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from tests.support import brute_force
from tests.support.tiny_models import SLIDING

PROMPT = "The quick brown fox jumps over the lazy dog."


def masks_of(loaded: LoadedModel) -> list[Mask]:
    """Masks that empty the places where a cache keeps its length."""
    last = loaded.n_layers - 1
    types = getattr(loaded.config, "layer_types", None) or ["full_attention"] * loaded.n_layers
    firsts = [f"a{types.index(kind)}" for kind in sorted(set(types))]
    texts = [
        "none",
        "a0",
        "0",
        f"a0-{last}",
        f"0-{last}",
        f"m0-{last}",
        "a0-1,m2",
        f"{last}",
        *firsts,
        ",".join(firsts),
    ]
    return list(dict.fromkeys(map(Mask.parse, texts)))


def test_cached_text_equals_uncached_argmax(loaded: LoadedModel) -> None:
    prompt = loaded.tokenizer(PROMPT).input_ids
    assert len(prompt) > SLIDING
    for mask in masks_of(loaded):
        found = generate(loaded, mask, PROMPT, 10)
        expected = brute_force.greedy(brute_force.zeroed(loaded.checkpoint.folder, mask), prompt, 10)
        assert list(found.token_ids) == expected, str(mask)
        assert found.text == loaded.tokenizer.decode(expected, skip_special_tokens=True)
        assert found.mask == mask


def test_attention_that_is_off_has_no_entries(loaded: LoadedModel) -> None:
    ids = loaded.tokenizer(PROMPT, return_tensors="pt").input_ids
    for mask in masks_of(loaded):
        cache = DynamicCache(config=loaded.model.config)
        with torch.inference_mode(), loaded.wrappers.as_variant(mask):
            loaded.model(ids, past_key_values=cache, use_cache=True)
        assert len(cache.layers) == loaded.n_layers
        for index, layer in enumerate(cache.layers):
            keys = getattr(layer, "keys", None)
            entries = 0 if keys is None else keys.numel()
            assert bool(entries) != mask.off(index)[0], f"{mask}, layer {index}"


@torch.inference_mode()
def test_left_padded_batch_equals_each_prompt_alone(loaded: LoadedModel) -> None:
    prompts = [loaded.tokenizer(text).input_ids for text in (PROMPT, "Once", PROMPT[:20])]
    length = max(map(len, prompts))
    ids = torch.tensor([[7] * (length - len(p)) + p for p in prompts])
    seen = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    for mask in masks_of(loaded):
        alone = [
            generate(loaded, mask, loaded.tokenizer.decode(p, skip_special_tokens=True), 8).token_ids for p in prompts
        ]
        with loaded.wrappers.as_variant(mask):
            found = loaded.model.generate(
                ids,
                attention_mask=seen,
                max_new_tokens=8,
                do_sample=False,
                pad_token_id=0,
            )
        for row, expected in zip(found[:, length:].tolist(), alone, strict=True):
            assert row[: len(expected)] == list(expected), str(mask)


@torch.inference_mode()
def test_left_padded_logits_equal_those_of_zeroed_projections(loaded: LoadedModel) -> None:
    ids = torch.tensor([[7] * 5 + list(range(20, 31)), list(range(40, 56))])
    seen = torch.tensor([[0] * 5 + [1] * 11, [1] * 16])
    call = {"input_ids": ids, "attention_mask": seen, "position_ids": (seen.cumsum(1) - 1).clamp_min(0)}
    if loaded.config.model_type in ("bloom", "falcon", "opt"):  # they take positions from the mask
        del call["position_ids"]
    for mask in masks_of(loaded)[:6]:
        with loaded.wrappers.as_variant(mask):
            found = loaded.model(**call, use_cache=False).logits
        expected = brute_force.zeroed(loaded.checkpoint.folder, mask)(**call, use_cache=False).logits
        torch.testing.assert_close(found[seen.bool()], expected[seen.bool()], rtol=1e-4, atol=1e-4)


def test_any_cache_keeps_every_index_and_its_length(llama: LoadedModel) -> None:
    for cache in (DynamicCache(config=llama.model.config), DynamicCache()):
        for length in (5, 6):
            with torch.inference_mode(), llama.wrappers.as_variant(Mask.parse("a0,2")):
                llama.model(torch.arange(length - cache.get_seq_length())[None], past_key_values=cache)
            assert [layer.keys is None for layer in cache.layers] == [True, False, True, False]
            assert cache.get_seq_length() == length


def test_a_cache_counts_tokens_with_all_attention_off(llama: LoadedModel) -> None:
    cache = DynamicCache(config=llama.model.config)
    with torch.inference_mode(), llama.wrappers.as_variant(Mask.parse("a0-3")):
        for tokens in (5, 1):
            llama.model(torch.arange(tokens)[None], past_key_values=cache)
    assert cache.get_seq_length() == 6
    cache.crop(-2)
    assert cache.get_seq_length() == 4


def test_site_that_is_off_is_not_run(llama: LoadedModel) -> None:
    runs: list[int] = []
    handles = [
        layer.self_attn.o_proj.register_forward_hook(lambda *_, i=i: runs.append(i))
        for i, layer in enumerate(llama.wrappers.layers)
    ]
    try:
        generate(llama, Mask.parse("a0,2"), PROMPT, 3)
    finally:
        for handle in handles:
            handle.remove()
    assert set(runs) == {1, 3}


def test_seed_decides_the_text(loaded: LoadedModel) -> None:
    mask = Mask.parse("a1")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (generate(loaded, mask, PROMPT, 12, temperature=1.0, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.token_ids == again.token_ids
    assert first.text == again.text
    assert first.token_ids != other.token_ids


def test_sampling_at_low_temperature_is_greedy(llama: LoadedModel) -> None:
    greedy, cold = (generate(llama, NONE, PROMPT, 8, temperature=t) for t in (0.0, 1e-4))
    assert greedy.token_ids == cold.token_ids
    with pytest.raises(TextError, match="too low to sample by"):
        generate(llama, NONE, PROMPT, 8, temperature=1e-40)


def test_listener_is_told_the_text_after_every_token(llama: LoadedModel) -> None:
    told: list[str] = []
    sample = generate(llama, NONE, PROMPT, 8, listener=told.append)
    decode = llama.tokenizer.decode
    assert told == [decode(sample.token_ids[:n], skip_special_tokens=True) for n in range(1, len(sample.token_ids) + 1)]
    assert sample.tokens_per_second > 0


def test_listener_can_cancel(llama: LoadedModel) -> None:
    told: list[str] = []

    def listen(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            raise Cancelled

    ids = llama.tokenizer(PROMPT, return_tensors="np").input_ids
    before = brute_force.logits(llama.model, ids)
    with pytest.raises(Cancelled):
        generate(llama, Mask.parse("0-1"), PROMPT, 20, listener=listen)
    assert len(told) == 3
    assert torch.equal(brute_force.logits(llama.model, ids), before)


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_empty_prompt_is_refused(llama: LoadedModel, prompt: str) -> None:
    with pytest.raises(TextError, match="prompt is empty"):
        generate(llama, NONE, prompt, 3)


def test_text_beyond_the_positions_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(TextError, match="of 128"):
        generate(llama, NONE, PROMPT, 128)


def test_missing_chat_template_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(TextError, match="no chat template"):
        generate(llama, NONE, PROMPT, 3, chat=True)


def test_mask_beyond_the_model_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(MaskError):
        generate(llama, Mask.parse("9"), PROMPT, 3)
