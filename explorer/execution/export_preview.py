"""What an export would write, before it does."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.deltas import Variant
from explorer.errors import ExportError
from explorer.export import plan_export
from explorer.masks import Mask
from explorer.model import LoadedModel


@dataclass(frozen=True)
class ExportPreview:
    """What an export would write in one format.

    Args:
        bytes: of weights.
        source_bytes: of the whole model's weights, as its files hold them.
        zeroed: sites that are written as zeros.
        refused: why it cannot be written, if it cannot.
    """

    bytes: int = 0
    source_bytes: int = 0
    layers: int = 0
    zeroed: int = 0
    refused: str = ""


def preview_export(loaded: LoadedModel, variant: Mask | Variant, format: str) -> ExportPreview:
    """Tell what an export in a format would write."""
    try:
        plan = plan_export(loaded, variant, format)
    except ExportError as error:
        return ExportPreview(refused=f"{error.what}: {error.found}.")
    source = sum(path.stat().st_size for path in loaded.checkpoint.weights)
    return ExportPreview(plan.bytes, source, len(plan.layout.kept), len(plan.layout.zero_sites))
