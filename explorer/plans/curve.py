"""LoadedModel, Corpus, Plan -> Curve: what every step of a plan costs on the held-out windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from explorer.evaluation import Divergence, Score, measure_divergence, score
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.plans.make import make_plan
from explorer.plans.plan import Plan, PlanSpec
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus

#: A plan has collapsed where the loss is this much above the unpruned model's: twice its perplexity.
COLLAPSE = math.log(2)

#: Orders that the random baseline is drawn in, for its spread.
SEEDS = 5

_TOGETHER = 16  # steps scored at once


@dataclass(frozen=True)
class Curve:
    """A plan and what is known of its steps on the held-out windows.

    Args:
        plan: the plan.
        scores: by step; those not scored yet are missing.
        divergences: by step, where they were asked for.
    """

    plan: Plan
    scores: dict[int, Score]
    divergences: dict[int, Divergence]

    @property
    def collapse(self) -> int | None:
        """The first step from which on perplexity stays above twice the unpruned model's; None if there is none."""
        sound = [step for step, found in sorted(self.scores.items()) if found.delta_nll_per_token <= COLLAPSE]
        later = [step for step in sorted(self.scores) if step > max(sound, default=-1)]
        return later[0] if later else None


def trace_plan(
    loaded: LoadedModel,
    corpus: Corpus,
    of: PlanSpec | Plan,
    store: Store,
    progress: Progress = unreported,
    listener: Callable[[Plan | Curve], None] = lambda found: None,
    divergence: bool = False,
) -> Curve:
    """Make the plan that a spec names, unless it is there, and score its steps on the held-out windows.

    Args:
        listener: told the plan as it is made, then the curve as it fills.
        divergence: find KL divergence, logit distance and top-1 agreement too.

    Raises:
        PlanError, UnsupportedModel: see `make_plan`.
        MaskError, DeviceError, Cancelled: see `trace_curve`.
    """
    plan = of if isinstance(of, Plan) else make_plan(loaded, corpus, of, store, progress, listener)
    return trace_curve(loaded, corpus, plan, store, progress, listener, divergence=divergence)


def trace_curve(
    loaded: LoadedModel,
    corpus: Corpus,
    plan: Plan,
    store: Store,
    progress: Progress = unreported,
    listener: Callable[[Curve], None] = lambda curve: None,
    steps: Sequence[int] | None = None,
    divergence: bool = False,
) -> Curve:
    """Score the steps of a plan on the held-out windows, coarse ones first. What is stored is not computed again.

    Args:
        listener: told the curve as it fills.
        steps: only these; all if None.
        divergence: find KL divergence, logit distance and top-1 agreement too.

    Raises:
        MaskError: the plan is for a larger model.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` or the listener raised it; what was finished stays stored.
    """
    asked = sorted(set(range(len(plan.masks)) if steps is None else steps))
    curve = Curve(plan, {}, {})
    for part in coarse_first(asked):
        masks: list[Mask] = [plan.at(step) for step in part]
        progress(len(curve.scores), len(asked), f"Steps of {plan.spec}")
        if divergence:  # first, for it stores what `score` asks for
            curve.divergences.update(
                zip(part, measure_divergence(loaded, corpus, masks, store, progress=progress), strict=True)
            )
        curve.scores.update(zip(part, score(loaded, corpus, masks, store, progress=progress), strict=True))
        listener(Curve(plan, dict(curve.scores), dict(curve.divergences)))
    return curve


def coarse_first(steps: Sequence[int]) -> Iterator[list[int]]:
    """Part sorted steps: ends and middle, eighths, then the rest in runs of neighbours, which share most."""
    done: set[int] = set()
    for parts in (2, 8) if steps else ():
        due = {steps[round(part * (len(steps) - 1) / parts)] for part in range(parts + 1)}
        yield from ([sorted(due - done)] if due - done else [])
        done |= due
    rest = [step for step in steps if step not in done]
    yield from (rest[start : start + _TOGETHER] for start in range(0, len(rest), _TOGETHER))
