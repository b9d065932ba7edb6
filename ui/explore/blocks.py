"""What colours the triangle of the instrument: a number for each block of layers, by the measure that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64

from explorer.charts import TOKEN_LABELS, sample_scale
from explorer.execution import Job
from explorer.masks import PARTS
from explorer.measures import MEASURES, SimilarityStats

_DIGITS = 4  # significant ones that travel
_COLOURS = 64
_REMEMBERED = 64  # triangles


def describe_blocks(name: str, similarity: Job, layers: Float64[np.ndarray, " layers"] | None) -> dict[str, Any] | None:
    """Describe the triangle: by size and first layer, the lower the more redundant; None where it is not measured yet.

    Args:
        name: how tokens are taken together for the angular distance, or another measure.
        similarity: the job that measures the residual stream.
        layers: what another measure says of each layer, the lower the more redundant; a block is the sum of its layers.
    """
    if name in TOKEN_LABELS:
        return _describe_distances(name, similarity) if similarity.state == "done" else None
    if layers is None:
        return None
    label = MEASURES[name].label.lower() if name in MEASURES else "damage alone"
    title = f"{label[:1].upper()}{label[1:]}, summed over layers"
    return _describe(_sum_blocks(layers), name, f"sum of {label}", title)


@lru_cache(_REMEMBERED)
def _describe_distances(tokens: str, similarity: Job) -> dict[str, Any]:
    """Describe the angular distances of a measurement that is done."""
    title = f"Angular distance, {TOKEN_LABELS[tokens].lower()}"
    return _describe(similarity.result.angular_distance(tokens), tokens, "angular distance", title)


def _describe(values: Sequence[Float64[np.ndarray, " starts"]], name: str, label: str, title: str) -> dict[str, Any]:
    return {
        "values": [_list_known(row) for row in values],
        "label": label,
        "title": title,
        "palette": sample_scale(_COLOURS),
        "sign": -1 if name in MEASURES and MEASURES[name].redundant == "high" else 1,
    }


def find_best_block(blocks: dict[str, Any], size: int) -> int | None:
    """Return the first layer of the most redundant block of a size in a described triangle; None if there is none."""
    rows = blocks["values"][size - 1 : size] if size > 0 else []
    known = [(value, start) for row in rows for start, value in enumerate(row) if value is not None]
    return min(known)[1] if known else None


def describe_influence(similarity: Job) -> dict[str, list[float | None]] | None:
    """Describe the block influence of each layer and each cell; None where it is not measured yet."""
    return _describe_influence(similarity) if similarity.state == "done" else None


@lru_cache(_REMEMBERED)
def _describe_influence(similarity: Job) -> dict[str, list[float | None]]:
    found: SimilarityStats = similarity.result
    sites = np.concatenate([found.block_influence(part) for part in PARTS])
    return {"layers": _list_known(found.block_influence("layer")), "sites": _list_known(sites)}


def _list_known(values: Float64[np.ndarray, " values"]) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]


def _sum_blocks(layers: Float64[np.ndarray, " layers"]) -> Sequence[Float64[np.ndarray, " starts"]]:
    sums = np.concatenate([[0.0], np.cumsum(layers)])
    return [sums[size:] - sums[:-size] for size in range(1, len(sums))]
