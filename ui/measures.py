"""What colours the cells of the strip: bright is redundant, by the measure that is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.charts import shade
from explorer.masks import PARTS, Mask
from explorer.records import Redundancy, Score
from ui.engine import list_singles


@dataclass(frozen=True)
class Found:
    """What has been measured so far."""

    n_layers: int
    redundancy: Redundancy | None
    singles: Mapping[Mask, Score]


def _influence(found: Found) -> np.ndarray | None:
    if found.redundancy is None:
        return None
    return np.concatenate([found.redundancy.block_influence(part) for part in PARTS])


def _size(found: Found, power: int) -> np.ndarray | None:
    if found.redundancy is None:
        return None
    return np.concatenate([found.redundancy.sizes[power, part].mean(axis=(0, 1)) for part in PARTS])


def _damage(found: Found) -> np.ndarray | None:
    masks = list_singles(found.n_layers)
    if any(mask not in found.singles for mask in masks):
        return None
    return np.array([found.singles[mask].delta_nats_per_token for mask in masks])


#: Label -> (2L,) values, attention first; None where they are not measured yet.
MEASURES = {
    "Block influence": _influence,
    "Relative L1": lambda found: _size(found, 1),
    "Relative L2": lambda found: _size(found, 2),
    "Damage alone": _damage,
}


def describe_measure(label: str, found: Found) -> dict[str, Any] | None:
    """Describe a measure as colours and notes of the cells; None where it is not measured yet."""
    values = MEASURES[label](found)
    if values is None:
        return None
    return {"label": label, "colours": shade(values), "notes": [f"{value:.4f}" for value in values]}
