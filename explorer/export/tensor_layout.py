"""Mask -> what becomes of each tensor: layers and sites dropped, projections zeroed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from explorer.errors import ExportError
from explorer.export.cut import Cut
from explorer.masks import PARTS, Mask, Site
from explorer.model import Architecture, Naming


def _as_it_is(name: str) -> str:
    return name


@dataclass
class Layout:
    """Places tensors by name for one model and mask, and notes which zeroed sites it has met.

    Args:
        drops_sites: leave out the tensors of sites that are off in layers that stay, else zero their projections.
        keeps_first: zero the attention of the first layer that stays all the same.
        norms: names, in a layer, of the norms that are left out with each site.
        naming: how tensors of the files are called in the model.
        stays: layers that stay though both of their sites are off.
        site_norms: names, in a layer, of norms that are left out with a single site.
        moves: layer and name in it of what stands in beside it -> the same in what is written.
        further: names of tensors outside of the layers that predict further tokens.
        cuts: name in the model of a tensor outside of the layers -> its parts that are written, of layers that stay.
        beyond: names met of such tensors, and of those that belong to layers after the last one.
    """

    architecture: Architecture
    mask: Mask
    n_layers: int
    drops_sites: bool = False
    keeps_first: bool = False
    norms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    naming: Naming = _as_it_is
    stays: frozenset[int] = frozenset()
    site_norms: dict[Site, tuple[str, ...]] = field(default_factory=dict)
    moves: dict[tuple[int, str], tuple[int, str]] = field(default_factory=dict)
    further: frozenset[str] = frozenset()
    cuts: dict[str, Cut] = field(default_factory=dict)
    zeroed: set[Site] = field(default_factory=set)
    beyond: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = self.architecture.layers.split(".")
        stacks = "|".join(re.escape(".".join(names[start:])) for start in range(len(names)))
        self._in_layer = re.compile(rf"({stacks})\.(\d+)(?:\.(.+))?")
        gone = self.mask.whole_layers - self.stays
        self.kept = [layer for layer in range(self.n_layers) if layer not in gone]
        inside = {site for site in self.mask.sites if site.layer not in gone}
        first = {Site(layer, "attention") for layer in self.kept[:1]} if self.keeps_first else set()
        self.zero_sites: set[Site] = inside & first if self.drops_sites else inside
        self.dropped_sites: set[Site] = inside - self.zero_sites

    @property
    def written(self) -> Mask:
        """The mask of what is not written; what is zeroed still is."""
        return Mask(self.mask.sites - self.zero_sites)

    def new_site(self, site: Site) -> Site:
        """Return a site of a layer that stays under the layer's new number."""
        return Site(self.kept.index(site.layer), site.part)

    def place(self, name: str) -> tuple[str, bool] | None:
        """Return a tensor's new name and whether it is zeroed, or None if it goes."""
        match = self._match(name)
        if match is None:
            if name in self.further:
                self.beyond.append(name)
            return None if (moved := self.move(name)) is None else (moved, False)
        layer, rest = int(match[2]), match[3] or ""
        if layer >= self.n_layers:
            self.beyond.append(name)
        if goal := self.moves.get((layer, ".".join(rest.split(".")[:2]))):
            return self._carry_on(name, layer, rest, *goal), False
        if any(self._belongs(site, rest) for site in self._of(self.dropped_sites, layer)):
            return None
        moved = self.move(name)
        if moved is None:
            return None
        own, called = self.architecture.at(layer), self._match(self.naming(name))
        named = {rest, called[3] or ""} if called else {rest}
        zeroing = [
            site for site in self._of(self.zero_sites, layer) if any(own.writes(site.part, each) for each in named)
        ]
        self.zeroed.update(zeroing)
        return moved, bool(zeroing)

    def cut(self, name: str) -> Cut | None:
        """Return which parts of a tensor are written; None for all."""
        return self.cuts.get(self.naming(name)) or self.cuts.get(name)

    def move(self, name: str) -> str | None:
        """Return the new name of a module or tensor, None if its layer goes.

        What reads the whole model's last state to predict further tokens stays only where every layer does.
        """
        if len(self.kept) == self.n_layers:
            return name
        match = self._match(name)
        if match is None:
            return None if name in self.further else name
        layer = int(match[2])
        return self._renumber(name, layer, self.kept.index(layer)) if layer in self.kept else None

    def _match(self, name: str) -> re.Match[str] | None:
        """Find stack, layer and the rest of a name, by what the model calls it."""
        return self._in_layer.fullmatch(self.naming(name)) or self._in_layer.fullmatch(name)

    def _renumber(self, name: str, old: int, new: int) -> str:
        """Put a layer's new number into a name: of several equal numbers the one that names the layer."""
        words = name.split(".")
        for place in (place for place, word in enumerate(words) if word == str(old)):
            moved = ".".join((*words[:place], str(new), *words[place + 1 :]))
            match = self._match(moved)
            if match and int(match[2]) == new:
                return moved
        raise ExportError("A tensor's layer cannot be renumbered", name, "Turn off sites only")

    def _carry_on(self, name: str, layer: int, rest: str, new: int, where: str) -> str:
        """Return the name of a tensor that stands in beside a layer in its new place."""
        return f"{name.removesuffix(f'{layer}.{rest}')}{new}.{where}.{rest.split('.', 2)[2]}"

    def _of(self, sites: set[Site], layer: int) -> list[Site]:
        return [site for part in PARTS if (site := Site(layer, part)) in sites]

    def _belongs(self, site: Site, tensor: str) -> bool:
        """Tell whether a tensor of a layer goes with a site."""
        norms = *self.norms.get(site.part, ()), *self.site_norms.get(site, ())
        names = *self.architecture.at(site.layer).modules(site.part), *norms
        return tensor.partition(".")[0] in names

    def check(self) -> None:
        """Raise ExportError if a site that should be zeroed had no projection among the tensors placed."""
        if lost := sorted(self.zero_sites - self.zeroed):
            raise ExportError(
                "Cannot find the projection to zero",
                f"none for {lost[0]} among the tensors",
                "Turn off whole layers only",
            )
