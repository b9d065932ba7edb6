"""An affine map stands in for a removed block or site.

A block by x + A B x + b, as Siddiqui et al. (arXiv:2407.16286) train it and GRASP (arXiv:2411.00339) cuts it out of its
weights, here in closed form; attention by its best linear estimate from its input, as NBL (arXiv:2505.21077).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from explorer.deltas import StandIn
from explorer.modifiers import FOLDS, Fitted, Modifier, Option, Pairs, Setting, weigh_tokens
from explorer.numerics import RidgeSums
from explorer.recovery.stand_ins import fit_stand_ins

#: Times the mean of the diagonal of sum of x'x.
_PENALTIES = tuple(float(penalty) for penalty in np.logspace(-6, 1, 15))


def find_map(setting: Setting, pairs: Iterable[Pairs]) -> StandIn:
    """Fit y ~ x W + b by ridge regression; of a rank R the map of that rank that is nearest on the data.

    With S = sum of x'x the map W V V' leaves the fewest squares of x W, where V are the R leading eigenvectors of
    W' S W (reduced-rank regression, Izenman, J. Multivariate Analysis 5, 1975).
    """
    width = setting.loaded.config.hidden_size
    sums = RidgeSums(width + 1, width, FOLDS, intercept=True)
    for batch in pairs:
        x, weights = torch.cat([batch.x, torch.ones_like(batch.x[..., :1])], -1), weigh_tokens(batch.stream + batch.y)
        for fold, part in setting.folds(batch.rows):
            sums.add(x[part].flatten(0, 1), batch.y[part].flatten(0, 1), fold, weights[part].flatten())
    setting.check_finite(sums.finite)
    fitted = sums.solve(_PENALTIES)
    weights, bias = fitted.weights[:-1], fitted.weights[-1]
    rank = int(setting.number("rank"))
    if not 0 < rank < width:
        return StandIn(weight=weights, bias=bias)
    return StandIn(bias=bias, **_reduce(weights, sums.gram.sum(0)[:-1, :-1], rank))


def _reduce(
    weights: Float64[Tensor, "width outputs"], gram: Float64[Tensor, "width width"], rank: int
) -> dict[str, Float64[Tensor, " *any"]]:
    _, vectors = torch.linalg.eigh(weights.T @ gram @ weights)
    leading = vectors[:, -rank:]
    return {"down": weights @ leading, "up": leading.T.contiguous()}


def _fit(setting: Setting) -> Fitted:
    return fit_stand_ins(setting, find_map)


LINEAR = Modifier(
    "linear", "Linear map", "Siddiqui et al., arXiv:2407.16286; NBL, arXiv:2505.21077", "stand-ins",
    "What is off is replaced by an affine map of what it would have read.", "one pass", _fit,
    (Option("rank", "rank of the map; 0 is full", "0"),),
)  # fmt: skip
