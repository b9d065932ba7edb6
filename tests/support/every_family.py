"""A tiny random model of every class of transformers' causal and image-text mappings: configs made small by names."""

from __future__ import annotations

import re
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from tests.support.tiny_models import VOCABULARY

LAYERS = 4

#: Model types of the causal mapping.
CAUSAL = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

#: Model types of the image-text mapping.
IMAGE_TEXT = tuple(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)

_NUMBERS: dict[tuple[str, ...], int] = {
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "depth", "encoder_layers"): LAYERS,
    ("num_decoder_layers", "num_encoder_layers", "num_blocks", "layers"): LAYERS,
    ("hidden_size", "d_model", "n_embd", "dim_model", "embed_dim", "word_embed_proj_dim", "embedding_size"): 32,
    ("text_hidden_size", "encoder_hidden_size", "out_hidden_size", "projection_dim", "projector_hidden_size"): 32,
    ("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size", "dim_ff"): 48,
    ("dense_intermediate_size", "intermediate_size_mlp", "mlp_dim", "block_ff_dim", "n_inner", "dff"): 48,
    ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "attention_heads"): 4,
    ("encoder_attention_heads", "swa_num_attention_heads"): 4,
    ("num_key_value_heads", "swa_num_key_value_heads", "num_kv_heads"): 2,
    ("head_dim", "swa_head_dim", "global_head_dim", "kv_channels", "dim_head", "attention_head_dim"): 8,
    ("rotary_dim",): 4,
    ("vocab_size", "unpadded_vocab_size", "vocab_size_per_layer_input"): VOCABULARY,
    ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length"): 128,
    ("max_source_positions",): 128,
    ("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"): 16,
    ("expert_ffn_hidden_size", "moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"): 16,
    ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"): 4,
    ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "num_experts_per_token"): 2,
    ("n_group", "topk_group", "num_expert_group"): 1,
    ("q_lora_rank", "kv_lora_rank", "o_lora_rank"): 16,
    ("qk_rope_head_dim",): 8,
    ("qk_nope_head_dim",): 16,
    ("v_head_dim",): 12,
    ("qk_head_dim",): 24,
    ("index_n_heads",): 2,
    ("index_head_dim",): 16,
    ("index_topk",): 64,
    ("sliding_window", "sliding_window_size", "window_size", "attention_chunk_size", "local_attention_window_len"): 16,
    ("linear_num_key_heads",): 2,
    ("linear_num_value_heads", "linear_num_heads", "num_linear_heads"): 4,
    ("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"): 8,
    ("mamba_d_state", "state_size", "ssm_state_size"): 8,
    ("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"): 8,
    ("mamba_d_head", "mamba_head_dim", "mamba_headdim"): 8,
    ("mamba_d_ssm",): 64,
    ("mamba_n_groups", "n_groups"): 1,
    ("mamba_chunk_size", "chunk_size"): 8,
    ("time_step_rank", "mamba_dt_rank"): 4,
    ("lru_width", "attention_hidden_size"): 32,
    ("first_k_dense_replace", "num_dense_layers"): 1,
    ("hidden_size_per_layer_input", "laurel_rank"): 8,
    ("num_kv_shared_layers",): 1,
    ("image_size",): 28,
    ("patch_size",): 14,
    ("num_position_embeddings",): 16,
    ("attn_layer_period", "expert_layer_period"): 2,
    ("attn_layer_offset", "expert_layer_offset"): 1,
    ("max_window_layers",): 2,
    ("mm_tokens_per_image",): 4,
    ("index_kpool",): 4,
}
_SMALL = {name: number for names, number in _NUMBERS.items() for name in names}

#: Sizes that a config leaves open and its model needs.
_UNSET = ("head_dim", "num_key_value_heads", "n_routed_experts", "num_experts_per_tok")

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

#: Families whose tokens have a time, a row and a column.
_OF_THREE_POSITIONS = (
    *("qwen2_vl", "qwen2_5_vl", "glm4v", "glm46v", "glm_ocr", "paddleocr_vl", "glmga", "cosmos3_edge"),
)
_THREE: dict[str, Any] = {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [2, 1, 1]}}}

#: What a family needs beyond small numbers.
_OVERRIDES: dict[str, dict[str, Any]] = {
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "kimi_linear": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "bailing_hybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "nemotron_h": {"layers_block_type": ["mamba", "moe", "attention", "mamba"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16]},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zaya": {"num_experts_per_tok": 1},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    **dict.fromkeys(_OF_THREE_POSITIONS, _THREE),
    "qwen2_5_omni_thinker": {**_THREE, "vision_start_token_id": 270},  # real ones say it
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 270},
    "glm4v_moe": {
        "text_config": {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}}
    },
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}}},
    "hunyuan_vl": {
        "text_config": {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 1, 1]}},
        "rope_parameters": {**_ROPE, "mrope_section": [1, 1, 1, 1]},
    },
    "molmo2": {"adapter_config": {"vision_feature_layer": [3, 2]}},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},  # widths of heads are rounded up to that
    "step3p7": {"text_config": {"sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"] * 2}},
    "chameleon": {"vocabulary_map": {"<image>": 280}},
    "emu3": {"vocabulary_map": {"<image>": 280}},
    "cohere_compass": {
        "text_config": {
            "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        }
    },
    "bamba": {"attn_layer_indices": [1, 3]},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
}


def make_config(model_type: str) -> Any:
    """Make a family's config small."""
    made = CONFIG_MAPPING[model_type]
    return made(**_shrink(made(), _OVERRIDES.get(model_type, {})))


def pick_class(model_type: str, causal: bool) -> Any:
    """Return the auto class that makes a family's model."""
    return AutoModelForCausalLM if causal else AutoModelForImageTextToText


def _shrink(default: Any, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return a config's arguments: every size small, nothing that has an entry for each of the default's layers."""
    parts = {
        name: part for name in default.sub_configs or {} if hasattr(part := getattr(default, name, None), "to_dict")
    }
    written = {key: value for key, value in default.to_dict().items() if key not in parts}
    mapped = {value: key for key, value in default.attribute_map.items()}
    small: dict[str, Any] = {}
    for key in {*written, *default.attribute_map}:
        value = written[key] if key in written else getattr(default, key, None)
        if key in default.attribute_map and default.attribute_map[key] in written:
            continue
        name = key if key in _SMALL else mapped.get(key, key)
        if key == "num_key_value_heads" and "kv_lora_rank" in written:
            small[key] = _SMALL["num_attention_heads"]
        elif name in _SMALL and ((type(value) is int and value) or (value is None and key in _UNSET)):
            small[key] = _SMALL[name]
        elif (
            re.fullmatch(r".*_token_(id|index)|image_token|.*_token_id", key)
            and isinstance(value, int)
            and value >= VOCABULARY
        ):
            small[key] = VOCABULARY - 1 - sum(map(ord, key)) % 30
    small |= (
        {"pad_token_id": 1, "bos_token_id": 256, "eos_token_id": 257} if "eos_token_id" in written and not parts else {}
    )
    if "tie_word_embeddings" in written:
        small["tie_word_embeddings"] = False
    for name, part in parts.items():
        small[name] = type(part)(**_shrink(part, overrides.get(name, {})))
    return small | {key: value for key, value in overrides.items() if key not in parts}
