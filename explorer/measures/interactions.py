"""Units, losses -> Interactions: what two removals cost together beyond what each costs alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from explorer.masks import NONE, Mask
from explorer.numerics import LossFunction, excess_loss
from explorer.progress import Progress, unreported

_TOGETHER = 64  # pairs asked for at once: enough to share what they have in common, few enough to be told soon


@dataclass(frozen=True)
class Interactions:
    """Damage of pairs.

    Args:
        units: what is removed, each a mask.
        leave_one_out: nats a token lost without each unit.
        pairs: nats a token lost without both, minus both of the singles; symmetric, NaN where not known yet
            and on the diagonal, infinite where the arithmetic overflowed. Below 0 the two stand in for each other's
            work less than feared: one of them gone, the other matters less. Above 0 each makes up for the other.
        windows: windows that each pair is known on.
        n_windows: windows that there will be.
    """

    units: tuple[Mask, ...]
    leave_one_out: Float64[np.ndarray, " units"]
    pairs: Float64[np.ndarray, "units units"]
    windows: Int64[np.ndarray, "units units"]
    n_windows: int


def interact(
    units: Sequence[Mask],
    losses: LossFunction,
    n_windows: int,
    tokens: int,
    listener: Callable[[Interactions], None] = lambda found: None,
    progress: Progress = unreported,
) -> Interactions:
    """Score all pairs of units, a coarse lattice first, then all on a quarter of the windows, then on all.

    Args:
        units: masks that do not overlap.
        losses: nats of masks on slices of windows.
        n_windows: how many windows there are.
        tokens: predicted tokens in a window.
        listener: told the map as it fills.
        progress: told pairs times windows.
    """
    n_units = len(units)
    pairs = [(i, j) for i in range(n_units) for j in range(i + 1, n_units)]
    masks = {(i, j): units[i] | units[j] for i, j in pairs}
    alone, both = np.zeros((n_units, n_windows)), np.full((n_units, n_units, n_windows), np.nan)
    done, total = 0, len(pairs) * n_windows
    progress(done, total, f"{len(pairs)} pairs")
    for rows in _slices(n_windows):
        baseline, *leave_one_out = losses([NONE, *units], rows)
        alone[:, rows] = excess_loss(np.array(leave_one_out), baseline)
        for part in _coarse_first(pairs, n_units):
            found = excess_loss(losses([masks[pair] for pair in part], rows), baseline)
            for (i, j), lost in zip(part, found, strict=True):
                both[i, j, rows] = both[j, i, rows] = excess_loss(lost, alone[i, rows] + alone[j, rows])
            done += len(part) * (rows.stop - rows.start)
            progress(done, total, f"{len(pairs)} pairs")
            listener(_gather(units, alone[:, : rows.stop], both, tokens))
    return _gather(units, alone, both, tokens)


def _gather(
    units: Sequence[Mask],
    alone: Float64[np.ndarray, "units known"],
    both: Float64[np.ndarray, "units units windows"],
    tokens: int,
) -> Interactions:
    known = ~np.isnan(both)
    windows = known.sum(-1)
    sums = np.where(known, both, 0).sum(-1)
    pairs = np.divide(sums, windows * tokens, out=np.full(windows.shape, np.nan), where=windows > 0)
    return Interactions(tuple(units), alone.mean(axis=1) / tokens, pairs, windows, both.shape[-1])


def _slices(n_windows: int) -> list[slice]:
    first = max(1, n_windows // 4)
    return [slice(0, first), slice(first, n_windows)] if first < n_windows else [slice(0, n_windows)]


def _coarse_first(pairs: list[tuple[int, int]], n_units: int) -> Iterator[list[tuple[int, int]]]:
    """Part the pairs: those on a coarse lattice, then the rest, some at a time, neighbours together."""
    step = max(1, n_units // 8)
    coarse = [(i, j) for i, j in pairs if i % step == 0 and j % step == 0] if step > 1 else []
    rest = sorted(set(pairs) - set(coarse))
    for part in (coarse, rest):
        yield from (part[start : start + _TOGETHER] for start in range(0, len(part), _TOGETHER))
