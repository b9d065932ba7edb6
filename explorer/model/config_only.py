"""A model's config alone -> its CostModel: every module is made, no weight is downloaded, read or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explorer.checkpoints import DEFAULT_MODEL, FORMS, check_config, resolve_checkpoint
from explorer.errors import DeviceError, ModelError, UnsupportedModel, first_line
from explorer.guarding import guarded
from explorer.model.architecture import find_architecture
from explorer.model.auto_class import find_auto_class
from explorer.model.cost_model import CostModel
from explorer.model.parameter_counts import count_parameters
from explorer.model.placement import DTYPES
from explorer.paths import expand_user
from explorer.reading import exists, read_json
from explorer.storage import Store


def count_parameters_of_config(
    name: str, dtype: str, store: Store, cache: Path, trust_remote_code: bool = False
) -> tuple[str, CostModel]:
    """Return a model's architecture and what it would hold, from its config.

    The layers are made on the meta device, so that a model of any size takes no memory. The self-check, which needs
    weights, is not run.

    Args:
        name: hub id, folder, or a config.json file of any name; the default model and a GGUF are converted first.
        dtype: of the weights and the KV cache; `auto` is the config's.
        trust_remote_code: run the code that comes with a folder or repository.

    Raises:
        DeviceError: no such dtype.
        ModelError: no config there, or one that transformers cannot read.
        UnsupportedModel: not a decoder that this program knows.
    """
    import torch

    from explorer.model.weights import without_kernels

    if dtype not in ("auto", *DTYPES):
        raise DeviceError("Unknown dtype", repr(dtype), "Use auto, " + ", ".join(DTYPES))
    config = without_kernels(_read(name, store, cache, trust_remote_code))
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


def _read(name: str, store: Store, cache: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig
    from transformers.utils import cached_file

    path = expand_user(name)
    if (name == DEFAULT_MODEL and not exists(path)) or path.suffix.lower() == ".gguf":
        path = resolve_checkpoint(name, store, cache).folder
    elif not exists(path) and name.startswith((".", "/", "~")):
        raise ModelError("No such config", name, "Give a hub id, a folder with a config.json, or a config file")
    remedy = "Give a hub id that can be reached, a folder with a config.json, or a config file"
    with guarded(f"Cannot get the config of {name!r}", remedy):
        local = exists(path)
        file = path if local and not path.is_dir() else cached_file(str(path) if local else name, "config.json")
        check_config(read_json(Path(str(file)), ModelError, "Cannot read the config", remedy))
        return AutoConfig.from_pretrained(str(path) if local else name, trust_remote_code=trust_remote_code)
