"""GgufModel, Mask -> a GgufModel: blocks dropped and renumbered, per-layer values in step, no tensor decoded.

Whole layers stay in the architecture that the file has. Single attention and MLPs of Llamas and Qwen2 are left out as
llama.cpp reads it of `deci`: a layer with no heads has no attention. It takes a layer without an MLP for none at all,
so an MLP that is off becomes one of 32 rows of zeros; and it wants attention in its first layer, where one that is
off becomes one head of zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from gguf import GGUFValueType
from jaxtyping import UInt8

from explorer.errors import ExportError
from explorer.export.formats import only_whole_layers
from explorer.export.gguf.model import Field, GgufModel, Tensor, make_zeros
from explorer.masks import Mask

#: Architectures whose layers do not depend on their number.
_ALIKE = frozenset(
    {
        *("llama", "deci", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma", "phi2", "phi3", "granite", "olmo2"),
        *("stablelm", "starcoder2", "gpt2", "gptneox", "bloom", "falcon"),
    }
)

#: Architectures whose full attention comes every so many layers; only some say in the file which ones.
_EVERY = {"gemma3": 6, "gemma2": 2, "gpt-oss": 2, "cohere2": 4, "smollm3": 4}
_SAYS = frozenset({"gemma3"})

#: Keys that may hold one entry a layer, and such that hold a list for other reasons.
_PER_LAYER = frozenset(
    {"attention.head_count", "attention.head_count_kv", "attention.sliding_window_pattern", "feed_forward_length"}
)
_OTHER_LISTS = frozenset({"rope.dimension_sections"})

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_TINY = 32  # rows of an MLP that is off: a block of every quantized type's width


def prune(model: GgufModel, mask: Mask) -> GgufModel:
    """Return the model under a mask. Raises ExportError if llama.cpp would compute another function."""
    n_layers = int(model.get("block_count"))
    kept = [layer for layer in range(n_layers) if layer not in mask.whole_layers]
    model = _keep_pattern(model, kept)
    if not only_whole_layers(mask):
        model = _as_deci(model, n_layers)
    fields = {name: _slice(model.architecture, name, field, kept, n_layers) for name, field in model.fields.items()}
    tensors = [made for tensor in model.tensors for made in _place(model, tensor, mask, kept)]
    pruned = replace(model, fields=fields, tensors=tuple(tensors))
    pruned = pruned.with_fields(block_count=Field(len(kept), GGUFValueType.UINT32))
    return pruned if only_whole_layers(mask) else _count_heads(pruned, mask, kept)


def _slice(architecture: str, name: str, field: Field, kept: list[int], n_layers: int) -> Field:
    """Return a value for the layers that stay. Raises ExportError for a list of as many entries that is not known."""
    own = name.removeprefix(f"{architecture}.")
    if own == name or own in _OTHER_LISTS or not isinstance(field.value, list) or len(kept) == n_layers:
        return field
    if own in _PER_LAYER and len(field.value) >= n_layers:
        return replace(field, value=[field.value[layer] for layer in kept])
    if len(field.value) == n_layers:
        found = f"{name} in the file has {n_layers} entries, as many as layers"
        raise ExportError("Layers cannot be dropped exactly", found, "Use --format transformers")
    return field


def _keep_pattern(model: GgufModel, kept: list[int]) -> GgufModel:
    """See that each layer keeps the kind of attention that it had."""
    name, n_layers = model.architecture, int(model.get("block_count"))
    if name in _ALIKE or len(kept) == n_layers:
        return model
    if name in _EVERY:
        every = _EVERY[name]
        sliding = model.get("attention.sliding_window_pattern")
        if not isinstance(sliding, list):
            sliding = [(layer + 1) % every != 0 for layer in range(n_layers)]
        if name in _SAYS:
            entries = Field(sliding, GGUFValueType.ARRAY, GGUFValueType.BOOL)
            return model.with_fields(attention__sliding_window_pattern=entries)
        if [sliding[layer] for layer in kept] == sliding[: len(kept)]:
            return model
    raise ExportError(
        "These layers cannot be dropped from the GGUF file",
        f"llama.cpp decides by a layer's number what it is in {name}",
        "Use --format transformers, and llama.cpp's own converter if it takes the result",
    )


def _as_deci(model: GgufModel, n_layers: int) -> GgufModel:
    """Say the same of a Llama in the words of `deci`, with a list for what may differ by layer."""
    mixture = any("ffn_gate_inp" in tensor.name for tensor in model.tensors)
    if model.architecture not in ("llama", "deci", "qwen2") or mixture:
        raise ExportError(
            "Single attention and MLPs cannot be left out of the GGUF file",
            f"its architecture is {model.architecture}{', a mixture of experts' * mixture}, not a plain llama or qwen2",
            "Turn off whole layers only, or use --format transformers-zeroed",
        )
    if model.architecture == "qwen2":
        model = replace(model, tensors=tuple(_interleave(model, tensor) for tensor in model.tensors))
    before = model.architecture + "."
    fields = {"deci." + k.removeprefix(before) if k.startswith(before) else k: f for k, f in model.fields.items()}
    model = replace(model, architecture="deci", fields=fields)
    heads = model.get("attention.head_count")
    if not isinstance(heads, list):
        width = model.get("rope.dimension_count") or model.get("embedding_length") // heads
        number = Field(model.get("attention.key_length") or width, GGUFValueType.UINT32)
        model = model.with_fields(attention__key_length=number, attention__value_length=number)
        model = model.with_fields(rope__dimension_count=Field(width, GGUFValueType.UINT32))
    lists = {}
    for name in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        value = model.get(name, heads)
        entries = list(map(int, value)) if isinstance(value, list) else [int(value)] * n_layers
        lists[name.replace(".", "__")] = Field(entries, GGUFValueType.ARRAY, GGUFValueType.INT32)
    return model.with_fields(**lists)


def _interleave(model: GgufModel, tensor: Tensor) -> Tensor:
    """Bring rows of queries and keys into the order of `deci`: rotated pairs are neighbours there, not halves apart.

    Rows are whole blocks at any quantization.
    """
    match = re.fullmatch(r"blk\.\d+\.attn_([qk])\.(weight|bias)", tensor.name)
    if match is None:
        return tensor
    heads = int(model.get("attention.head_count" if match[1] == "q" else "attention.head_count_kv"))

    def read() -> Iterator[UInt8[np.ndarray, "heads _ 2 _"]]:
        data = np.concatenate([piece.reshape(-1).view(np.uint8) for piece in tensor.read()])
        halves = data.reshape(heads, 2, tensor.shape[0] // heads // 2, -1)
        yield np.ascontiguousarray(halves.swapaxes(1, 2))

    return replace(tensor, read=read, mapped=None)


def _count_heads(model: GgufModel, mask: Mask, kept: list[int]) -> GgufModel:
    """Say in the lists of `deci` what is off."""
    off = [mask.off(layer) for layer in kept]
    changed = {}
    for name in ("attention.head_count", "attention.head_count_kv"):
        values = [(0 if new else 1) if off[new][0] else value for new, value in enumerate(model.get(name))]
        changed[name.replace(".", "__")] = Field(values, GGUFValueType.ARRAY, GGUFValueType.INT32)
    widths = [_TINY if off[new][1] else value for new, value in enumerate(model.get("feed_forward_length"))]
    return model.with_fields(feed_forward_length=Field(widths, GGUFValueType.ARRAY, GGUFValueType.INT32), **changed)


def _place(model: GgufModel, tensor: Tensor, mask: Mask, kept: list[int]) -> Iterator[Tensor]:
    """Yield what is written for a tensor: itself renumbered, or nothing, or zeros in the place of what is off."""
    match = _BLOCK.fullmatch(tensor.name)
    if match is None:
        yield tensor
        return
    layer, rest = int(match[1]), match[2]
    if layer in mask.whole_layers:
        return
    new = kept.index(layer)
    attention_off, mlp_off = mask.off(layer)
    gone = (attention_off and rest.startswith("attn_") and not (new == 0 and rest.startswith("attn_norm"))) or (
        mlp_off and rest.startswith("ffn_") and not rest.startswith("ffn_norm")
    )
    if not gone:
        yield replace(tensor, name=f"blk.{new}.{rest}")
    width = int(model.get("embedding_length"))
    if attention_off and new == 0 and rest == "attn_norm.weight":
        head = int(model.get("attention.key_length"))
        yield from (make_zeros(f"blk.0.attn_{name}.weight", head, width) for name in "qkv")
        yield make_zeros("blk.0.attn_output.weight", width, head)
    if mlp_off and rest == "ffn_norm.weight":
        yield from (make_zeros(f"blk.{new}.ffn_{name}.weight", _TINY, width) for name in ("gate", "up"))
        yield make_zeros(f"blk.{new}.ffn_down.weight", width, _TINY)
