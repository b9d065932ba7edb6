"""Units, losses -> what each contributes to groups of the others. Imports no torch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from explorer.masks import NONE, Mask, join
from explorer.numerics import LossFunction, excess_loss, jackknife
from explorer.progress import Progress, unreported


def measure_coalitions(
    units: Sequence[Mask], losses: LossFunction, n_windows: int, draws: int, seed: int, progress: Progress = unreported
) -> tuple[Float64[np.ndarray, " units"], Float64[np.ndarray, "windows units"]]:
    """Mean loss over coalitions without a unit minus mean loss over those with it, coalitions of half the units.

    As Siddiqui et al. run their "Shapley" (arXiv:2407.16286): for each window some coalitions are drawn, each with
    half of the units on.

    Args:
        units: masks that do not overlap.
        losses: of masks on slices of windows.
        n_windows: how many windows there are.
        draws: coalitions a window.
        seed: of the draws.
        progress: told windows.

    Returns:
        Values and their jackknife pseudo-values over windows, in what `losses` gives a window.
    """
    draw, n_units = random.Random(seed), len(units)
    on = np.zeros((n_windows, draws, n_units), dtype=bool)
    found = np.zeros((n_windows, draws))
    for window in range(n_windows):
        progress(window, n_windows, "Scoring coalitions")
        for row in on[window]:
            row[draw.sample(range(n_units), n_units - n_units // 2)] = True
        masks = [join([unit for unit, kept in zip(units, row, strict=True) if not kept]) for row in on[window]]
        found[window] = losses(masks, slice(window, window + 1))[:, 0]

    def contribution(chosen: Bool[np.ndarray, " windows"]) -> Float64[np.ndarray, " units"]:
        with_it, all_losses = on[chosen].reshape(-1, n_units), found[chosen].ravel()
        sums, counts = all_losses @ with_it, with_it.sum(0)
        return (all_losses.sum() - sums) / (len(all_losses) - counts) - sums / counts

    with np.errstate(divide="ignore", invalid="ignore"):  # a unit that is never, or always, on has no value
        return jackknife(n_windows, contribution)


def measure_shapley(
    units: Sequence[Mask], losses: LossFunction, n_windows: int, draws: int, seed: int, progress: Progress = unreported
) -> tuple[Float64[np.ndarray, " units"], Float64[np.ndarray, "draws units"]]:
    """Shapley value of each unit: its share in the damage of removing all of them, by permutation sampling.

    Units are removed in a random order; each is charged with the loss that its own removal adds, averaged over
    orders (Castro et al., Computers & Operations Research 36, 2009). The values of every order, and so their mean,
    sum to the loss with all units off minus that with none off.

    Args:
        units: masks that do not overlap.
        losses: of masks on slices of windows.
        n_windows: how many windows there are.
        draws: permutations.
        seed: of the draws.
        progress: told permutations.

    Returns:
        Values and those of each permutation, in what `losses` gives a window, averaged over windows.
    """
    draw, samples = random.Random(seed), np.zeros((draws, len(units)))
    for number in range(draws):
        progress(number, draws, "Scoring permutations")
        order = draw.sample(range(len(units)), len(units))
        masks = [NONE, *(join([units[i] for i in order[: k + 1]]) for k in range(len(order)))]
        means = losses(masks, slice(0, n_windows)).mean(axis=1)
        samples[number, order] = excess_loss(means[1:], means[:-1])
    return samples.mean(axis=0), samples
