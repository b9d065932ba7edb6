"""Made-up records to draw."""

from __future__ import annotations

import numpy as np

from explorer.charts.triangle import TOKEN_LABELS
from explorer.evaluation.divergence import Divergence
from explorer.evaluation.scores import Score
from explorer.masks.mask import Mask
from explorer.measures.similarity_stats import SimilarityStats
from explorer.model.cost_model import Costs
from explorer.plans.curve import Curve
from explorer.plans.plan import Plan, PlanSpec

LAYERS, UNITS = 5, ("layer", "attention", "mlp")


def make(layers: int = LAYERS, seed: int = 0) -> SimilarityStats:
    random = np.random.default_rng(seed)
    return SimilarityStats(
        {choice: random.random((3, layers + 1, layers + 1)) for choice in TOKEN_LABELS},
        {unit: random.random((3, 4, layers)) for unit in UNITS},
        {(power, unit): random.random((3, 4, layers)) for power in (1, 2) for unit in UNITS},
        random.random((3, 4, layers + 1)),
        tokens=12,
        corpus="digest",
        model="model",
        dtype="float32",
    )


def curve_of(*perplexities: float, seed: int = 0) -> Curve:
    plan = Plan(PlanSpec("random", seed=seed), tuple(Mask.of_layers(range(k)) for k in range(len(perplexities))), 4)
    baseline = np.full(3, 10 * np.log(perplexities[0]))
    scores = {
        k: Score(mask, 10 * np.log(p) + np.array([0, 0.1, -0.1]), baseline, 10, np.full(3, 40))
        for k, (mask, p) in enumerate(zip(plan.masks, perplexities, strict=True))
    }
    divergences = {
        k: Divergence(mask, np.full(3, 10.0 * k), np.full(3, 1.0), np.full(3, 10.0 - k), 10)
        for k, mask in enumerate(plan.masks)
    }
    return Curve(plan, scores, divergences)


def costs(mask: Mask) -> Costs:
    left = 8 - len(mask.sites)
    return Costs(100 * left, 200 * left, 10 * sum(not mask.off(layer)[0] for layer in range(4)), 1000 * left)
