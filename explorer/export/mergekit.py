"""Layout -> the YAML with which mergekit builds the same: passthrough, layers left out, projections scaled by 0."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any

from explorer.errors import ExportError
from explorer.export.layout import Layout
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
    count = loaded.config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if left := _find_change(loaded.checkpoint.config, config, count):
        raise ExportError(
            "mergekit cannot write this checkpoint", f"it leaves {left} as it was", "Use --format transformers"
        )
    lines = ["merge_method: passthrough", "slices:"]
    for off, run in groupby(layout.kept, lambda layer: _filters(loaded, layout, layer)):
        for first, last in _runs(list(run)):
            lines += [
                "  - sources:",
                f"      - model: {json.dumps(source)}",
                f"        layer_range: [{first}, {last + 1}]",
            ]
            if off:
                lines += ["        parameters:", "          scale:"]
                lines += [
                    line for name in off for line in (f"            - filter: {name}", "              value: 0.0")
                ]
                lines += ["            - value: 1.0"]
    return "\n".join(lines) + "\n"


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
    architecture = loaded.architecture
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
