"""Variant = Mask + Deltas; a Mask is one without deltas."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from explorer.deltas.delta import Delta
from explorer.errors import ModifyError
from explorer.masks import NONE, Mask


@dataclass(frozen=True)
class Variant:
    """What is off and what is changed, in the order of the changes: the later delta wins.

    Args:
        mask: what is off.
        deltas: what is changed.
        removed: the part of the mask that was turned off after the deltas were made; they stay as they are.

    Raises ModifyError: a delta was made for another mask, or over other deltas.
    """

    mask: Mask = NONE
    deltas: tuple[Delta, ...] = ()
    removed: Mask = NONE

    def __post_init__(self) -> None:
        for place, delta in enumerate(self.deltas):
            if delta.mask != self.mask - self.removed:
                found = f"{delta.modifier} for {delta.mask}, and {self.mask - self.removed} is off"
                raise ModifyError("The delta was made for another mask", found, "Make it anew for this mask")
            if delta.origin.below != tuple(each.digest for each in self.deltas[:place]):
                raise ModifyError("The delta was made over others", str(delta.modifier), "Keep the order of deltas")

    def __str__(self) -> str:
        made = " + ".join([str(self.mask - self.removed), *(str(delta.modifier) for delta in self.deltas)])
        return f"{made} - {self.removed}" if self.removed else made

    def without(self, more: Mask) -> Mask | Variant:
        """Turn more off and leave the deltas as they are: what a checkpoint written of this variant loses without it.

        What stands in for something stays, in a layer that is turned off too.
        """
        return Variant(self.mask | more, self.deltas, self.removed | (more - self.mask)).plain

    @property
    def key(self) -> str:
        """The text under which numbers are stored: the mask and the digests."""
        return "+".join([str(self.mask), *(delta.digest for delta in self.deltas)])

    def checked(self, n_layers: int) -> Variant:
        """Return this variant. Raises MaskError if it names a layer that the model lacks."""
        self.mask.checked(n_layers)
        return self

    @property
    def plain(self) -> Mask | Variant:
        """The mask alone where nothing is changed."""
        return self if self.deltas else self.mask

    def __bool__(self) -> bool:
        return bool(self.mask or self.deltas)


def find_layer_key(variant: Mask | Variant, layer: int) -> Hashable:
    """Return what is otherwise in a layer: those for which it is equal run it alike from equal inputs."""
    return variant.mask.off(layer), tuple(delta.digest for delta in variant.deltas if layer in delta.layers)


def find_prefix_key(variant: Mask | Variant, layer: int) -> Hashable:
    """Return what is otherwise before a layer: those for which it is equal have the same states there."""
    before = (delta.digest for delta in variant.deltas if min(delta.layers, default=layer) < layer)
    return frozenset(site for site in variant.mask.sites if site.layer < layer), tuple(before)
