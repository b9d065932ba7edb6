"""Which sites are off: the one type for layer and sublayer pruning, and its text form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from explorer.errors import MaskError, shorten

Part = Literal["attention", "mlp"]
PARTS: tuple[Part, ...] = ("attention", "mlp")


@dataclass(frozen=True, order=True)
class Site:
    """One place where a layer adds to the residual stream. Layers count from 0."""

    layer: int
    part: Part

    def __str__(self) -> str:
        return f"{self.part[0]}{self.layer}"


_LONGEST = 100_000  # characters of a mask's text: room for every other one of 10,000 layers

_TERM = re.compile(r"([am]?)([0-9]{1,4})(?:-([0-9]{1,4}))?")
_PARTS: dict[str, tuple[Part, ...]] = {"": ("attention", "mlp"), "a": ("attention",), "m": ("mlp",)}


@dataclass(frozen=True)
class Mask:
    """The set of sites that are off.

    A layer that is off is both of its sites, so layer and sublayer pruning are one type. The text form
    `12-15,a20,m3-4` (whole layers, attention only, MLP only; `none` when empty) is canonical: `parse` and
    `str` are inverse, and equal masks print alike. Masks combine as sets do: `|`, `-`, `<=`.
    """

    sites: frozenset[Site] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Mask:
        """Read the text form. Raises MaskError on malformed text."""
        remedy = "Write layers, a-sites and m-sites like 12-15,a20,m3-4, or none"
        if len(text) > _LONGEST:
            raise MaskError("The mask is too long", f"{len(text)} characters of at most {_LONGEST}", remedy)
        terms = [term.strip() for term in text.strip().split(",")]
        if terms == ["none"]:
            return cls()
        ranges: list[tuple[str, int, int]] = []
        for term in terms:
            match = _TERM.fullmatch(term)
            if match is None:
                raise MaskError("Malformed mask", f"{shorten(repr(term), 60)} in {shorten(repr(text), 200)}", remedy)
            ranges.append((match[1], int(match[2]), int(match[3] or match[2])))
            if ranges[-1][2] < ranges[-1][1]:
                raise MaskError("Malformed mask", f"the range {term!r} runs backwards", remedy)
        return cls(frozenset(_expand(ranges)))

    @classmethod
    def of_layers(cls, layers: Iterable[int]) -> Mask:
        """Turn whole layers off."""
        return cls(frozenset(Site(layer, part) for layer in layers for part in _PARTS[""]))

    def __str__(self) -> str:
        attention, mlp = self._layers("attention"), self._layers("mlp")
        terms = [
            *_ranges("", attention & mlp),
            *_ranges("a", attention - mlp),
            *_ranges("m", mlp - attention),
        ]
        return ",".join(terms) or "none"

    def __repr__(self) -> str:
        return str(self)  # that of a set differs from process to process

    def __bool__(self) -> bool:
        return bool(self.sites)

    def __or__(self, other: Mask) -> Mask:
        return Mask(self.sites | other.sites)

    def __sub__(self, other: Mask) -> Mask:
        return Mask(self.sites - other.sites)

    def __le__(self, other: Mask) -> bool:
        return self.sites <= other.sites

    @property
    def mask(self) -> Mask:
        """Itself: it is a variant without deltas."""
        return self

    @property
    def deltas(self) -> tuple[()]:
        """What is changed: nothing."""
        return ()

    @property
    def key(self) -> str:
        """The text under which numbers are stored."""
        return str(self)

    def without(self, more: Mask) -> Mask:
        """Turn more off, as a variant does."""
        return self | more

    def _layers(self, part: Part) -> set[int]:
        return {site.layer for site in self.sites if site.part == part}

    @cached_property
    def whole_layers(self) -> frozenset[int]:
        """The layers with both sites off."""
        return frozenset(self._layers("attention") & self._layers("mlp"))

    def off(self, layer: int) -> tuple[bool, bool]:
        """Tell whether (attention, MLP) of this layer are off."""
        return Site(layer, "attention") in self.sites, Site(layer, "mlp") in self.sites

    def checked(self, n_layers: int) -> Mask:
        """Return this mask. Raises MaskError if it names a layer that the model lacks."""
        beyond = sorted({site.layer for site in self.sites if site.layer >= n_layers})
        if beyond:
            raise MaskError(
                "Mask out of range",
                f"it names layer {beyond[0]}, the model has layers 0 to {n_layers - 1}",
                "Name only layers that exist",
            )
        return self


#: The mask under which everything is on.
NONE = Mask()


def _expand(ranges: Sequence[tuple[str, int, int]]) -> Iterator[Site]:
    """List the sites of (kind, first, last), marked before they are made: ranges may name one over and over."""
    marked = {part: bytearray(1 + max(last for _, _, last in ranges)) for part in PARTS}
    for kind, first, last in ranges:
        for part in _PARTS[kind]:
            marked[part][first : last + 1] = b"\1" * (last + 1 - first)
    return (Site(layer, part) for part in PARTS for layer, off in enumerate(marked[part]) if off)


def _ranges(kind: str, layers: set[int]) -> Iterator[str]:
    """Write layers as `3`, `5-8`, ascending, each with its kind in front."""
    ordered = sorted(layers)
    starts = [layer for layer in ordered if layer - 1 not in layers]
    ends = [layer for layer in ordered if layer + 1 not in layers]
    for start, end in zip(starts, ends, strict=True):
        yield f"{kind}{start}" if start == end else f"{kind}{start}-{end}"
