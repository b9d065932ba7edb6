"""Configs of tiny models that map to nemotron-nas."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig, MistralConfig, Qwen2Config

_WIDE: dict[str, Any] = {
    "vocab_size": 300, "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": None,
    "hidden_size": 32, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.3,
}  # fmt: skip
WIDE = {
    "llama": lambda: LlamaConfig(**_WIDE, tie_word_embeddings=True),
    "llama_biased": lambda: LlamaConfig(**_WIDE, attention_bias=True, rope_parameters={
        "rope_theta": 5000.0, "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}),
    "mistral": lambda: MistralConfig(**_WIDE, sliding_window=None),
    "qwen2": lambda: Qwen2Config(**_WIDE, tie_word_embeddings=True),
}  # fmt: skip
