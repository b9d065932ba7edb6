"""Ridge regression, its penalty chosen by generalised cross-validation."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

_PENALTIES = np.logspace(-8, 2, 21)  # of ridge regression, times the largest eigenvalue


def fit_ridge(
    x: Float64[Tensor, "positions width"], f: Float64[Tensor, "positions outputs"]
) -> tuple[Float64[Tensor, "width outputs"], Float64[Tensor, " outputs"]]:
    """Fit f ~ x weights + bias by ridge regression, the penalty chosen by generalised cross-validation.

    Returns:
        The weights and the bias.
    """
    n, width = x.shape
    mean_x, mean_f = x.mean(0), f.mean(0)
    x, f = x - mean_x, f - mean_f
    wide = n <= width + 1  # then a map can pass through all points, and the n x n Gram matrix is the smaller one
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    values = values.clamp_min(0)
    along = vectors.T @ (f if wide else x.T @ f)
    squares, whole = along.square().sum(1), float(f.square().sum())
    best, penalty = np.inf, 0.0
    for candidate in _PENALTIES * float(values[-1].clamp_min(1e-30)):
        missed, freedom = _judge_penalty(values, squares, whole, candidate, n, wide)
        if freedom > 0 and (gcv := missed / freedom**2) < best:
            best, penalty = gcv, candidate
    solved = vectors @ (along / (values + penalty)[:, None])
    weights = x.T @ solved if wide else solved
    return weights, mean_f - mean_x @ weights


def _judge_penalty(
    values: Float64[Tensor, " values"],
    squares: Float64[Tensor, " values"],
    whole: float,
    penalty: float,
    n: int,
    wide: bool,
) -> tuple[float, float]:
    """What a penalty leaves of the squares of f, and its degrees of freedom.

    With as many parameters as points both are next to nothing: there they are sums of small terms, not differences of
    large ones. The smallest eigenvalue is then that of the mean, which is taken off, and no degree of freedom.
    """
    left = penalty / (values + penalty)
    if wide:
        return float((squares * left.square()).sum()), float(left[1:].sum())
    missed = whole - float((squares * (1 + left) / (values + penalty)).sum())
    return missed, n - 1 - len(values) + float(left.sum())
