"""Configs of tiny models: those that GGUF is made of, and one of each architecture that is read of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    StableLmConfig,
    Starcoder2Config,
)

from tests.support.gguf_files import COMMON, LLAMA

_CONFIG: dict[str, Any] = {
    "vocab_size": 300, "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": None,
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.2,
}  # fmt: skip


CONFIGS = {
    "llama": lambda: LlamaConfig(**_CONFIG),
    "llama_tied": lambda: LlamaConfig(**_CONFIG, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**_CONFIG),
    "llama3": lambda: LlamaConfig(
        **_CONFIG,
        rope_parameters={
            "rope_theta": 5000.0,
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
}

_GEMMA: dict[str, Any] = {**LLAMA, "head_dim": 16, "tie_word_embeddings": True, "sliding_window": 8,
                          "query_pre_attn_scalar": 16}  # fmt: skip
_MIXTURE: dict[str, Any] = {**LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                            "decoder_sparse_step": 1, "mlp_only_layers": []}  # fmt: skip

ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**LLAMA, head_dim=16, rms_norm_eps=3e-3),
    "qwen2": lambda: Qwen2Config(**LLAMA),
    "qwen3": lambda: Qwen3Config(**LLAMA, head_dim=16),
    "qwen2moe": lambda: Qwen2MoeConfig(**_MIXTURE, shared_expert_intermediate_size=40),
    "qwen3moe": lambda: Qwen3MoeConfig(**_MIXTURE, head_dim=16, norm_topk_prob=True),
    "gemma2": lambda: Gemma2Config(**_GEMMA),
    "gemma3": lambda: Gemma3TextConfig(
        **{**_GEMMA, "num_hidden_layers": 7, "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }},
    ),
    "phi3": lambda: Phi3Config(**LLAMA, sliding_window=9),
    "gpt2": lambda: GPT2Config(**COMMON, n_embd=32, n_layer=3, n_head=4, n_positions=128),
    "starcoder2": lambda: Starcoder2Config(**LLAMA, norm_epsilon=3e-3),
    "stablelm": lambda: StableLmConfig(**LLAMA, use_qkv_bias=True),
}  # fmt: skip
