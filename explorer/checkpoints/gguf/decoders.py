"""What each architecture's keys mean: one function each, from a file's keys to a config's fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.checkpoints.gguf.file import refuse
from explorer.checkpoints.gguf.keys import Keys
from explorer.checkpoints.gguf.rope import read_rope

_RMS, _LAYER = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
_BIASES = tuple(f"attn_{part}.bias" for part in ("q", "k", "v", "output"))


def _has(keys: Keys, *names: str) -> bool:
    """Tell whether any layer has a tensor of one of these names."""
    ends = tuple(f".{name}" for name in names)
    return any(tensor.startswith("blk.") and tensor.endswith(ends) for tensor in keys.file.tensors)


def _head(keys: Keys) -> int:
    """Return the width of a head, keys' and values' alike."""
    heads, hidden = keys.integer("attention.head_count"), keys.integer("embedding_length")
    if heads == 0:
        refuse(keys.file.path, "it has no attention heads")
    width = keys.integer("attention.key_length", hidden // heads)
    if keys.integer("attention.value_length", width) != width:
        refuse(keys.file.path, "its keys and values are not of one length")
    return width


def _shape(keys: Keys, dense: int | None = None) -> dict[str, Any]:
    """Return what every decoder has; `dense` is the width of MLPs in a file that may not say it."""
    heads = keys.integer("attention.head_count")
    return {
        "hidden_size": keys.integer("embedding_length"),
        "intermediate_size": keys.integer("feed_forward_length", dense),
        "num_hidden_layers": keys.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.integer("attention.head_count_kv", heads),
        "max_position_embeddings": keys.integer("context_length"),
    }


def _dense(keys: Keys, window: bool = False) -> dict[str, Any]:
    """Return a decoder with RMS norms whose heads are rotated whole; without a window, a file must have none."""
    width, context = _head(keys), keys.integer("context_length")
    if keys.integer("rope.dimension_count", width) != width:
        refuse(keys.file.path, f"it rotates {keys.integer('rope.dimension_count')} of the {width} dimensions of a head")
    if not window and (length := keys.integer("attention.sliding_window", 0)) and length < context:
        refuse(keys.file.path, f"{keys.prefix}attention.sliding_window is {length}, and its context {context}")
    if "expert_count" in keys:
        keys.only("expert_count", 0)
        keys.only("expert_used_count", 0)
    return {
        **_shape(keys),
        "head_dim": width,
        "rms_norm_eps": keys.real(_RMS),
        "rope_parameters": read_rope(keys, width),
    }


def _llama(keys: Keys) -> dict[str, Any]:
    return {
        "model_type": "llama",
        **_dense(keys),
        "attention_bias": _has(keys, *_BIASES),
        "mlp_bias": _has(keys, *(f"ffn_{part}.bias" for part in ("gate", "up", "down"))),
    }


def _qwen2(keys: Keys) -> dict[str, Any]:
    dense = _dense(keys)
    if dense["head_dim"] * dense["num_attention_heads"] != dense["hidden_size"]:
        refuse(keys.file.path, f"its heads are {dense['head_dim']} wide")
    return {"model_type": "qwen2", **dense, "use_sliding_window": False}


def _qwen3(keys: Keys) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        **_dense(keys),
        "attention_bias": _has(keys, *_BIASES),
        "use_sliding_window": False,
    }


def _experts(keys: Keys) -> dict[str, Any]:
    """Return a mixture that has no dense layer."""
    experts, used = keys.integer("expert_count"), keys.integer("expert_used_count")
    width = keys.file.tensors.get("blk.0.ffn_gate_exps.weight")
    if width is None or len(width.shape) != 3:
        refuse(keys.file.path, "blk.0.ffn_gate_exps.weight is missing")
    if experts != width.shape[0]:
        refuse(keys.file.path, f"{keys.prefix}expert_count is {experts}, and it has {width.shape[0]} in a layer")
    keys.only("expert_gating_func", 1)  # softmax
    return {
        "num_experts": experts,
        "num_experts_per_tok": used,
        "moe_intermediate_size": keys.integer("expert_feed_forward_length", width.shape[1]),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _mixture(keys: Keys) -> dict[str, Any]:
    width, experts = _head(keys), _experts(keys)
    if keys.integer("rope.dimension_count", width) != width:
        refuse(keys.file.path, f"it rotates {keys.integer('rope.dimension_count')} of the {width} dimensions of a head")
    return {
        **_shape(keys, dense=0),
        **experts,
        "head_dim": width,
        "rms_norm_eps": keys.real(_RMS),
        "rope_parameters": read_rope(keys, width),
        "use_sliding_window": False,
    }


def _qwen2moe(keys: Keys) -> dict[str, Any]:
    keys.only("expert_weights_norm", False)
    shared = keys.file.tensors.get("blk.0.ffn_gate_shexp.weight")
    width = keys.integer("expert_shared_feed_forward_length", shared.shape[0] if shared else 0)
    mixture = _mixture(keys)
    if mixture.pop("head_dim") * mixture["num_attention_heads"] != mixture["hidden_size"]:
        refuse(keys.file.path, "its heads are not as wide as its embedding by their number")
    return {
        "model_type": "qwen2_moe",
        **mixture,
        "shared_expert_intermediate_size": width,
        "norm_topk_prob": False,
        "qkv_bias": True,
    }


def _qwen3moe(keys: Keys) -> dict[str, Any]:
    keys.only("expert_weights_norm", True)
    return {
        "model_type": "qwen3_moe",
        **_mixture(keys),
        "norm_topk_prob": True,
        "attention_bias": _has(keys, *_BIASES),
    }


def _gemma2(keys: Keys) -> dict[str, Any]:
    dense = _dense(keys, window=True)
    layers = dense["num_hidden_layers"]
    return {
        "model_type": "gemma2",
        **dense,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attn_logit_softcapping": keys.real("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": keys.real("final_logit_softcapping", 30.0),
        "query_pre_attn_scalar": _query_scale(dense, largest=46),
        "sliding_window": keys.integer("attention.sliding_window", 4096),
        "layer_types": [("full" if layer % 2 else "sliding") + "_attention" for layer in range(layers)],
    }


def _query_scale(dense: dict[str, Any], largest: int) -> int:
    """Return what queries are divided by the root of: of the 27B model of a generation, told by its layers, another."""
    by_heads = dense["hidden_size"] // dense["num_attention_heads"]
    return by_heads if dense["num_hidden_layers"] == largest else dense["head_dim"]


def _gemma3(keys: Keys) -> dict[str, Any]:
    dense = _dense(keys, window=True)
    window = keys.integer("attention.sliding_window", 0)
    pattern = keys.layers("attention.sliding_window_pattern")
    slides = _pattern(keys, pattern, dense["num_hidden_layers"])
    whole = dense.pop("rope_parameters")
    local = {"rope_type": "default", "rope_theta": keys.real("rope.freq_base_swa", 10000.0)}
    keys.only("attention.key_length_swa", dense["head_dim"])
    keys.only("attention.value_length_swa", dense["head_dim"])
    keys.only("rope.dimension_count_swa", dense["head_dim"])
    return {
        "model_type": "gemma3_text",
        **dense,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": keys.real("final_logit_softcapping", 0.0) or None,
        "query_pre_attn_scalar": _query_scale(dense, largest=62),
        "sliding_window": window or dense["max_position_embeddings"],
        "layer_types": [("sliding" if slide else "full") + "_attention" for slide in slides],
        "rope_parameters": {"full_attention": whole, "sliding_attention": local if window else whole},
    }


def _pattern(keys: Keys, pattern: Any, layers: int) -> list[bool]:
    """Tell of each layer whether it looks through a window; every sixth does not where the file says nothing."""
    if isinstance(pattern, list) and len(pattern) == layers and all(entry in (0, 1) for entry in pattern):
        return [bool(entry) for entry in pattern]
    step = 6 if pattern is None else pattern
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        refuse(keys.file.path, f"{keys.prefix}attention.sliding_window_pattern is {str(pattern)[:40]}")
    return [(layer + 1) % step != 0 for layer in range(layers)]


def _phi3(keys: Keys) -> dict[str, Any]:
    width = _head(keys)
    if width * keys.integer("attention.head_count") != keys.integer("embedding_length"):
        refuse(keys.file.path, f"its heads are {width} wide")
    rotary = keys.integer("rope.dimension_count", width)
    rope = {**read_rope(keys, rotary), "partial_rotary_factor": _share(keys, rotary, width)}
    if rope["rope_type"] == "yarn":  # transformers takes it for Phi-3's own scaling
        refuse(keys.file.path, "its rope is scaled by 'yarn'")
    config = {
        "model_type": "phi3",
        **_shape(keys),
        "rms_norm_eps": keys.real(_RMS),
        "rope_parameters": rope,
        "sliding_window": keys.integer("attention.sliding_window", 0) or None,
    }
    if "original_max_position_embeddings" in rope:
        config["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    return config


def _share(keys: Keys, rotary: int, width: int) -> float:
    """Return the share of a head that is rotated, such that transformers finds the same number of dimensions."""
    share = rotary / width
    if rotary > width or int(width * share) != rotary or rotary % 2:
        refuse(keys.file.path, f"it rotates {rotary} of the {width} dimensions of a head")
    return share


def _gpt2(keys: Keys) -> dict[str, Any]:
    heads = keys.integer("attention.head_count")
    keys.only("attention.head_count_kv", heads)
    positions = keys.file.tensors.get("position_embd.weight")
    context = keys.integer("context_length")
    return {
        "model_type": "gpt2",
        "n_embd": keys.integer("embedding_length"),
        "n_inner": keys.integer("feed_forward_length"),
        "n_layer": keys.integer("block_count"),
        "n_head": heads,
        "n_positions": positions.shape[0] if positions else context,
        "layer_norm_epsilon": keys.real(_LAYER),
        "activation_function": "gelu_new",
    }


def _starcoder2(keys: Keys) -> dict[str, Any]:
    width = _head(keys)
    keys.only("rope.dimension_count", width)
    return {
        "model_type": "starcoder2",
        **_shape(keys),
        "norm_epsilon": keys.real(_LAYER),
        "rope_parameters": read_rope(keys, width),
        "hidden_act": "gelu_pytorch_tanh",
        "use_bias": True,
        "sliding_window": keys.integer("attention.sliding_window", 0) or None,
    }


def _stablelm(keys: Keys) -> dict[str, Any]:
    width = _head(keys)
    rotary = keys.integer("rope.dimension_count", width)
    parallel = not _has(keys, "ffn_norm.weight")
    keys.only("use_parallel_residual", parallel)
    return {
        "model_type": "stablelm",
        **_shape(keys),
        "layer_norm_eps": keys.real(_LAYER),
        "rope_parameters": {**read_rope(keys, rotary), "partial_rotary_factor": _share(keys, rotary, width)},
        "use_qkv_bias": _has(keys, "attn_q.bias", "attn_k.bias", "attn_v.bias"),
        "use_parallel_residual": parallel,
        "hidden_act": "silu",
    }


#: The architectures that are read: their name in a file -> what makes their config.
ARCHITECTURES: dict[str, Callable[[Keys], dict[str, Any]]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen2moe": _qwen2moe,
    "qwen3moe": _qwen3moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
}
