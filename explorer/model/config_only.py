"""A model's config alone -> its CostModel: every module is made, no weight is downloaded, read or in memory.

Most decoders are counted in closed form. Of the others what was counted is stored; torch and transformers are imported
only to count.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from explorer.checkpoints import DEFAULT_MODEL, FORMS, check_config, resolve_checkpoint
from explorer.errors import DeviceError, ModelError, UnsupportedModel, first_line
from explorer.guarding import guarded
from explorer.model.architecture import find_architecture
from explorer.model.auto_class import find_auto_class
from explorer.model.cost_model import CostModel
from explorer.model.plain_decoder import count_plain_decoder
from explorer.paths import expand_user
from explorer.reading import exists, read_json
from explorer.storage import Store, describe_libraries, make_key

_REMEDY = "Give a hub id that can be reached, a folder with a config.json, or a config file"
_FAULT = "Cannot get the config of {!r}"


def count_parameters_of_config(
    name: str, dtype: str, store: Store, cache: Path, trust_remote_code: bool = False
) -> tuple[str, CostModel]:
    """Return a model's architecture and what it would hold, from its config.

    The layers are made on the meta device, so that a model of any size takes no memory. The self-check, which needs
    weights, is not run. Stored is what only a config file decides, and no code that comes with it.

    Args:
        name: hub id, folder, or a config.json file of any name; the default model and a GGUF are converted first.
        dtype: of the weights and the KV cache; `auto` is the config's.
        trust_remote_code: run the code that comes with a folder or repository.

    Raises:
        DeviceError: no such dtype.
        ModelError: no config there, or one that transformers cannot read.
        UnsupportedModel: not a decoder that this program knows.
    """
    path = _find(name, store, cache)
    with guarded(_FAULT.format(name), _REMEDY):
        content = check_config(read_json(_find_file(name, path), ModelError, "Cannot read the config", _REMEDY))
        written = json.dumps(content, sort_keys=True)
    if (plain := count_plain_decoder(content, dtype)) is not None:
        return plain
    key = make_key("config", content=written, dtype=dtype, libraries=describe_libraries())
    if not trust_remote_code and (stored := store.arrays(key)) is not None:
        architecture, counts = json.loads(stored["counts"].item())
        return architecture, CostModel(**{field: _as_tuples(value) for field, value in counts.items()})
    architecture, cost_model = _count(name, path, dtype, trust_remote_code)
    if not trust_remote_code:
        store.add_arrays(key, {"counts": np.array(json.dumps([architecture, asdict(cost_model)]))})
    return architecture, cost_model


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _count(name: str, path: Path | None, dtype: str, trust_remote_code: bool) -> tuple[str, CostModel]:
    import torch
    from transformers import AutoConfig

    from explorer.model.parameter_counts import count_parameters
    from explorer.model.placement import DTYPES
    from explorer.model.weights import without_kernels

    if dtype not in ("auto", *DTYPES):
        raise DeviceError("Unknown dtype", repr(dtype), "Use auto, " + ", ".join(DTYPES))
    with guarded(_FAULT.format(name), _REMEDY):
        config = AutoConfig.from_pretrained(str(path or name), trust_remote_code=trust_remote_code)
    config = without_kernels(config)
    wanted = (config.dtype or torch.float32) if dtype == "auto" else DTYPES[dtype]
    try:
        with torch.device("meta"):
            model = find_auto_class(config).from_config(config, dtype=wanted, trust_remote_code=trust_remote_code)
    except Exception as error:  # each architecture checks its config in a way of its own
        raise UnsupportedModel(
            "No causal language model can be made of the config", f"{name} ({first_line(error)})", FORMS
        ) from error
    architecture = find_architecture(model)
    if not architecture.attention:
        raise UnsupportedModel(
            "Attention and MLP are not told apart by a config", type(model).__name__, "Load the model, with its weights"
        )
    return type(model).__name__, count_parameters(model, architecture)


def _find(name: str, store: Store, cache: Path) -> Path | None:
    """Return the folder or the file where a config is; None for a name on the hub."""
    path = expand_user(name)
    if (name == DEFAULT_MODEL and not exists(path)) or path.suffix.lower() == ".gguf":
        return resolve_checkpoint(name, store, cache).folder
    if exists(path):
        return path
    if name.startswith((".", "/", "~")):
        raise ModelError("No such config", name, "Give a hub id, a folder with a config.json, or a config file")
    return None


def _find_file(name: str, path: Path | None) -> Path:
    if path is not None:
        return path / "config.json" if path.is_dir() else path
    from transformers.utils import cached_file

    return Path(str(cached_file(name, "config.json")))
