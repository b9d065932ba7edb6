"""In which dtype each tensor of an export is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from explorer.errors import ExportError
from explorer.export.formats import Format
from explorer.model import DTYPES, LoadedModel, Naming

#: A tensor's name in the files and its dtype there -> the dtype that it is written in.
StoredDtype = Callable[[str, torch.dtype], torch.dtype]

#: Formats whose tensors are copied from files of safetensors.
_COPIED = ("transformers", "transformers-zeroed", "deci", "pruned-remote-code")

#: Relative change of the perplexity that rounding weights to a dtype may make.
_LOSSY = {torch.float16: 0.01, torch.bfloat16: 0.02}


def check_stored_dtype(name: str, target: Format) -> None:
    """Raise ExportError if weights cannot be written so: no such dtype, or the format has types of its own."""
    if name not in ("auto", *DTYPES):
        raise ExportError("Unknown dtype of an export", repr(name), "Use auto, " + ", ".join(DTYPES))
    if name != "auto" and target.name not in _COPIED:
        raise ExportError(f"{target.name} has types of its own", f"dtype {name}", "Leave it out, or use gguf-f16")


def find_stored_dtype(loaded: LoadedModel, naming: Naming, name: str) -> StoredDtype:
    """Return the dtype in which each tensor is written.

    `auto` is the dtype that it was measured in where the files have a wider one or another, and else that of the
    files: nothing is rounded that was not rounded when it was measured. A tensor that the model keeps in another dtype
    than its own (in float32, for its family needs that) is kept in it.

    Args:
        loaded: the model.
        naming: how tensors of the files are called in the model.
        name: of a dtype, or `auto`.
    """
    wanted = DTYPES.get(name)
    in_memory = {own: tensor.dtype for own, tensor in loaded.model.state_dict().items()}

    def store(tensor: str, dtype: torch.dtype) -> torch.dtype:
        measured = in_memory.get(naming(tensor), loaded.model.dtype)
        if not (dtype.is_floating_point and measured.is_floating_point):
            return dtype
        if wanted is not None and measured == loaded.model.dtype:
            return wanted
        return dtype if torch.promote_types(dtype, measured) == measured else measured

    return store


def find_loss(loaded: LoadedModel, name: str) -> float:
    """Return the relative change of the perplexity that writing in a dtype may make; 0 where it holds every number."""
    wanted, measured = DTYPES.get(name, loaded.model.dtype), loaded.model.dtype
    return 0.0 if torch.promote_types(wanted, measured) == wanted else _LOSSY[wanted]


def declare_dtype(config: dict[str, Any], dtype: torch.dtype) -> None:
    """Let a config.json name the dtype of most tensors."""
    text = str(dtype).removeprefix("torch.")
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            for key in ("dtype", "torch_dtype"):
                if key in part:
                    part[key] = text
    if "dtype" not in config and "torch_dtype" not in config:
        config["dtype"] = text
