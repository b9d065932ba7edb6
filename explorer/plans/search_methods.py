"""The searches as methods: greedy, beam and evolution."""

from __future__ import annotations

from explorer.masks import Mask
from explorer.plans.method import CONFIDENCE, CRITERION, MODIFY, SEED, SITES_FIRST, Method, Option, Planner


def _choose_greedily(planner: Planner) -> tuple[Mask, ...]:
    return planner.search().greedy().masks


def _choose_by_beam(planner: Planner) -> tuple[Mask, ...]:
    return planner.search().beam(planner.width).masks


def _choose_by_evolution(planner: Planner) -> tuple[Mask, ...]:
    return planner.search().evolve(planner.width, planner.seed).masks


_OPTIONS = (CRITERION, MODIFY, CONFIDENCE)
_COST = "a pass a mask, step by step"

GREEDY = Method(
    "greedy", "Greedy", "BlockPruner, arXiv:2406.10594", SITES_FIRST, _choose_greedily, "logits", _COST, _OPTIONS
)
BEAM = Method(
    "beam", "Beam", "beam search over masks", SITES_FIRST, _choose_by_beam, "logits", _COST,
    (*_OPTIONS, Option("width", "masks kept of each size")),
)  # fmt: skip
EVOLVE = Method(
    "evolve", "Evolve", "EvoPress, arXiv:2410.14649", SITES_FIRST, _choose_by_evolution, "logits", _COST,
    (*_OPTIONS, SEED, Option("width", "quarter of the children of a generation")),
)  # fmt: skip
