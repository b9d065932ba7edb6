"""Layout -> the YAML with which mergekit builds the same: passthrough, layers left out, projections scaled by 0."""

from __future__ import annotations

import math
import re
from itertools import groupby
from typing import Any

import yaml

from explorer.errors import ExportError
from explorer.export.tensor_layout import Layout
from explorer.masks import PARTS, Site
from explorer.model import LoadedModel

FILE = "mergekit.yaml"


def make_yaml(loaded: LoadedModel, layout: Layout, source: str, config: dict[str, Any]) -> str:
    """Write the configuration for mergekit-yaml.

    Args:
        source: hub id or folder of the original.
        config: what config.json has to say; mergekit itself changes only the number of layers.

    Raises ExportError: mergekit would write something else.
    """
    if layout.cuts:
        found = f"{min(layout.cuts)} has a part of each layer, and it copies that whole"
        raise ExportError("mergekit cannot write this checkpoint", found, "Use --format transformers")
    count = loaded.config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if left := _find_change(loaded.checkpoint.config, config, count):
        raise ExportError(
            "mergekit cannot write this checkpoint", f"it leaves {left} as it was", "Use --format transformers"
        )
    slices = [
        {"sources": [_source(source, run, off)]}
        for off, layers in groupby(layout.kept, lambda layer: _filters(loaded, layout, layer))
        for run in _runs(list(layers))
    ]
    return yaml.safe_dump({"merge_method": "passthrough", "slices": slices}, sort_keys=False, width=math.inf)


def _source(model: str, run: tuple[int, int], off: tuple[str, ...]) -> dict[str, Any]:
    """Describe a run (first, last) of layers, with the projections in `off` scaled by 0."""
    source: dict[str, Any] = {"model": model, "layer_range": [run[0], run[1] + 1]}
    if off:
        scale = [*({"filter": name, "value": 0.0} for name in off), {"value": 1.0}]
        source["parameters"] = {"scale": scale}
    return source


def _find_change(old: Any, new: Any, count: str) -> str | None:
    """Name the first key, in any part of a config, whose value changes; the number of layers excepted."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            if found := _find_change(before, after, count):
                return found
        elif before != after and key != count:
            return key
    return None


def _filters(loaded: LoadedModel, layout: Layout, layer: int) -> tuple[str, ...]:
    """Name the projections to be zeroed in a layer, as parts of tensor names."""
    architecture = loaded.architecture.at(layer)
    patterns = {"attention": architecture.attention_out, "mlp": architecture.mlp_out}
    names = []
    for part in PARTS:
        if Site(layer, part) in layout.zero_sites:
            found = re.fullmatch(r"((?:\w+\\\.)*\w+)\\\.\.\+", patterns[part])
            if found is None:
                raise ExportError("mergekit cannot zero this part", f"{part} of {layer}", "Turn off whole layers only")
            names.append(found[1].replace("\\", ""))
    return tuple(names)


def _runs(layers: list[int]) -> list[tuple[int, int]]:
    """Return (first, last) of each run of consecutive layers."""
    runs = [[layer for _, layer in group] for _, group in groupby(enumerate(layers), lambda pair: pair[1] - pair[0])]
    return [(run[0], run[-1]) for run in runs]
