"""LoadedModel, Corpus, Plan, tasks -> what every step of a plan can still do, the coarse shape first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from explorer.benchmarks import Asking, Evaluation, evaluate
from explorer.evaluation import score
from explorer.model import LoadedModel
from explorer.plans.curve import Curve, coarse_first
from explorer.plans.make import make_plan
from explorer.plans.plan import Plan, PlanSpec
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus


@dataclass(frozen=True)
class Abilities:
    """A plan and what is known of its steps.

    Args:
        curve: the plan, and held-out scores by step.
        evaluations: one a task, each with the answers at the steps that are known.
    """

    curve: Curve
    evaluations: tuple[Evaluation, ...]

    @property
    def steps(self) -> list[int]:
        """The steps that are known, ascending."""
        return sorted(self.curve.scores)

    def find(self, evaluation: Evaluation, step: int) -> int:
        """Return the number under which an evaluation has the answers at a step."""
        mask = self.curve.plan.at(step)
        return next(number for number, each in enumerate(evaluation.answers) if each.variant == mask)


def trace_abilities(
    loaded: LoadedModel,
    corpus: Corpus,
    of: PlanSpec | Plan,
    tasks: Sequence[str],
    asking: Asking,
    store: Store,
    progress: Progress = unreported,
    listener: Callable[[Plan | Abilities], None] = lambda found: None,
) -> Abilities:
    """Make a plan unless it is there, score its steps on the held-out windows, ask tasks at each, coarse ones first.

    What is stored is not computed again.

    Args:
        tasks, asking: see `evaluate`.
        listener: told the plan as it is made, then what is known of more and more steps.

    Raises:
        PlanError, UnsupportedModel: see `make_plan`.
        TaskError, MissingExtra: see `evaluate`.
        Cancelled: `progress` or the listener raised it; what was finished stays stored.
    """
    plan = of if isinstance(of, Plan) else make_plan(loaded, corpus, of, store, progress, listener)
    curve = Curve(plan, {}, {})
    evaluations: list[Evaluation] = []
    for part in coarse_first(range(len(plan.masks))):
        masks = [plan.at(step) for step in part]
        scores = curve.scores | dict(zip(part, score(loaded, corpus, masks, store, progress=progress), strict=True))
        curve = Curve(plan, scores, {})
        found = evaluate(loaded, corpus, masks, store, tasks, asking, progress)
        if evaluations:
            found = [each.joined(more) for each, more in zip(evaluations, found, strict=True)]
        evaluations = found
        listener(Abilities(curve, tuple(evaluations)))
    return Abilities(curve, tuple(evaluations))
