"""Tiny random models of further families, or of such that hold more than one kind of layer or tower."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    DiffLlamaConfig,
    Ernie4_5_MoeConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPTBigCodeConfig,
    GPTNeoConfig,
    GraniteMoeConfig,
    Llama4TextConfig,
    MiniMaxM2Config,
    Olmo3Config,
    OlmoeConfig,
    Qwen2MoeConfig,
)

from explorer.model.loading import LoadedModel
from tests.support.tiny_models import VOCABULARY, load_folder, make_model, save

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257,
    "pad_token_id": None, "hidden_size": 32, "initializer_range": 0.3, "tie_word_embeddings": False,
}  # fmt: skip
_PLAIN: dict[str, Any] = {**_COMMON, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4,
                          "num_key_value_heads": 2}  # fmt: skip
_SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", *["sliding_attention"] * 3]}
_LATENT: dict[str, Any] = {
    "n_shared_experts": 1, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12, "num_key_value_heads": 4,
    "moe_intermediate_size": 16, "num_experts_per_tok": 2,
}  # fmt: skip

CONFIGS: dict[str, Callable[[], Any]] = {
    "deepseek_v3": lambda: DeepseekV3Config(**_PLAIN | _LATENT, first_k_dense_replace=2),
    "llama4_text": lambda: Llama4TextConfig(
        **_PLAIN, head_dim=8, intermediate_size_mlp=48, num_local_experts=4, num_experts_per_tok=1,
        interleave_moe_layer_step=2, attention_chunk_size=16,
    ),
    "olmo3": lambda: Olmo3Config(**_PLAIN, **_SLIDING),
    "olmoe": lambda: OlmoeConfig(**_PLAIN, num_experts=4, num_experts_per_tok=2),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_PLAIN, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16,
        mlp_only_layers=[1],
    ),
    "minimax_m2": lambda: MiniMaxM2Config(**_PLAIN, head_dim=8, num_local_experts=4, num_experts_per_tok=2),
    "granitemoe": lambda: GraniteMoeConfig(**_PLAIN, num_local_experts=4, num_experts_per_tok=2),
    "ernie4_5_moe": lambda: Ernie4_5_MoeConfig(
        **_PLAIN, moe_num_experts=4, moe_k=2, moe_num_shared_experts=1, moe_intermediate_size=16,
        moe_layer_start_index=1, moe_layer_interval=1,
    ),
    "gpt_neo": lambda: GPTNeoConfig(
        **_COMMON, intermediate_size=48, num_layers=4, num_heads=4, attention_types=[[["global", "local"], 2]],
        window_size=8,
    ),
    "gpt_bigcode": lambda: GPTBigCodeConfig(
        **_COMMON, n_inner=48, n_layer=4, n_head=4, n_positions=128, multi_query=True,
    ),
    "diffllama": lambda: DiffLlamaConfig(**_PLAIN),
    "gemma3": lambda: Gemma3Config(
        text_config={**_PLAIN, **_SLIDING, "head_dim": 8, "query_pre_attn_scalar": 8},
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2,
                       "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4, image_token_index=290, boi_token_index=291, eoi_token_index=292,
        tie_word_embeddings=False,
    ),
}  # fmt: skip


class More:
    """These models, each made and loaded once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._loaded: dict[str, LoadedModel] = {}

    def load(self, family: str) -> LoadedModel:
        if family not in self._loaded:
            made = Gemma3ForConditionalGeneration if family == "gemma3" else AutoModelForCausalLM
            self._loaded[family] = load_folder(save(make_model(CONFIGS[family](), made), self.root / family))
        return self._loaded[family]


def turned_off(model: Any, loaded: LoadedModel, mask: Any) -> Any:
    """Make plain modules of a model of transformers return nothing, or the layer its input, by torch's own hooks."""

    def nothing(_: Any, args: Any, output: Any) -> Any:
        if loaded.architecture.residual_inside:
            return (args[1], *output[1:]) if isinstance(output, tuple) else args[1]
        return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)

    def itself(_: Any, args: Any, kwargs: Any, output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, (tuple, list)) else hidden

    layers = model.get_submodule(loaded.architecture.layers)
    for layer in mask.whole_layers:
        layers[layer].register_forward_hook(itself, with_kwargs=True)
    for site in mask.sites:
        own = loaded.architecture.at(site.layer)
        for name in own.modules(site.part):
            if name in (*own.adds, own.modules(site.part)[-1]):
                layers[site.layer].get_submodule(name).register_forward_hook(nothing)
    return model
