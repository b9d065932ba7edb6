"""Layout, config of a Llama-like model -> a `nemotron-nas` config: blocks with or without attention and MLP.

The architecture of DeciLM, which vLLM, SGLang and mlx-lm have natively. All three derive the width of a block's MLP
from a multiplier, rounded up to 256; vLLM alone also reads the width itself, and mlx-lm no width of heads.
"""

from __future__ import annotations

from typing import Any

from explorer.errors import ExportError
from explorer.export.remote_code import Names, name_tokenizer
from explorer.export.tensor_layout import Layout
from explorer.masks import Site
from explorer.model import LoadedModel, find_base_type, has_own_head

#: What goes with a site, beside its module.
NORMS: dict[str, tuple[str, ...]] = {"attention": ("input_layernorm",), "mlp": ("post_attention_layernorm",)}

_NAMES = Names("decilm", "DeciLMForCausalLM", "DeciLMConfig", "nemotron-nas", "LlamaModel")
_STEP = 256
_ATTENTION = dict.fromkeys(
    ("replace_with_linear", "unshifted_sink", "use_prefill_window_in_sink_attention"), False
) | dict.fromkeys(("num_sink_tokens", "sparsify", "window_length"))
_LEFT_OUT = (
    *("sliding_window", "use_sliding_window", "max_window_layers", "layer_types", "use_cache", "pruned"),
    "rope_scaling",
)


def check_maps(loaded: LoadedModel) -> None:
    """Raise ExportError if a model is not, in names, shapes and arithmetic, what the architecture is."""
    config = loaded.config
    model_type = find_base_type(config.model_type)
    windowed = uses_window(config)
    found = (
        f"its type is {model_type}"
        if model_type not in ("llama", "mistral", "qwen2")
        else f"its attention has a sliding window of {config.sliding_window}"
        if windowed
        else f"its activation is {config.hidden_act}"
        if config.hidden_act != "silu"
        else None
    )
    if found:
        raise ExportError("The model does not map to nemotron-nas", found, "Use --format pruned-remote-code")


def find_refusing(config: Any) -> dict[str, str]:
    """Return the programs that have the architecture, but do not load this model of it, and why."""
    refusing = {}
    if config.intermediate_size % _STEP:
        width = f"the MLPs are {config.intermediate_size} wide, no multiple of {_STEP}"
        refusing = dict.fromkeys(("sglang", "mlx_lm"), width)
    if _find_head_width(config) * config.num_attention_heads != config.hidden_size:
        refusing["mlx_lm"] = f"heads are {_find_head_width(config)} wide, not the model's width over their number"
    return refusing


def _find_head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def uses_window(config: Any) -> bool:
    """Tell whether attention of a Llama-like config sees less than the whole context."""
    types = getattr(config, "layer_types", None)
    if types:
        return "sliding_attention" in types
    window = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
    return window is not None and window < config.max_position_embeddings


def dress_config(config: dict[str, Any], loaded: LoadedModel, layout: Layout) -> tuple[dict[str, Any], dict[str, str]]:
    """Return config.json and the Python files (name -> text) of `deci`."""
    own = loaded.config
    rope = dict(own.rope_parameters)
    theta = rope.pop("rope_theta")
    scaled = rope.get("rope_type", "default") != "default"
    made = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    made |= _NAMES.entries
    made |= {
        "block_configs": [_make_block(layer, own, layout) for layer in layout.kept],
        "attention_bias": has_biases(own),
        "head_dim": _find_head_width(own),
        "rope_theta": theta,  # older readers take it from here
        **({"rope_scaling": rope} if scaled else {}),
        "rope_parameters": dict(own.rope_parameters),
        "num_key_value_heads": own.num_key_value_heads,
        "hidden_act": own.hidden_act,
        "tie_word_embeddings": not has_own_head(loaded.model),
    }
    code = _NAMES.write_code("LlamaForCausalLM", "LlamaConfig", "llama")
    return made, code | name_tokenizer(loaded)


def has_biases(config: Any) -> bool:
    """Tell whether queries, keys and values have biases; the architecture then wants one of the output, too."""
    return find_base_type(config.model_type) == "qwen2" or bool(getattr(config, "attention_bias", False))


def _make_block(layer: int, config: Any, layout: Layout) -> dict[str, Any]:
    attention_off, mlp_off = (Site(layer, part) in layout.dropped_sites for part in ("attention", "mlp"))
    group = config.num_attention_heads // config.num_key_value_heads
    mlp = {"ffn_mult": None} if mlp_off else _describe_mlp(config)
    return {
        "attention": {**_ATTENTION, "no_op": attention_off, "n_heads_in_group": None if attention_off else group},
        "ffn": {"no_op": mlp_off, "replace_with_linear": False, "sparsify": None, **mlp},
    }


def _describe_mlp(config: Any) -> dict[str, Any]:
    """Say how wide an MLP is: by the multiplier, or where no multiplier gives that width as a number.

    vLLM reads the number where there is no entry of the multiplier at all.
    """
    if config.intermediate_size % _STEP:
        return {"intermediate_size": config.intermediate_size, "hidden_act": config.hidden_act}
    return {"ffn_mult": round(3 * (config.intermediate_size - _STEP / 2) / (2 * config.hidden_size), 6)}
