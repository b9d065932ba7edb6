"""Calibration windows -> those that are trained on, in their order, and those kept apart to choose a checkpoint by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

#: One window in so many is not trained on.
APART = 8
#: But no more of them: every checkpoint is judged by all.
MOST_APART = 32


@dataclass(frozen=True)
class TrainingWindows:
    """Windows by their number.

    Args:
        ids: all of them.
        order: those that are trained on, one step's after the other's.
        apart: those that are not.
    """

    ids: Int[np.ndarray, "windows window"]
    order: Int[np.ndarray, " chosen"]
    apart: Int[np.ndarray, " known"]


def deal_out(ids: Int[np.ndarray, "windows window"], count: int, seed: int) -> TrainingWindows:
    """Keep every eighth window apart, the last at least, and draw an order of the others anew each time they are seen.

    Of many windows 32 are kept apart, in equal steps. A single window is trained on and judged by.

    Args:
        ids: the windows.
        count: how many are trained on altogether, windows that come again counted again.
        seed: of the order.
    """
    step = max(APART, len(ids) // MOST_APART)
    apart = np.arange(step - 1, len(ids), step)[:MOST_APART] if len(ids) >= APART else np.array([len(ids) - 1])
    trained = np.setdiff1d(np.arange(len(ids)), apart) if len(ids) > 1 else apart
    draw = np.random.default_rng(seed)
    epochs = [draw.permutation(trained) for _ in range(-(-count // len(trained)))]
    order = np.concatenate([*epochs, np.array([], np.int64)])[:count]
    return TrainingWindows(ids, order.astype(np.int64), apart)
