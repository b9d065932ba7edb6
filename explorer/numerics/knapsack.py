"""One of several ways for each part, all together within a budget and with the least damage."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64


def choose_within(
    sizes: Float64[np.ndarray, "groups chosen"], damages: Float64[np.ndarray, "groups chosen"], budget: float
) -> list[int] | None:
    """Choose a column of each row so that the sizes sum to a budget at most and the damages to the least.

    A 0/1 program, solved exactly (scipy's HiGHS). None if even the smallest do not fit. NaN is never chosen.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    known = np.isfinite(damages)
    one_each = np.kron(np.eye(len(sizes)), np.ones(sizes.shape[1]))
    unit = max(float(sizes.max()), 1.0)  # bytes of a layer beside sums of zeros and ones are out of proportion
    found = milp(
        np.where(known, damages, 0.0).ravel(),
        integrality=np.ones(sizes.size, dtype=int),
        bounds=Bounds(np.zeros(sizes.size), known.ravel().astype(float)),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(sizes.ravel()[None] / unit, -np.inf, budget / unit),
        ],
    )
    return None if found.x is None else found.x.reshape(sizes.shape).argmax(1).tolist()
