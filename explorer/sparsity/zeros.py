"""Variant -> the zeros that modifiers put into its matrices, those that later changes have left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from explorer.deltas import Variant
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.modifiers import LinearMap, list_expert_maps, list_linear_maps
from explorer.sparsity.sparsity import METHODS, Marks, Sparsity


@dataclass(frozen=True)
class ZerosInMatrix:
    """Where a matrix of a variant is zero.

    Args:
        layer: which layer.
        linear: the matrix.
        sparsity: what was asked for.
        zeros: where it is zero.
    """

    layer: int
    linear: LinearMap
    sparsity: Sparsity
    zeros: Marks


@dataclass(frozen=True)
class ZeroCounts:
    """How many zeros the matrices have that a modifier put zeros into.

    Args:
        matrices: their number.
        share: of their entries that are zero.
        least, most: that share in the row with the fewest, and with the most.
        pattern: the N:M that was asked for, in the order of the deltas; empty where none was.
        holding: matrices in which every group of M has at most N others.
    """

    matrices: int
    share: float
    least: float
    most: float
    pattern: str
    holding: int

    def __str__(self) -> str:
        words = (
            f"{self.share:.1%} of the entries of {self.matrices} matrices, {self.least:.1%} to {self.most:.1%} of a row"
        )
        return f"{words}; {self.pattern} holds in {self.holding} of them" if self.pattern else words

    def describe(self) -> dict[str, Any]:
        """Return the counts, for JSON."""
        return asdict(self)


def list_zeros(loaded: LoadedModel, variant: Mask | Variant) -> Iterator[ZerosInMatrix]:
    """Yield the matrices that the variant's modifiers put zeros into, one at a time."""
    for layer in range(loaded.n_layers):
        yield from list_zeros_of_layer(loaded, variant, layer)


def list_zeros_of_layer(loaded: LoadedModel, variant: Mask | Variant, layer: int) -> Iterator[ZerosInMatrix]:
    """Yield the matrices of a layer that the variant's modifiers put zeros into, one at a time."""
    for linear in (*list_linear_maps(loaded, layer, variant.mask), *list_expert_maps(loaded, layer, variant.mask)):
        name = linear.parameter
        made = [delta.modifier for delta in variant.deltas if name in delta.weights.get(layer, {})]
        if asked := [modifier for modifier in made if modifier.name in METHODS]:
            weight = linear.read(loaded.wrappers.weight(layer, name, variant.deltas))
            yield ZerosInMatrix(layer, linear, Sparsity.of(asked[-1]), weight == 0)


def count_zeros(found: Iterable[ZerosInMatrix]) -> ZeroCounts | None:
    """Count the zeros of matrices; None if there are no matrices."""
    matrices, entries, zeros, holding, rows, patterns = 0, 0, 0, 0, list[float](), dict[str, None]()
    for each in found:
        shares = each.zeros.double().mean(-1)
        rows += [float(shares.min()), float(shares.max())]
        matrices, entries, zeros = matrices + 1, entries + each.zeros.numel(), zeros + int(each.zeros.sum())
        if each.sparsity.group:
            patterns[str(each.sparsity)] = None
            holding += each.sparsity.holds(each.zeros)
    if not matrices:
        return None
    return ZeroCounts(matrices, zeros / entries, min(rows), max(rows), ", ".join(patterns), holding)
