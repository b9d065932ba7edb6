"""Configs of tiny models that GGUF can hold."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig, Qwen2Config

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
