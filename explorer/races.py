"""[Mask], a scorer -> the best mask, without scoring the others on all windows. Imports no torch.

Candidates are scored on the same windows, a few at a time, and one is dropped as soon as a paired interval over the
windows so far says that it cannot win. All that is asked for is `Scorer`, so that another executor can answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.masks import Mask
from explorer.records import Progress, Score, unreported

#: Scores masks on some windows of the text that a search decides by.
Scorer = Callable[[Sequence[Mask], slice], list[Score]]

_FIRST = 2  # windows before anybody is dropped: the fewest with a variance
_PRIOR = 3  # degrees of freedom that a variance borrows from its neighbours
_NEIGHBOURS = 15  # to each side


@dataclass(frozen=True)
class Race:
    """How a race went.

    Args:
        winner: the best candidate's score, on all windows.
        windows: for each candidate, in the order given, how many windows it was scored on.
        n_windows: how many there were.
    """

    winner: Score
    windows: tuple[int, ...]
    n_windows: int

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
    scorer: Scorer,
    n_windows: int,
    confidence: float = 0.95,
    progress: Progress = unreported,
) -> Race:
    """Find the candidate with the fewest nats; the first of equals.

    Args:
        candidates: distinct masks.
        scorer: answers for slices of range(n_windows), each asked for once.
        n_windows: how many windows there are.
        confidence: of the one-sided interval by which a candidate is dropped; 1 drops none, and is exact.
        progress: told candidates times windows, the dropped ones' as done.

    Raises:
        ValueError: no candidates, or a confidence outside (0, 1].
    """
    if not candidates or not 0 < confidence <= 1:
        raise ValueError(f"a race of {len(candidates)} candidates at confidence {confidence}")
    alive = np.arange(len(candidates))  # indices of those not dropped
    nats = np.zeros((len(candidates), 0))
    scored = np.zeros(len(candidates), dtype=int)
    parts: list[list[Score]] = [[] for _ in candidates]
    while (done := nats.shape[1]) < n_windows:
        rows = slice(done, n_windows if confidence == 1 else min(n_windows, max(_FIRST, math.ceil(1.25 * done))))
        found = scorer([candidates[int(i)] for i in alive], rows)
        nats = np.hstack([nats, [score.nats for score in found]])
        for index, score in zip(alive, found, strict=True):
            parts[index].append(score)
        scored[alive] = rows.stop
        if rows.stop < n_windows:
            staying = ~_beaten(nats, confidence)
            alive, nats = alive[staying], nats[staying]
        dropped = len(candidates) - len(alive)
        progress(
            len(alive) * rows.stop + dropped * n_windows,
            len(candidates) * n_windows,
            f"{len(alive)} of {len(candidates)} candidates left",
        )
    best = alive[nats.sum(axis=1).argmin()]
    return Race(Score.joined(parts[best]), tuple(map(int, scored)), n_windows)


def _beaten(nats: np.ndarray, confidence: float) -> np.ndarray:
    """Tell which candidates (candidates, windows) lose to the one that leads, as far as one can see.

    The test is a paired one-sided t-test with moderated variances (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004;
    the trend is that of candidates with like means): a few windows say little about a variance, the neighbours more.
    """
    from scipy.special import stdtrit

    n = nats.shape[1]
    differences = nats - nats[nats.sum(axis=1).argmin()]
    means, own = differences.mean(axis=1), differences.var(axis=1, ddof=1)
    variances = ((n - 1) * own + _PRIOR * _smoothed(own, np.argsort(means))) / (n - 1 + _PRIOR)
    return means > stdtrit(n - 1 + _PRIOR, confidence) * np.sqrt(variances / n)


def _smoothed(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Mean of each value and its neighbours in an order."""
    smoothed = np.empty_like(values)
    for place, index in enumerate(order):
        smoothed[index] = values[order[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1]].mean()
    return smoothed
