"""Config of an export -> whether the layers that it makes are the ones that stay, before anything is written.

Both configs' models are made on torch's meta device, and layers compared by what they are made of: modules, shapes, and
every plain number, word and switch in them but their own number.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from torch import nn

from explorer.errors import ExportError, first_line
from explorer.export.cut import Cut, find_cut
from explorer.export.tensor_layout import Layout
from explorer.model import LoadedModel

_OWN_NUMBER = ("layer_idx", "layer_id", "layer_index", "layer_number", "training")


def rehearse(loaded: LoadedModel, config: dict[str, Any], layout: Layout) -> dict[str, Cut]:
    """Return the tensors outside of the layers of which each layer has a part; that it is this one, the proof shows.

    Raises ExportError if a config, of the model's own class, makes other layers than those that stay.
    """
    if len(layout.kept) == loaded.n_layers or "auto_map" in config:
        return {}
    try:
        old = _make_layers(loaded, copy.deepcopy(loaded.model.config))
    except Exception:  # code of every family, on a device that it was not written for
        return {}
    try:
        new = _make_layers(loaded, type(loaded.model.config).from_dict(_read_floats(config)))
    except Exception as error:  # each architecture checks its config in a way of its own
        raise ExportError(
            "No model of these layers can be made", first_line(error), "Turn off sites only, or other layers"
        ) from error
    before, after = old.pop(), new.pop()
    both = before.keys() & after.keys()  # a head may be tied in one of them
    found = {name: find_cut(before[name], after[name], loaded.n_layers, layout.kept) for name in both}
    cuts = {name: cut for name, cut in found.items() if cut}
    if difference := _compare(*({name: shapes[name] for name in both - cuts.keys()} for shapes in (before, after))):
        raise ExportError(
            "Layers cannot be dropped exactly",
            f"a tensor outside of the layers has a part of each: {difference}",
            "Turn off sites only",
        )
    for number, layer in enumerate(layout.kept):
        if difference := _compare(old[layer], new[number]):
            raise ExportError(
                "Layers cannot be dropped exactly",
                f"layer {layer} would come back as another one: {difference}",
                "Turn off sites only, or other layers",
            )
    return cuts


def _read_floats(config: dict[str, Any]) -> dict[str, Any]:
    """Copy what config.json says, with what JSON has no number for as transformers reads it: infinity, for one."""

    def read(entry: dict[str, Any]) -> Any:
        return float(entry["__float__"]) if entry.keys() == {"__float__"} else entry

    copied: dict[str, Any] = json.loads(json.dumps(config), object_hook=read)
    return copied


def _make_layers(loaded: LoadedModel, config: Any) -> list[dict[str, Any]]:
    """Make a config's model without memory; describe its layers and, last, the shapes of all other tensors."""
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    with torch.device("meta"):
        model = type(loaded.model)._from_config(config, dtype=torch.bfloat16)
    inside = f"{loaded.architecture.layers}."
    outside = {name: tuple(each.shape) for name, each in model.named_parameters() if not name.startswith(inside)}
    return [*map(_describe, model.get_submodule(loaded.architecture.layers)), outside]


def _describe(layer: nn.Module) -> dict[str, Any]:
    """List what a layer is made of, by path."""
    described: dict[str, Any] = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    for path, module in layer.named_modules():
        described[path] = type(module).__name__
        for name, value in vars(module).items():
            if isinstance(value, (bool, int, float, str)) and name not in _OWN_NUMBER:
                described[f"{path}.{name}".lstrip(".")] = value
    return described


def _compare(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say in what two layers differ; nothing if they are alike."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            return f"{name or 'its class'} is {new.get(name, 'absent')} and was {old.get(name, 'absent')}"
    return ""
