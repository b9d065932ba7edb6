"""Safetensors of a Llama-like model -> a GgufModel in f16, bf16 or q8_0; tensors are converted as they are written.

What is changed is encoded from memory, in the place of what the files have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import (
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFValueType,
    LlamaFileType,
    dequantize,
    get_tensor_name_map,
    quantize,
)
from gguf.constants import GGML_QUANT_SIZES
from jaxtyping import Float, Float32, Shaped
from safetensors import safe_open

from explorer.errors import ExportError
from explorer.export.deci import uses_window
from explorer.export.gguf.model import Field, GgufModel, Tensor
from explorer.export.gguf.rope import NAME as ROPE, can_scale, find_factors
from explorer.export.gguf.tokens import make_tokens
from explorer.export.safetensors import Replacement
from explorer.model import LoadedModel, has_own_head

_TYPES = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_FINE = {GGMLQuantizationType.F32, *(kind for kind, _ in _TYPES.values())}  # types of 8 bits and more
_DTYPES = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
_ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "mistral": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2}
_PIECE = 1 << 22  # numbers
_Numbers = Float32[np.ndarray, " ..."]


def check_converts(loaded: LoadedModel) -> None:
    """Raise ExportError if a model is not one that is converted here."""
    config = loaded.config
    found = (
        f"its type is {config.model_type}"
        if config.model_type not in _ARCHITECTURES
        else "its attention has a sliding window"
        if uses_window(config)
        else f"its rope is scaled by {config.rope_parameters['rope_type']}"
        if not can_scale(config)
        else f"its activation is {config.hidden_act}"
        if config.hidden_act != "silu"
        else "its weights are quantized"
        if "quantization_config" in loaded.checkpoint.config
        else None
    )
    if found:
        raise ExportError(
            "The model cannot be converted to GGUF here",
            found,
            "Convert the original with llama.cpp's own converter, and export from that file",
        )


def convert(loaded: LoadedModel, blocks: str, take: Replacement) -> GgufModel:
    """Describe the whole model as GGUF.

    Args:
        loaded: the model.
        blocks: the type that weights are written in.
        take: what is written in a tensor's place, by its name in the files and shape, and whether it is written.

    Raises ExportError: its tokenizer is not one that llama.cpp knows, or a tensor has no place.
    """
    config = loaded.config
    architecture = _ARCHITECTURES[config.model_type]
    name = {MODEL_ARCH.LLAMA: "llama", MODEL_ARCH.QWEN2: "qwen2"}[architecture]
    names = get_tensor_name_map(architecture, loaded.n_layers)
    tensors = []
    for path in loaded.checkpoint.weights:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118  # it is no dictionary
                if key == "lm_head.weight" and not has_own_head(loaded.model):
                    continue
                new = names.get_name(key, (".weight", ".bias"))
                if new is None:
                    raise ExportError("A tensor has no place in a GGUF file", key, "Use another format")
                heads = _count_heads(key, config) if name == "llama" else None
                shape = tuple(file.get_slice(key).get_shape())
                data = take(key, shape, True)
                source = _Source(path, key, shape, heads) if data is None else _Made(as_numbers(data), heads)
                tensors.append(_make(new, _TYPES[blocks][0], source))
    fields = {f"{name}.{key}": field for key, field in _describe(config).items()}
    factors = find_factors(config, fields[f"{name}.rope.dimension_count"].value)
    if factors is not None:
        tensors.append(_make(ROPE, _TYPES[blocks][0], _Made(factors)))
    general = {
        "general.type": Field("model", GGUFValueType.STRING),
        "general.file_type": Field(int(_TYPES[blocks][1]), GGUFValueType.UINT32),
        "general.quantization_version": Field(2, GGUFValueType.UINT32),
    }
    return GgufModel(name, {**general, **fields, **make_tokens(loaded)}, tuple(tensors))


def requantize(model: GgufModel, blocks: str) -> GgufModel:
    """Return a model with its tensors in another type."""
    tensors = tuple(_make(t.name, _TYPES[blocks][0], _Decoded(t)) for t in model.tensors)
    kind = Field(int(_TYPES[blocks][1]), GGUFValueType.UINT32)
    return replace(model, fields={**model.fields, "general.file_type": kind}, tensors=tensors)


def _count_heads(key: str, config: Any) -> int | None:
    """Heads of a query or key projection, whose rows GGUF has in another order for a Llama."""
    counts = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return next((count for name, count in counts.items() if f".{name}." in key), None)


def _describe(config: Any) -> dict[str, Field]:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    numbers = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "vocab_size": config.vocab_size,
    }
    reals = {
        "rope.freq_base": config.rope_parameters["rope_theta"],
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }
    return {key: Field(int(value), GGUFValueType.UINT32) for key, value in numbers.items()} | {
        key: Field(float(value), GGUFValueType.FLOAT32) for key, value in reals.items()
    }


@dataclass(frozen=True)
class _Source:
    """A tensor of a safetensors file; with `heads`, its rows are brought into GGUF's order."""

    path: Path
    key: str
    shape: tuple[int, ...]
    heads: int | None

    def rows(self, start: int, stop: int) -> _Numbers:
        with safe_open(self.path, "pt") as file:
            if self.heads is None:
                return file.get_slice(self.key)[start:stop].float().numpy()
            return _interleave(file.get_tensor(self.key).float().numpy(), self.heads)[start:stop]


def _interleave(data: _Numbers, heads: int) -> _Numbers:
    """Bring rows from the halves of a head to neighbours that are rotated together."""
    return data.reshape(heads, 2, -1, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)


@dataclass(frozen=True)
class _Made:
    """A tensor that no file has; with `heads`, its rows are brought into GGUF's order."""

    data: _Numbers
    heads: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def rows(self, start: int, stop: int) -> _Numbers:
        data = self.data if self.heads is None else _interleave(self.data, self.heads)
        return data[start:stop]


@dataclass(frozen=True)
class _Decoded:
    """A tensor of a GGUF file."""

    tensor: Tensor
    heads: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        *rest, last = self.tensor.shape
        if self.tensor.dtype != np.uint8:
            return self.tensor.shape
        block, size = GGML_QUANT_SIZES[self.tensor.type]
        return (*rest, last // size * block)

    def rows(self, start: int, stop: int) -> _Numbers:
        assert self.tensor.mapped is not None
        return dequantize(self.tensor.mapped[start:stop], self.tensor.type)


def as_numbers(data: Float[torch.Tensor, " *any"]) -> _Numbers:
    """Return a tensor's numbers in float32."""
    return data.detach().cpu().float().numpy()


def encode(name: str, kind: GGMLQuantizationType, data: _Numbers) -> Tensor:
    """Make a tensor of numbers in a type, or in q8_0 if that is coarser; see `_make` for vectors and odd rows."""
    kind = kind if kind in _FINE else GGMLQuantizationType.Q8_0
    return _make(name, kind, _Made(np.ascontiguousarray(data)))


def _make(name: str, kind: GGMLQuantizationType, source: _Source | _Decoded | _Made) -> Tensor:
    """Make a tensor of a type; vectors stay float32, rows that no block divides float16."""
    shape = source.shape
    if len(shape) == 1:
        kind = GGMLQuantizationType.F32
    elif shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = GGMLQuantizationType.F16
    dtype = np.dtype(_DTYPES.get(kind, np.uint8))
    if dtype == np.uint8:
        block, size = GGML_QUANT_SIZES[kind]
        shape = (*shape[:-1], shape[-1] // block * size)
    return Tensor(name, kind, shape, dtype, partial(_pieces, source, kind))


def _pieces(source: _Source | _Decoded | _Made, kind: GGMLQuantizationType) -> Iterator[Shaped[np.ndarray, " ..."]]:
    whole = source.heads is not None  # its rows are brought into another order
    width = int(np.prod(source.shape[1:], initial=1))
    step = source.shape[0] if whole else max(1, _PIECE // width)
    for start in range(0, source.shape[0], step):
        yield np.ascontiguousarray(quantize(np.ascontiguousarray(source.rows(start, start + step)), kind))
