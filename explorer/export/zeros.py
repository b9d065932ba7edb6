"""A reloaded copy -> whether the zeros that modifiers put into matrices are zeros there, too."""

from __future__ import annotations

from collections.abc import Iterator

from explorer.deltas import Variant
from explorer.errors import ExportError
from explorer.masks import Mask
from explorer.model import LoadedModel, ModelWrappers
from explorer.sparsity import ZeroCounts, ZerosInMatrix, count_zeros, list_zeros


def check_zeros(
    loaded: LoadedModel, reloaded: ModelWrappers, kept: list[int], variant: Mask | Variant
) -> ZeroCounts | None:
    """Count the zeros of a variant's matrices; None where no modifier put any there.

    Args:
        loaded: the model.
        reloaded: what was written.
        kept: the layers that were written, in order.
        variant: what is off, and changed.

    Raises ExportError: an entry that is zero in the variant is not in the file.
    """

    def compare() -> Iterator[ZerosInMatrix]:
        for each in list_zeros(loaded, variant):
            written = each.linear.read(reloaded.weight(kept.index(each.layer), each.linear.parameter))
            if lost := int((each.zeros.to(written.device) & (written != 0)).sum()):
                raise ExportError(
                    "Zeros are not zeros in the file",
                    f"{lost:,} of {each.linear.name} in layer {each.layer}",
                    "Use --format transformers, or gguf with blocks that keep zeros, such as gguf-q8_0",
                )
            yield each

    return count_zeros(compare())
