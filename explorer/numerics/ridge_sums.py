"""Ridge regression from sums over batches, its penalty chosen by cross-validation over folds of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

#: Penalties tried, times the mean of the diagonal of the features' Gram matrix.
PENALTIES = tuple(float(penalty) for penalty in np.logspace(-4, 0, 9))


@dataclass(frozen=True)
class RidgeSolution:
    """A map fitted by ridge regression.

    Args:
        weights: y ~ x weights.
        penalty: chosen, times the mean of the diagonal of the Gram matrix.
        error: squares left in the folds that were not fitted on, over all squares; 1 and above: it explains nothing.
    """

    weights: Float[Tensor, "values outputs"]
    penalty: float
    error: float


class RidgeSums:
    """Sums of x'x, x'y and y'y over batches, fold by fold: float64, and nothing of the batches themselves.

    Args:
        inputs: numbers in x.
        outputs: numbers in y.
        folds: parts of the data that are left out in turns; with a single one that has data there is no
            cross-validation, and the largest penalty is taken.
        intercept: the last number in x is 1, and its weight is not penalised.
    """

    def __init__(self, inputs: int, outputs: int, folds: int, intercept: bool = False) -> None:
        self.penalised = torch.ones(inputs, dtype=torch.float64)
        self.penalised[inputs - intercept :] = 0
        self.gram = torch.zeros((folds, inputs, inputs), dtype=torch.float64)
        self.cross = torch.zeros((folds, inputs, outputs), dtype=torch.float64)
        self.squares = torch.zeros(folds, dtype=torch.float64)

    def add(
        self,
        x: Float[Tensor, "positions values"],
        y: Float[Tensor, "positions outputs"],
        fold: int,
        weights: Float[Tensor, " positions"] | None = None,
    ) -> None:
        """Add a batch to a fold; each of its positions counts by its weight."""
        x, y = x.float(), y.float()
        if weights is not None:
            root = weights.sqrt()[:, None]
            x, y = x * root, y * root
        self.gram[fold] += (x.T @ x).cpu()
        self.cross[fold] += (x.T @ y).cpu()
        self.squares[fold] += y.double().square().sum().cpu()

    @property
    def finite(self) -> bool:
        """Whether nothing that was added overflowed."""
        return bool(self.gram.isfinite().all() and self.cross.isfinite().all() and self.squares.isfinite().all())

    def solve(self, penalties: Sequence[float] = PENALTIES) -> RidgeSolution:
        """Fit y ~ x weights, with the penalty that leaves the fewest squares in the folds left out.

        Penalties are tried from the middle one in the direction in which fewer are left.
        """
        gram, cross = self.gram.sum(0), self.cross.sum(0)
        unit = float(gram.diagonal()[self.penalised > 0].mean()) or 1.0
        used = [fold for fold in range(len(self.squares)) if self.squares[fold] > 0]
        if len(used) < 2 or len(penalties) == 1:
            penalty = max(penalties)
            return RidgeSolution(self._solve(gram, cross, penalty * unit), penalty, float("nan"))

        def find_left(penalty: float) -> float:
            return sum(self._find_left(gram, cross, fold, penalty * unit) for fold in used) / float(self.squares.sum())

        penalty, error = _descend(penalties, find_left)
        return RidgeSolution(self._solve(gram, cross, penalty * unit), penalty, error)

    def _find_left(
        self,
        gram: Float[Tensor, "values values"],
        cross: Float[Tensor, "values outputs"],
        fold: int,
        penalty: float,
    ) -> float:
        """Return the squares that a fit to the other folds, of all whose sums are given, leaves in a fold."""
        rest = gram - self.gram[fold]
        share = float(rest.diagonal().sum() / gram.diagonal().sum())
        weights = self._solve(rest, cross - self.cross[fold], penalty * share)
        fitted = (weights * (self.gram[fold] @ weights - 2 * self.cross[fold])).sum()
        return float(self.squares[fold] + fitted)

    def _solve(
        self, gram: Float[Tensor, "values values"], cross: Float[Tensor, "values outputs"], penalty: float
    ) -> Float[Tensor, "values outputs"]:
        """Solve (gram + penalty I) weights = cross."""
        shifted = gram + torch.diag(penalty * self.penalised)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        return torch.linalg.pinv(shifted, hermitian=True) @ cross if failed else torch.cholesky_solve(cross, factor)


def _descend(values: Sequence[float], function: Callable[[float], float]) -> tuple[float, float]:
    """Return the value at which a function with one valley is lowest, and how low, from the middle downhill."""
    found: dict[int, float] = {}
    place, best = len(values) // 2, None
    while place != best:
        best = place
        near = range(max(0, best - 1), min(len(values), best + 2))
        found |= {each: function(values[each]) for each in near if each not in found}
        place = min(near, key=found.__getitem__)
    return values[place], found[place]
