"""A plain decoder's config.json -> its CostModel, in closed form, without torch and transformers.

Most models are of a few classes whose layers are all alike: an attention of four maps, a gated MLP of three, norms.
What else a config says may change what its class makes: with any word that is not known here it is left to the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from explorer.model.cost_model import CostModel

#: Bytes of a number.
_ITEMSIZES = {"float32": 4, "bfloat16": 2, "float16": 2}

_ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh")
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
#: Words that change no shape: what is computed, how training began, who wrote it.
_SHAPELESS = frozenset({
    "_name_or_path", "architectures", "attention_dropout", "attention_multiplier", "bos_token_id", "dtype",
    "embedding_multiplier", "eos_token_id", "hidden_act", "hidden_activation", "initializer_range", "is_llama_config",
    "logits_scaling", "max_position_embeddings", "max_window_layers", "model_type", "pad_token_id", "pretraining_tp",
    "residual_multiplier", "rms_norm_eps", "rope_interleaved", "rope_parameters", "rope_scaling", "rope_theta",
    "torch_dtype", "transformers_version", "use_cache",
})  # fmt: skip
_SHAPES = frozenset([*_SIZES, "num_key_value_heads", "head_dim", "tie_word_embeddings"])


@dataclass(frozen=True)
class _Form:
    """What a class makes of a config.

    Args:
        architecture: the class.
        words: further ones of its config that are read here.
        needs: what else than the sizes of all a config has to say, for the class has a number of its own.
        slides: whether attention has a window, of which a config has to say how long it is, or that there is none.
        biased_inputs: whether queries, keys and values always have biases.
        head_norms: norms of queries and of keys: none, one of a head's width for all, or one over all heads.
        tied: whether the head is the embeddings' table where a config says nothing.
    """

    architecture: str
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("num_key_value_heads",)
    slides: bool = False
    biased_inputs: bool = False
    head_norms: str = "none"
    tied: bool = False


#: By the config's model_type.
FORMS = {
    "llama": _Form("LlamaForCausalLM", ("attention_bias", "mlp_bias"), needs=()),
    "mistral": _Form("MistralForCausalLM", ("sliding_window",), slides=True),
    "qwen2": _Form("Qwen2ForCausalLM", ("use_sliding_window", "sliding_window"), biased_inputs=True),
    "qwen3": _Form(
        "Qwen3ForCausalLM",
        ("attention_bias", "use_sliding_window", "sliding_window"),
        needs=("num_key_value_heads", "head_dim"),
        head_norms="head",
    ),
    "gemma": _Form("GemmaForCausalLM", ("attention_bias",), needs=("num_key_value_heads", "head_dim"), tied=True),
    "granite": _Form("GraniteForCausalLM", ("attention_bias", "mlp_bias")),
    "olmo2": _Form("Olmo2ForCausalLM", ("attention_bias",), head_norms="all heads"),
}


def count_plain_decoder(config: dict[str, Any], dtype: str) -> tuple[str, CostModel] | None:
    """Return a decoder's architecture and what it would hold; None if only its class can tell.

    Args:
        config: what config.json holds, its fields checked.
        dtype: of the weights and the KV cache; `auto` is the config's.
    """
    form = FORMS.get(config.get("model_type") or "")
    given = {word: value for word, value in config.items() if value is not None}
    if form is None or not _SHAPELESS | _SHAPES | {*form.words} >= config.keys() or not _is_plain(given, form):
        return None
    if form.slides and "sliding_window" not in config:
        return None
    itemsize = _ITEMSIZES.get(
        str(given.get("dtype", given.get("torch_dtype", "float32"))) if dtype == "auto" else dtype
    )
    if itemsize is None:
        return None
    width, inner, heads, n_layers, vocabulary = (given[word] for word in _SIZES)
    kept = given.get("num_key_value_heads", heads)
    head = given.get("head_dim", width // heads)
    queries, keys = heads * head, kept * head
    inputs = queries + 2 * keys
    attention = width * inputs + queries * width
    if given.get("attention_bias"):
        attention += inputs + width
    attention += inputs if form.biased_inputs else 0
    attention += {"none": 0, "head": 2 * head, "all heads": queries + keys}[form.head_norms]
    mlp = 3 * width * inner + (2 * inner + width if given.get("mlp_bias") else 0)
    layer = attention, mlp, attention + mlp + 2 * width
    table = vocabulary * width
    tied = given.get("tie_word_embeddings", form.tied)
    total = table * (1 if tied else 2) + n_layers * layer[2] + width
    return form.architecture, CostModel(
        total=total,
        total_bytes=total * itemsize,
        embedding_parameters=0 if tied else table,
        layers=(layer,) * n_layers,
        layer_bytes=((attention * itemsize, mlp * itemsize, layer[2] * itemsize),) * n_layers,
        inactive_expert_parameters=((0, 0),) * n_layers,
        attention_span=(float(given.get("sliding_window", math.inf)) if form.slides else math.inf,) * n_layers,
        kv_entries=(2 * keys,) * n_layers,
        state_bytes=(0,) * n_layers,
        attention_widths=(2 * queries,) * n_layers,
        itemsize=itemsize,
        hands_on=(),
    )


def _is_plain(given: dict[str, Any], form: _Form) -> bool:
    """Tell whether a config says all that the closed form needs, and nothing that its class would refuse."""
    if any(type(given.get(word)) is not int or given[word] < 1 for word in (*_SIZES, *form.needs)):
        return False
    heads, kept, head = given["num_attention_heads"], given.get("num_key_value_heads"), given.get("head_dim")
    shared = head is None and given["hidden_size"] % heads == 0
    padding = given.get("pad_token_id", 0)
    return (
        (kept is None or (type(kept) is int and kept > 0 and heads % kept == 0))
        and (shared or (type(head) is int and head > 0))
        and (type(padding) is int and 0 <= padding < given["vocab_size"])
        and all(given.get(word, "silu") in _ACTIVATIONS for word in ("hidden_act", "hidden_activation"))
        and given.get("architectures", [form.architecture]) == [form.architecture]
        and not given.get("use_sliding_window")
    )
