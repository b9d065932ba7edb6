"""What was tried, as text: mask and modifiers in a link and in the store, and a title. Imports no Streamlit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from explorer.deltas import ModifierSpec, read_modifiers, write_modifiers
from explorer.errors import ExplorerError
from explorer.execution import View
from explorer.masks import NONE, Mask
from explorer.modifiers import find_modifier

#: Variants that are compared at once, at the most.
MOST = 12

_BETWEEN, _BEFORE_MODIFIERS = "~", ":"


@dataclass(frozen=True)
class Tried:
    """A variant by what makes it.

    Args:
        mask: what is off.
        modify: what makes up for it, or changes the rest.
    """

    mask: Mask = NONE
    modify: tuple[ModifierSpec, ...] = ()

    @classmethod
    def of(cls, view: View) -> Tried:
        """Return what a view has set."""
        return cls(view.mask, view.modify if view.recovers else ())

    @classmethod
    def parse(cls, text: str) -> Tried:
        """Read `12-15`, `12-15:refit` or `none:wanda`. Raises MaskError, ModifyError."""
        mask, _, modify = text.partition(_BEFORE_MODIFIERS)
        found = read_modifiers(modify)
        for spec in found:
            find_modifier(spec)
        return cls(Mask.parse(mask), found)

    @property
    def key(self) -> str:
        """The text that `parse` reads, under which stars are kept."""
        return f"{self.mask}{_BEFORE_MODIFIERS}{write_modifiers(self.modify)}".removesuffix(_BEFORE_MODIFIERS)

    @property
    def title(self) -> str:
        """What it is called where nobody named it."""
        return " + ".join([str(self.mask), *map(str, self.modify)]) if self != Tried() else "Unpruned"

    def __bool__(self) -> bool:
        return self != Tried()


def write_variants(tried: Iterable[Tried]) -> str:
    """Write variants as the part of a link that says which are compared."""
    return _BETWEEN.join(each.key for each in tried)


def read_variants(text: str, n_layers: int) -> tuple[list[Tried], list[str]]:
    """Read the part of a link; what is not valid is left out, and a line about each is returned.

    Args:
        text: what `write_variants` wrote, or somebody's own.
        n_layers: L.
    """
    found, notices = list[Tried](), list[str]()
    for part in filter(None, text.split(_BETWEEN)):
        try:
            each = Tried.parse(part)
            each.mask.checked(n_layers)
        except ExplorerError as error:
            notices.append(f"A variant of the link was skipped. {error}")
        else:
            if each and each not in found:
                found.append(each)
    if len(found) > MOST:
        notices.append(f"The link's first {MOST} variants are compared; there are {len(found)}.")
    return found[:MOST], notices
