"""What a layer's modules were given -> what its maps read: one tensor a map, one an expert of the maps of experts."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from explorer.model import Given
from explorer.modifiers import ExpertMaps
from explorer.sparsity.targets import Target

#: What a map reads, or each expert of several.
Reads = list[Float[Tensor, "positions _"]]


def list_reads(target: Target, seen: Given) -> dict[tuple[str, ...], Reads]:
    """Return what the maps of a layer read, by the names of those that read the same."""
    names: dict[int, tuple[str, ...]] = {}
    found: dict[tuple[str, ...], Reads] = {}
    for linear in target.maps:
        if isinstance(linear, ExpertMaps):
            found[linear.name,] = _list_expert_reads(target, linear, seen)
        else:
            place = seen.given[linear.name].data_ptr()
            names[place] = (*names.get(place, ()), linear.name)
    return found | {joined: [seen.given[joined[0]].flatten(0, 1)] for joined in names.values()}


def _list_expert_reads(target: Target, experts: ExpertMaps, seen: Given) -> Reads:
    """Return the tokens that each expert is sent; for the maps out of them, what the maps into them make of these."""
    given, chosen = (each[experts.watched].flatten(0, 1) for each in (seen.given, seen.chosen))
    routed, first = experts.route(given, chosen), experts.first
    if first is None:
        return routed
    find, deltas = target.setting.loaded.wrappers.weight, target.setting.variant.deltas
    weights = first.read(find(target.layer, first.parameter, deltas))
    biases = find(target.layer, f"{first.name}_bias", deltas) if first.module.has_bias else [None] * len(weights)
    return [experts.activate(F.linear(*each)) for each in zip(routed, weights, biases, strict=True)]
