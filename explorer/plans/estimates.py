"""What is known of some masks -> what another one may cost, until it is measured. Knows no torch.

All are arithmetic on negative log-likelihoods in nats a token, None where the arithmetic of the model
overflowed. The browser makes the same ones while a slider is dragged (ui/browser/values.js).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from explorer.masks import Mask, Site


def interpolate_steps(known: Sequence[float | None], step: int) -> float | None:
    """Estimate a plan's step by a straight line between the nearest measured steps on both sides.

    Args:
        known: by step, nats a token; None where a step is not measured, or overflowed.
        step: one of them; its own value if it is known.

    Returns:
        Nats a token; None without a measured step on each side.
    """
    measured = [(k, value) for k, value in enumerate(known) if value is not None]
    below = max((each for each in measured if each[0] <= step), default=None)
    above = min((each for each in measured if each[0] >= step), default=None)
    if below is None or above is None:
        return None
    (start, low), (end, high) = below, above
    part = 0.0 if start == end else (step - start) / (end - start)
    return low * (1 - part) + high * part


def add_damages(
    known: Mapping[Mask, float | None],
    damages: Mapping[Site, float | None],
    influence: Mapping[Site, float | None],
    mask: Mask,
    pairs: Mapping[tuple[int, int], float] | None = None,
) -> float | None:
    """Estimate a mask from the measured one that differs in the fewest sites, by single damages and those of pairs.

    Beyond pairs damages count as independent. Of equally near ones the mean of what each gives is taken.

    Args:
        known: measured masks, nats a token, None where the arithmetic overflowed.
        damages: by site, nats a token that are lost without it alone; None or missing where that is not known.
        influence: by site its block influence, which stands in for what is not known, see `find_rate`.
        mask: what is off.
        pairs: by two layers, the lower first, nats a token that they cost together beyond each alone; for a layer twice
            those that it costs beyond its attention and its MLP. What is missing counts as none.

    Returns:
        Nats a token; None where nothing is measured, or a site has neither damage nor influence.
    """
    measured = [(len(mask.sites ^ other.sites), nll, other) for other, nll in known.items() if nll is not None]
    apart = min((each[0] for each in measured), default=None)
    rate, beyond = find_rate(damages, influence), _add_pairs(mask, pairs or {})
    found: list[float] = []
    for nll, nearest in [(nll, other) for size, nll, other in measured if size == apart]:
        costs: list[float] = []
        for site in mask.sites ^ nearest.sites:
            damage, share = damages.get(site), influence.get(site)
            if damage is None and share is None:
                break
            cost = damage if damage is not None else rate * (share or 0.0)
            costs.append(cost if site in mask.sites else -cost)
        else:
            found.append(nll + math.fsum([*costs, beyond, -_add_pairs(nearest, pairs or {})]))
    return math.fsum(found) / len(found) if found else None


def _add_pairs(mask: Mask, pairs: Mapping[tuple[int, int], float]) -> float:
    """Add up what whole layers that are off cost beyond each site alone."""
    layers = [layer for layer in sorted({site.layer for site in mask.sites}) if all(mask.off(layer))]
    return math.fsum(pairs.get((one, other), 0.0) for at, one in enumerate(layers) for other in layers[at:])


def find_rate(damages: Mapping[Site, float | None], influence: Mapping[Site, float | None]) -> float:
    """Nats lost a unit of block influence: the upper median over sites whose damage is known, 1 while none is."""
    rates = sorted(
        damage / share
        for site, damage in damages.items()
        if damage is not None and (share := influence.get(site)) and damage / share > 0
    )
    return rates[len(rates) // 2] if rates else 1.0


def share_won_back(baseline: float | None, pruned: float | None, recovered: float | None) -> float | None:
    """Return the share of the nats lost to a mask that recovery won back; below 0 it was made worse.

    Args:
        baseline, pruned, recovered: nats a token of the unpruned, the pruned and the recovered model.

    Returns:
        The share; None where nothing was lost, or a number is missing.
    """
    if baseline is None or pruned is None or recovered is None or pruned <= baseline:
        return None
    return (pruned - recovered) / (pruned - baseline)
