"""[Mask], their losses -> the best masks, without scoring the others on all windows. Imports no torch.

Candidates are scored on the same windows, a few at a time, and one is dropped as soon as a paired interval over the
windows so far says that it cannot win. All that is asked for is `LossFunction`, so that another executor can answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from explorer.masks import Mask
from explorer.progress import Progress, unreported

#: Gives what is to be low, such as nats, for masks on some windows of the text that a search decides by;
#: infinite where a model's arithmetic overflowed.
LossFunction = Callable[[Sequence[Mask], slice], Float64[np.ndarray, "masks windows"]]


def excess_loss(
    losses: Float[np.ndarray, " *any"], baseline: Float[np.ndarray, " *#any"]
) -> Float[np.ndarray, " *any"]:
    """Return what is lost against a base: infinite where either is not finite."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(losses) & np.isfinite(baseline), losses - baseline, np.inf)


_FIRST = 2  # windows before anybody is dropped: the fewest with a variance
_PRIOR = 3  # degrees of freedom that a variance borrows from its neighbours
_NEIGHBOURS = 15  # to each side


@dataclass(frozen=True)
class Race:
    """How a race went.

    Args:
        best: the candidates that came in first, the winner before all.
        losses: theirs.
        windows: for each candidate, in the order given, how many windows it was scored on.
        order: the candidates by number, from the best: who stayed longer, then who was less behind at the end.
        n_windows: how many there were.
    """

    best: tuple[Mask, ...]
    losses: Float64[np.ndarray, "masks windows"]
    windows: tuple[int, ...]
    order: tuple[int, ...]
    n_windows: int

    @property
    def winner(self) -> Mask:
        """The best candidate."""
        return self.best[0]

    @property
    def totals(self) -> tuple[float, ...]:
        """Losses of the best candidates on all windows."""
        return tuple(map(math.fsum, self.losses))

    @property
    def evaluations(self) -> int:
        """Candidates times windows that were scored."""
        return sum(self.windows)

    @property
    def saved(self) -> int:
        """Candidates times windows that were not."""
        return len(self.windows) * self.n_windows - self.evaluations


def race(
    candidates: Sequence[Mask],
    losses: LossFunction,
    n_windows: int,
    confidence: float = 0.95,
    keep: int = 1,
    progress: Progress = unreported,
    together: int = 1,
) -> Race:
    """Find the candidates with the least loss, the first of equals before the others. An infinite loss loses.

    Args:
        candidates: distinct masks.
        losses: answers for slices of range(n_windows), each asked for once, but for where the best overflow.
        n_windows: how many windows there are.
        confidence: of the one-sided interval by which a candidate is dropped; 1 drops none, and is exact.
        keep: how many of the best are wanted.
        progress: told candidates times windows, the dropped ones' as done.
        together: windows that cost as much as one of them; rounds are multiples of it.

    Raises:
        ValueError: no candidates, a confidence outside (0, 1], or none to keep.
    """
    if not candidates or not 0 < confidence <= 1 or keep < 1:
        raise ValueError(f"a race of {len(candidates)} candidates at confidence {confidence} for the best {keep}")
    alive = np.arange(len(candidates))  # indices of those not dropped
    found = np.zeros((len(candidates), 0))
    scored, behind = np.zeros(len(candidates), dtype=int), np.zeros(len(candidates))
    while (done := found.shape[1]) < n_windows:
        wanted = n_windows if confidence == 1 else max(_FIRST, math.ceil(1.25 * done))
        rows = slice(done, min(n_windows, math.ceil(wanted / together) * together))
        found = np.hstack([found, losses([candidates[int(i)] for i in alive], rows)])
        means = found.mean(axis=1)
        scored[alive], behind[alive] = rows.stop, np.where(np.isfinite(means), means - min(means.min(), 1e300), np.inf)
        if rows.stop < n_windows:
            staying = ~_beaten(found, confidence, keep)
            alive, found = alive[staying], found[staying]
        dropped = len(candidates) - len(alive)
        progress(
            len(alive) * rows.stop + dropped * n_windows,
            len(candidates) * n_windows,
            f"{len(alive)} of {len(candidates)} candidates left",
        )
    best = found.sum(axis=1).argsort(kind="stable")[:keep]
    if len(alive) < len(candidates) and not np.isfinite(found[best]).all():  # one that was dropped may be finite
        return race(candidates, losses, n_windows, 1.0, keep, progress)
    winners, order = tuple(candidates[int(i)] for i in alive[best]), np.lexsort((behind, -scored))
    return Race(winners, found[best], tuple(map(int, scored)), tuple(map(int, order)), n_windows)


def _beaten(
    losses: Float64[np.ndarray, "masks windows"], confidence: float, keep: int = 1
) -> Bool[np.ndarray, " masks"]:
    """Tell which candidates lose to the last of those to keep, as far as one can see.

    The test is a paired one-sided t-test with moderated variances (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004;
    the trend is that of candidates with like means): a few windows say little about a variance, the neighbours more.
    """
    from scipy.special import stdtrit

    beaten = np.zeros(len(losses), dtype=bool)
    if len(losses) <= keep:
        return beaten
    n = losses.shape[1]
    last = losses.sum(axis=1).argsort(kind="stable")[keep - 1]
    finite = np.isfinite(losses).all(axis=1)
    if not finite[last]:  # fewer than are to be kept have a loss at all
        return beaten
    beaten[~finite] = True
    others = np.delete(np.flatnonzero(finite), np.searchsorted(np.flatnonzero(finite), last))
    if not len(others):
        return beaten
    differences = losses[others] - losses[last]
    means, own = differences.mean(axis=1), differences.var(axis=1, ddof=1)
    variances = ((n - 1) * own + _PRIOR * _smoothed(own, np.argsort(means))) / (n - 1 + _PRIOR)
    beaten[others] = means > stdtrit(n - 1 + _PRIOR, confidence) * np.sqrt(variances / n)
    return beaten


def _smoothed(values: Float[np.ndarray, " masks"], order: Int[np.ndarray, " masks"]) -> Float[np.ndarray, " masks"]:
    """Mean of each value and its neighbours in an order."""
    smoothed = np.empty_like(values)
    for place, index in enumerate(order):
        smoothed[index] = values[order[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1]].mean()
    return smoothed
