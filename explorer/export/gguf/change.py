"""GgufModel of a file, changed weights -> a GgufModel: their tensors encoded anew, finely enough to keep the change.

What a tensor was changed by is smaller than the steps of a coarse type, and rounding would take it back: one below 8
bits is written in q8_0, or in f16 where no block of that divides its rows.
"""

from __future__ import annotations

from dataclasses import replace

from explorer.checkpoints import convert, convert_back
from explorer.export.changes import ChangedTensors
from explorer.export.gguf.convert import as_numbers, encode
from explorer.export.gguf.model import GgufModel
from explorer.export.merge import Merge
from explorer.model import LoadedModel

#: Relative change of the perplexity that rounding to a type may make.
LOSSY = {"f32": 0.0, "f16": 0.01, "bf16": 0.02, "q8_0": 0.05}

#: Those that hold every number of a dtype.
_HOLDS = {"float32": ("f32",), "float16": ("f32", "f16"), "bfloat16": ("f32", "bf16")}


def change(
    loaded: LoadedModel, model: GgufModel, written: GgufModel, weights: ChangedTensors
) -> tuple[GgufModel, Merge]:
    """Return what is to be written with changed weights in it, and what became of them.

    Args:
        loaded: the model, loaded from the file.
        model: what the file has.
        written: the same, in the types that are written.
        weights: a parameter's name in the model -> what it becomes.

    Raises ExportError: a changed weight is in no tensor of the file, or shares one.
    """
    merge, tensors = Merge(weights, loaded.model), []
    for tensor in written.tensors if weights else ():
        found = convert(model.architecture, loaded.checkpoint.config, tensor.name)
        names = found[0] if found else []
        back = convert_back(model.architecture, loaded.checkpoint.config, tensor.name)
        if len(names) != 1 or (data := merge.pick(names[0])) is None:
            tensors.append(tensor)
        else:
            tensors.append(encode(tensor.name, tensor.type, back(as_numbers(data))))
    merge.check()
    return (replace(written, tensors=tuple(tensors)) if weights else written), merge


def tell_types(before: GgufModel, after: GgufModel) -> tuple[str, ...]:
    """Say in which types changed tensors are that did not keep their own."""
    own = {tensor.name: tensor.type for tensor in before.tensors}
    moved = [tensor for tensor in after.tensors if tensor.type != own[tensor.name]]
    kinds = sorted({(own[tensor.name].name, tensor.type.name) for tensor in moved})
    return tuple(
        f"Changed tensors in {kind[1].lower()}, for {kind[0].lower()} would round the change away: "
        f"{sum((own[t.name].name, t.type.name) == kind for t in moved)}."
        for kind in kinds
    )


def find_loss(dtype: str, before: GgufModel, after: GgufModel) -> float:
    """Return the relative change of the perplexity that rounding the changed tensors may make.

    Args:
        dtype: that the weights were measured in.
        before, after: without and with them.
    """
    kinds = {b.type.name.lower() for a, b in zip(before.tensors, after.tensors, strict=True) if a is not b}
    return max((LOSSY[kind] for kind in kinds if kind not in _HOLDS.get(dtype, ())), default=0.0)
