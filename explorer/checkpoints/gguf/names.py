"""A tensor of a GGUF file -> the tensors of a transformers checkpoint that it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from explorer.checkpoints.gguf.file import Numbers
from explorer.checkpoints.gguf.rope import FACTORS, LONG, SHORT

#: Read into the config's rope parameters; no tensors of a model.
OF_ROPE = (FACTORS, LONG, SHORT)

_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_EXPERTS = re.compile(r"ffn_(gate|up|down)_exps")

_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_LLAMA = {
    **_ATTENTION,
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NORMED = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_MIXTURE = {
    **_ATTENTION,
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    **{f"ffn_{part}_shexp": f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")},
}
_GEMMA = {
    **_LLAMA,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GPT2 = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}

#: What is in a layer, by architecture.
_PARTS: dict[str, dict[str, str]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, **_NORMED},
    "qwen2moe": _MIXTURE,
    "qwen3moe": {**_MIXTURE, **_NORMED},
    "gemma2": _GEMMA,
    "gemma3": {**_GEMMA, **_NORMED},
    "phi3": {
        "attn_norm": "input_layernorm",
        "attn_qkv": "self_attn.qkv_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_up": "mlp.gate_up_proj",
        "ffn_down": "mlp.down_proj",
    },
    "gpt2": _GPT2,
    "starcoder2": {**_LLAMA, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    "stablelm": _LLAMA,
}
_AROUND = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_AROUND_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}


def convert(
    architecture: str, config: dict[str, Any], name: str
) -> tuple[list[str], Callable[[Numbers], Numbers]] | None:
    """Return the names that a tensor has in a checkpoint, and what brings its numbers into the form it has there.

    A tensor that holds all experts of a layer has a name for each; what is made of it then goes along them.
    None: the name has no place in the architecture.
    """
    gpt2 = architecture == "gpt2"
    match = _LAYER.fullmatch(name)
    if match is None:
        stem, _, kind = name.rpartition(".")
        around = _AROUND_GPT2 if gpt2 else _AROUND
        if stem not in around or kind not in ("weight", "bias"):
            return None
        return [f"{around[stem]}.{kind}"], _form(architecture, config, stem, kind)
    layer, part, kind = match.groups()
    root = f"transformer.h.{layer}" if gpt2 else f"model.layers.{layer}"
    if (experts := _EXPERTS.fullmatch(part)) and kind == "weight" and "num_experts" in config:
        inside = f"{root}.mlp.experts"
        return [f"{inside}.{i}.{experts[1]}_proj.weight" for i in range(config["num_experts"])], lambda data: data
    if part not in _PARTS[architecture]:
        return None
    return [f"{root}.{_PARTS[architecture][part]}.{kind}"], _form(architecture, config, part, kind)


def _form(architecture: str, config: dict[str, Any], part: str, kind: str) -> Callable[[Numbers], Numbers]:
    if architecture == "llama" and part in ("attn_q", "attn_k"):
        heads = config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
        return lambda data: _halve(data, heads)
    if architecture in ("gemma2", "gemma3") and part.endswith("norm"):
        return lambda data: data - 1  # a file holds what states are multiplied by
    if architecture == "gpt2" and kind == "weight" and part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down"):
        return lambda data: data.T
    if part == "ffn_gate_inp_shexp":
        return lambda data: data.reshape(1, -1)
    return lambda data: data


def convert_back(architecture: str, config: dict[str, Any], name: str) -> Callable[[Numbers], Numbers]:
    """Return what brings the numbers of a checkpoint's one tensor into the form that a tensor of a GGUF file has."""
    match = _LAYER.fullmatch(name)
    part, kind = match.groups()[1:] if match else name.rpartition(".")[::2]
    if architecture == "llama" and part in ("attn_q", "attn_k"):
        heads = config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
        return lambda data: data.reshape(heads, 2, -1, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
    if architecture in ("gemma2", "gemma3") and part.endswith("norm"):
        return lambda data: data + 1
    if architecture == "gpt2" and kind == "weight" and part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down"):
        return lambda data: data.T
    if part == "ffn_gate_inp_shexp":
        return lambda data: data.reshape(-1)
    return lambda data: data


def _halve(data: Float32[np.ndarray, " *weight"], heads: int) -> Float32[np.ndarray, " *weight"]:
    """Bring rows from neighbours that are rotated together to the first and second half of a head."""
    return data.reshape(heads, -1, 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)


def spread(names: list[str], data: Numbers) -> Iterator[tuple[str, Numbers]]:
    """Yield each name with its numbers."""
    pieces = [data] if len(names) == 1 else list(data)
    for name, piece in zip(names, pieces, strict=True):
        yield name, np.ascontiguousarray(piece)
