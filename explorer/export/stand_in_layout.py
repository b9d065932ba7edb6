"""Changes, mask, and what stands in already -> where stand-ins are in what is written: config entries and tensors.

What stands in for a run of layers reads the residual stream between two layers that stay. It is kept with the one
behind it, or with the last one if none is behind it, and belongs to neither: where that layer goes, too, it moves on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from explorer.deltas import StandIn
from explorer.export.changes import Changes
from explorer.masks import Mask, Site
from explorer.model import LoadedModel

#: The tensors of a stand-in and their shapes.
Shapes = dict[str, list[int]]


@dataclass
class StandInLayout:
    """Where stand-ins are in what is written.

    Args:
        kept: layers that stay, by their old numbers.
        stays: of those, the ones both of whose sites are off.
        sites: site of what is written -> the tensors of what stands in for it.
        before: layer of what is written -> those of each that the stream passes before it.
        after: those of each that it passes after the last one.
        without_norm: site of what is written -> name of the norm between it and the stream, which is left out.
        site_norms: the same by old sites, for those that lose it now.
        moves: layer and stand-in of it in the files -> the same in what is written.
        tensors: new ones, by name.
    """

    kept: list[int]
    stays: frozenset[int] = frozenset()
    sites: dict[str, Shapes] = field(default_factory=dict)
    before: dict[str, list[Shapes]] = field(default_factory=dict)
    after: list[Shapes] = field(default_factory=list)
    without_norm: dict[str, str] = field(default_factory=dict)
    site_norms: dict[Site, tuple[str, ...]] = field(default_factory=dict)
    moves: dict[tuple[int, str], tuple[int, str]] = field(default_factory=dict)
    tensors: dict[str, Float[Tensor, " *any"]] = field(default_factory=dict)

    @property
    def entries(self) -> dict[str, Any]:
        """What config.json says of them; nothing where there are none."""
        named = {"stand_ins": self.sites, "before": self.before, "after": self.after, "without_norm": self.without_norm}
        return {name: entry for name, entry in named.items() if entry}


def read_entries(loaded: LoadedModel) -> dict[str, Any]:
    """Return what the config of a model says was taken out of it, and stands in, by an earlier export."""
    found = getattr(loaded.model.config, "pruned", None)
    return found if isinstance(found, dict) else {}


def has_stand_ins(loaded: LoadedModel) -> bool:
    """Tell whether something stands in already, in the checkpoint itself."""
    return any(read_entries(loaded).get(name) for name in ("stand_ins", "before", "after"))


def lay_out_stand_ins(loaded: LoadedModel, mask: Mask, changes: Changes) -> StandInLayout:
    """Place what deltas and the checkpoint itself have.

    Args:
        loaded: the model.
        mask: what is off, and what the checkpoint lacks.
        changes: of the variant.
    """
    alone = {min(place.sites): each for place, each in changes.stand_ins.items() if len(place.sites) == 1}
    stays = frozenset(site.layer for site in alone) & mask.whole_layers
    kept = [layer for layer in range(loaded.n_layers) if layer not in mask.whole_layers - stays]
    made = StandInLayout(kept, stays)
    _place_sites(made, loaded, mask, alone)
    _place_between(made, loaded, changes)
    return made


def _place_sites(made: StandInLayout, loaded: LoadedModel, mask: Mask, alone: dict[Site, StandIn]) -> None:
    """Place what stands in for single sites: what does already stays, unless it is off now."""
    before, architecture = read_entries(loaded), loaded.architecture
    for text, shapes in before.get("stand_ins", {}).items():
        site = min(Mask.parse(text).sites)
        if site not in mask.sites:
            made.sites[_renumber(made, site)] = shapes
    for text, norm in before.get("without_norm", {}).items():
        site = min(Mask.parse(text).sites)
        if site.layer in made.kept:
            made.without_norm[_renumber(made, site)] = norm
    for site, stand_in in alone.items():
        new, modules = _renumber(made, site), architecture.at(site.layer).modules(site.part)
        made.sites[new] = _shapes(stand_in)
        name = f"{architecture.layers}.{made.kept.index(site.layer)}.{modules[-1]}.stand_in"
        made.tensors |= {f"{name}.{key}": tensor for key, tensor in stand_in.tensors.items()}
        if (norm := architecture.at(site.layer).update(site.part)) not in modules:
            made.without_norm[new] = norm
            made.site_norms[site] = (norm,)


def _place_between(made: StandInLayout, loaded: LoadedModel, changes: Changes) -> None:
    """Place what the residual stream passes between layers, in its order."""
    entries, last = read_entries(loaded), loaded.n_layers - 1
    runs = {min(place.sites).layer: each for place, each in changes.stand_ins.items() if len(place.sites) > 1}
    passed: list[tuple[Shapes, tuple[int, str] | StandIn]] = []

    def put(new: int, where: str) -> list[Shapes]:
        for number, (_, source) in enumerate(passed):
            if isinstance(source, StandIn):
                name = f"{loaded.architecture.layers}.{new}.{where}.{number}"
                made.tensors |= {f"{name}.{key}": tensor for key, tensor in source.tensors.items()}
            else:
                made.moves[source] = new, f"{where}.{number}"
        return [shapes for shapes, _ in passed]

    for layer in range(loaded.n_layers):
        passed += _list_old(entries.get("before", {}).get(str(layer), []), layer, "before")
        if layer in runs:
            passed.append((_shapes(runs[layer]), runs[layer]))
        if layer in made.kept and passed:
            new = made.kept.index(layer)
            made.before[str(new)] = put(new, "before")
            passed = []
    passed += _list_old(entries.get("after", []), last, "after")
    made.after = put(len(made.kept) - 1, "after")


def _list_old(found: list[Shapes], layer: int, where: str) -> Iterator[tuple[Shapes, tuple[int, str]]]:
    return ((shapes, (layer, f"{where}.{number}")) for number, shapes in enumerate(found))


def _renumber(made: StandInLayout, site: Site) -> str:
    return str(Site(made.kept.index(site.layer), site.part))


def _shapes(stand_in: StandIn) -> Shapes:
    return {name: list(tensor.shape) for name, tensor in stand_in.tensors.items()}
