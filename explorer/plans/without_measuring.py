"""Methods that look at nothing: the deepest layers first, and a random order."""

from __future__ import annotations

import random

from explorer.masks import Mask
from explorer.plans.cumulative_masks import accumulate_masks
from explorer.plans.method import SEED, UNITS, Method, Planner


def _choose_deepest(planner: Planner) -> tuple[Mask, ...]:
    last = Mask.of_layers([planner.n_layers - 1])
    return planner.follow(accumulate_masks(unit for unit in reversed(planner.units) if unit != last))


def _choose_at_random(planner: Planner) -> tuple[Mask, ...]:
    return planner.follow(accumulate_masks(random.Random(planner.seed).sample(planner.units, len(planner.units))))


DEEPEST = Method("deepest", "Deepest", "Gromov et al., arXiv:2403.17887", ("layer",), _choose_deepest, "", "no pass")
RANDOM = Method("random", "Random", "baseline", UNITS, _choose_at_random, "", "no pass", (SEED,))
