"""What a cache keeps of a token, for kinds of layers that no site is found in yet, held against the cache itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    DeepseekV32Config,
    DynamicCache,
    Gemma4TextConfig,
    JambaConfig,
    Lfm2Config,
    Qwen3NextConfig,
)

from explorer.model.kv_cache import measure_cache

_PLAIN: dict[str, Any] = {
    "vocab_size": 300, "max_position_embeddings": 128, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
_LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12,
           "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16,
           "num_key_value_heads": 4}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
CONFIGS = {
    "latent": lambda: DeepseekV2Config(**_PLAIN | _LATENT),
    "indexed": lambda: DeepseekV32Config(**_PLAIN | _LATENT, index_head_dim=16, index_n_heads=2, index_topk=64),
    "linear": lambda: Qwen3NextConfig(
        **_PLAIN, **_EXPERTS, head_dim=8, moe_intermediate_size=16, shared_expert_intermediate_size=16,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8,
    ),
    "convolution": lambda: Lfm2Config(
        **_PLAIN, layer_types=["conv", "full_attention", "conv", "full_attention"], conv_L_cache=3,
    ),
    "state": lambda: JambaConfig(
        **_PLAIN, **_EXPERTS, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=4, mamba_expand=1,
        use_mamba_kernels=False,
    ),
    "of many widths, shared": lambda: Gemma4TextConfig(
        **_PLAIN | {"num_hidden_layers": 6}, head_dim=8, global_head_dim=16, num_global_key_value_heads=1,
        sliding_window=16, num_kv_shared_layers=2, hidden_size_per_layer_input=8, vocab_size_per_layer_input=300,
        layer_types=["sliding_attention", "full_attention"] * 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_the_cache_holds_what_is_said(kind: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]()).eval()
    kept = measure_cache(model)
    assert kept is not None
    held: list[list[int]] = []
    for length in (4, 9):
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(torch.arange(length)[None], past_key_values=cache)
        tensors = [[getattr(layer, n, None) for n in ("keys", "values", "indexer_keys")] for layer in cache.layers]
        held.append([sum(t.numel() for t in each if t is not None) for each in tensors])
    assert [each.entries for each in kept] == [(more - few) // 5 for few, more in zip(*held, strict=True)]
    if kind in ("linear", "convolution", "state"):
        assert 0 < sum(each.entries > 0 for each in kept) < len(kept)
        assert all((each.entries > 0) == (each.attention_span > 0) == (each.width > 0) for each in kept)
    if kind.startswith("of many"):
        assert len({each.entries for each in kept}) == 3
        assert [each.attention_span for each in kept[:2]] == [16, float("inf")]
        assert all(each.width for each in kept)
