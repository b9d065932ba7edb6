"""Files of a checkpoint -> a transformers model with everything in memory but its layers, which are read when run.

What transformers does on loading is done by transformers' own functions, of a layer at a time: names are mapped,
experts merged and dtypes changed as for a model that is loaded whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from explorer.errors import ModelError
from explorer.model.architecture import find_architecture
from explorer.model.auto_class import find_auto_class
from explorer.model.layer_stream import LayerStream, attach_stream
from explorer.model.tensor_names import find_naming
from explorer.model.weight_files import Outline, Unread, WeightFiles


def build_streamed(
    config: Any, files: Iterable[Path], device: torch.device, dtype: torch.dtype, trust_remote_code: bool
) -> tuple[Any, dict[str, Any]]:
    """Make a model whose layers stay in the files; return also transformers' report of names and shapes.

    Args:
        config: transformers' config of the model.
        files: the weights.
        device: where everything goes.
        dtype: of the weights.
        trust_remote_code: run code that the model brings.

    Raises:
        UnsupportedModel: no list of layers is found in it.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model as put_in
    from transformers.modeling_utils import LoadStateDictConfig

    model = _make_empty(config, dtype, trust_remote_code)
    path, weights = find_architecture(model).layers, WeightFiles(files)
    layers = list(model.get_submodule(path))
    options = LoadStateDictConfig(
        ignore_mismatched_sizes=True,
        device_map={"": device},
        dtype=dtype,
        dtype_plan=model._get_dtype_plan(dtype),
        weight_mapping=get_model_conversion_mapping(model),  # type: ignore[arg-type]
    )
    of_layers = _sort_names(model, weights.names, path)
    later = {name for names in of_layers.values() for name in names}
    entries = {
        name: Outline(weights, name, dtype) if name in later else Unread(weights, name) for name in weights.names
    }
    info, _ = put_in(model, entries, replace(options, device_map={"": device, path: "meta"}))
    info = model._finalize_model_loading(model, options, info)

    def fetch(layer: int) -> None:
        with _without_bars():
            found, _ = put_in(model, {name: Unread(weights, name) for name in of_layers[layer]}, options)
        if failed := sorted(found.conversion_errors):
            raise ModelError("Cannot read the weights", f"layer {layer}, {failed[0]}", "Copy them again")
        layers[layer].requires_grad_(False)

    attach_stream(model, LayerStream(layers, fetch, weights))
    return model, info.to_dict()


@contextmanager
def _without_bars() -> Iterator[None]:
    """Have transformers show no progress in the block."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _make_empty(config: Any, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """Make a model on the meta device as transformers does before it loads weights into it."""
    from transformers.utils.generic import ContextManagers

    with torch.device("meta"):
        made = find_auto_class(config).from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    kind: Any = type(made)
    with ContextManagers(kind.get_init_context(dtype, False, False, None)):
        return kind(made.config)


def _sort_names(model: Any, names: Iterable[str], path: str) -> dict[int, list[str]]:
    """Sort the names in the files that belong to layers by the layer."""
    name_in_model = find_naming(model)
    found: dict[int, list[str]] = defaultdict(list)
    for name in names:
        inside = name_in_model(name).removeprefix(f"{path}.")
        number = inside.partition(".")[0]
        if inside != name_in_model(name) and number.isdecimal():
            found[int(number)].append(name)
    return found
