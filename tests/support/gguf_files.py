"""GGUF files of tiny models, written by the gguf package's own writer and names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH_NAMES, GGUFValueType, GGUFWriter, get_tensor_name_map

from explorer.checkpoints.spec import ModelSpec
from explorer.errors import ModelError
from explorer.model.loading import LoadedModel, load
from explorer.storage.store import Store
from tests.support.tiny_models import VOCABULARY, WINDOW, make_tokenizer

COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 128, "bos_token_id": 256,
                           "eos_token_id": 257, "pad_token_id": None, "initializer_range": 0.3}  # fmt: skip
LLAMA: dict[str, Any] = {**COMMON, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
                         "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
                         "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}  # fmt: skip

IDS = torch.randint(0, VOCABULARY, (2, WINDOW), generator=torch.Generator().manual_seed(1))
Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def describe(model: Any, architecture: str) -> dict[str, Any]:
    """Return the keys that llama.cpp's converter writes for a dense model."""
    config = model.config
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "attention.head_count": heads,
    }
    if architecture != "gpt2":
        rope = getattr(config, "rope_parameters", None) or {}
        rope = rope.get("full_attention", rope)
        keys |= {
            "attention.head_count_kv": config.num_key_value_heads,
            "rope.freq_base": float(rope["rope_theta"]),
            "rope.dimension_count": int(width * rope.get("partial_rotary_factor", 1.0)),
        }
    for name, key in (
        ("rms_norm_eps", "layer_norm_rms_epsilon"),
        ("layer_norm_eps", "layer_norm_epsilon"),
        ("norm_epsilon", "layer_norm_epsilon"),
        ("layer_norm_epsilon", "layer_norm_epsilon"),
    ):
        if hasattr(config, name):
            keys[f"attention.{key}"] = float(getattr(config, name))
    if architecture in ("llama", "qwen3", "qwen3moe", "gemma2", "gemma3"):
        keys |= {"attention.key_length": width, "attention.value_length": width}
    if architecture in ("gemma2", "gemma3", "phi3") and config.sliding_window:
        keys["attention.sliding_window"] = config.sliding_window
    if architecture in ("qwen2moe", "qwen3moe"):
        keys |= {"expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok}
        keys["expert_feed_forward_length"] = config.moe_intermediate_size
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def describe_tokens() -> dict[str, Any]:
    """Return the keys of the tiny byte-level tokenizer."""
    tokenizer = make_tokenizer()
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    padded = [*tokens, *(f"[PAD{number}]" for number in range(len(tokens), 300))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": padded,
        "tokenizer.ggml.token_type": [3 if token in ("<bos>", "<eos>") else 1 for token in tokens]
        + [5] * (300 - len(tokens)),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 257,
        "tokenizer.ggml.add_bos_token": False,
    }


def read_tensors(model: Any, architecture: str) -> dict[str, np.ndarray]:
    """Return a model's tensors by the names, and in the form, that llama.cpp's converter gives them."""
    number = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(number, model.config.num_hidden_layers)
    tied = model.config.tie_word_embeddings
    found = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and tied:
            continue
        data = value.numpy()
        if ".experts." in key:
            layer = f"blk.{key.split('.')[2]}"
            if key.endswith("gate_up_proj"):
                gate, up = np.split(data, 2, axis=1)
                found |= {f"{layer}.ffn_gate_exps.weight": gate, f"{layer}.ffn_up_exps.weight": up}
            else:
                found[f"{layer}.ffn_down_exps.weight"] = data
            continue
        name = names.get_name(key, (".weight", ".bias"))
        assert name is not None, key
        if architecture == "llama" and (".q_proj." in key or ".k_proj." in key):
            heads = model.config.num_attention_heads if ".q_proj." in key else model.config.num_key_value_heads
            data = data.reshape(heads, 2, -1, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
        if architecture in ("gemma2", "gemma3") and "norm" in key:
            data = data + 1
        if architecture == "gpt2" and ".h." in key and key.endswith("weight") and data.ndim == 2:
            data = data.T
        if "shared_expert_gate" in key:
            data = data.reshape(-1)
        found[name] = np.ascontiguousarray(data)
    return found


def write(path: Path, architecture: str, keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    """Write a file; a whole number becomes 32 bits wide, with the sign it has."""
    writer = GGUFWriter(str(path), architecture)
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif key.startswith("split."):
            writer.add_uint16(key, value)
        else:
            kind = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
            writer.add_key_value(key, value, kind.get(type(value), GGUFValueType.STRING))
    for name, data in tensors.items():
        writer.add_tensor(name, data.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_model(path: Path, model: Any, architecture: str, change: Change | None = None) -> Path:
    """Write a model; `change` may edit its keys and tensors first."""
    keys = {**describe(model, architecture), **describe_tokens()}
    tensors = read_tensors(model, architecture)
    if change:
        change(keys, tensors)
    return write(path, architecture, keys, tensors)


def write_parts(folder: Path, model: Any, parts: int, **more: Any) -> list[Path]:
    """Write a model as gguf-split does: all keys, and more, in the first part, tensors dealt out."""
    keys, tensors = {**describe(model, "llama"), **describe_tokens(), **more}, read_tensors(model, "llama")
    names, paths = list(tensors), []
    for part in range(parts):
        split = {"split.no": part, "split.count": parts}
        here = {name: tensors[name] for name in names[part::parts]}
        path = folder / f"big-{part + 1:05}-of-{parts:05}.gguf"
        paths.append(write(path, "llama", {**(keys if part == 0 else {}), **split}, here))
    return paths


def load_gguf(path: Path) -> LoadedModel:
    """Load a file through the library, on the CPU, with nothing stored."""
    return load(ModelSpec(str(path), "float32", "cpu"), Store(None), path.parent / "cache")


def read_logits(model: Any) -> torch.Tensor:
    """Logits of two short texts."""
    with torch.no_grad():
        return model(IDS).logits


def refuse_gguf(path: Path, match: str) -> None:
    """See that a file is refused in one line, and that nothing is left of it."""
    with pytest.raises(ModelError, match=match) as caught:
        load_gguf(path)
    assert "\n" not in str(caught.value)
    assert not list((path.parent / "cache" / "models").glob("*"))
