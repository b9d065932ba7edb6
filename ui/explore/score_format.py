"""Scores as they travel to the browser: numbers in nats a token, and words."""

from __future__ import annotations

import math
from typing import Any

from explorer.evaluation import Estimate, Score
from explorer.execution import Job
from explorer.masks import Mask
from ui.explore.strip import write_cells


def write_score(score: Score) -> list[float | str | None]:
    """Write a score as [nats, low, high, difference, its low, its high, overflow]; None where there is none.

    Nats are of a token; the overflow is in words.
    """
    paired = score.delta_ci95 if score.mask else None
    return [
        write_number(score.total_nll / score.n_tokens),
        *write_logs(score.perplexity_ci95),
        write_number(score.delta_nll_per_token) if score.mask else None,
        *(paired or (None, None)),
        str(score.overflow) if score.overflow else None,
    ]


def write_number(value: float) -> float | None:
    """Write a number; None where it is not finite."""
    return value if math.isfinite(value) else None


def write_logs(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """Take an interval of perplexities back to nats; one that is beyond numbers has no end that could be drawn."""
    if interval is None or not all(0 < end < math.inf for end in interval):
        return None, None
    return math.log(interval[0]), math.log(interval[1])


def write_live(mask: Mask, job: Job | None, n_layers: int) -> dict[str, Any] | None:
    """Write the estimate of a mask that a job has so far, if it has one."""
    if job is None or not job.active or not isinstance(job.partial, Estimate):
        return None
    estimate = job.partial
    return {
        "off": write_cells(mask, n_layers),
        "score": [write_number(math.log(estimate.perplexity)), *write_logs(estimate.perplexity_ci95)],
        "windows": len(estimate.score.nll),
        "of": estimate.n_windows,
    }
