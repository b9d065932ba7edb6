"""The keys of a GGUF file -> the config of a transformers model, with nothing left to a config class' defaults."""

from __future__ import annotations

from typing import Any

from explorer.checkpoints.gguf.decoders import ARCHITECTURES
from explorer.checkpoints.gguf.file import GgufFile, refuse
from explorer.checkpoints.gguf.keys import Keys
from explorer.checkpoints.gguf.tokens import special_id


def make_config(file: GgufFile) -> dict[str, Any]:
    """Return `model_type` and all fields of the config.

    Raises ModelError: an architecture that is not read, or a key that is missing, wrong or without a meaning.
    """
    maker = ARCHITECTURES.get(file.architecture)
    if maker is None:
        refuse(file.path, f"the architecture {file.architecture!r} is not read", "Use the model's safetensors")
    keys = Keys(file)
    keys.only("attention.causal", True)
    if keys.integer("block_count") > len(file.tensors):
        refuse(file.path, f"{keys.prefix}block_count is {keys.integer('block_count')}, and it has fewer tensors")
    config = {**_general(keys), **maker(keys)}
    keys.finish()
    return config


def _general(keys: Keys) -> dict[str, Any]:
    tokens = keys.file.fields.get("tokenizer.ggml.tokens")
    embedding = keys.file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        refuse(keys.file.path, "token_embd.weight is missing")
    rows = embedding.shape[0]
    if keys.integer("vocab_size", rows) != rows or (isinstance(tokens, list) and len(tokens) > rows):
        refuse(keys.file.path, f"its embedding has {rows} rows, which is not its number of tokens")
    return {
        "vocab_size": rows,
        "tie_word_embeddings": "output.weight" not in keys.file.tensors,
        "bos_token_id": special_id(keys.file, "bos"),
        "eos_token_id": special_id(keys.file, "eos"),
        "pad_token_id": special_id(keys.file, "padding"),
    }
