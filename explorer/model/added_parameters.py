"""Deltas -> the parameters that a model has more by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from explorer.deltas import Delta
from explorer.model.architecture import has_own_head

if TYPE_CHECKING:
    from explorer.model.loading import LoadedModel


def count_added(loaded: LoadedModel, deltas: Sequence[Delta]) -> int:
    """Count the parameters that stand in, and those of a head that was the embedding until a delta changed it."""
    standing = sum(delta.parameters_added for delta in deltas)
    untied = any(loaded.n_layers in delta.weights for delta in deltas) and not has_own_head(loaded.model)
    return standing + (loaded.wrappers.weight(loaded.n_layers, "weight").numel() if untied else 0)
