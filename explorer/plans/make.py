"""LoadedModel, Corpus, PlanSpec -> Plan: every published method, over one engine and the calibration windows alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from explorer.errors import PlanError
from explorer.evaluation import DecodeTimes, measure_decode_times
from explorer.masks import PARTS, Mask, find_units, join
from explorer.measures import (
    Importance,
    SimilarityStats,
    describe_criterion,
    make_loss_function,
    measure_importance,
    measure_similarity,
    read_similarity,
)
from explorer.model import CostModel, LoadedModel, count_parameters
from explorer.modifiers import RecoveredLosses, check_modifiable
from explorer.numerics import LossFunction
from explorer.plans.budgets import Budget
from explorer.plans.catalogue import METHODS
from explorer.plans.plan import Effort, Plan, PlanSpec
from explorer.plans.search import Search
from explorer.progress import Progress, unreported
from explorer.stopwatch import timing
from explorer.storage import Store, make_key
from explorer.text import Corpus

#: Told the plan so far.
Listener = Callable[[Plan], None]


def make_plan(
    loaded: LoadedModel,
    corpus: Corpus,
    spec: PlanSpec,
    store: Store,
    progress: Progress = unreported,
    listener: Listener = lambda plan: None,
) -> Plan:
    """Make the plan that a spec names. A plan made before is returned at once, one that was stopped goes on.

    Raises:
        PlanError: nothing may be removed, or the budget cannot be met.
        UnsupportedModel: the method cannot be used on these weights.
        TaskError: the criterion is a task that cannot be decided by.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; what was scored stays stored.
    """
    context = loaded.numerics_key(loaded.batch_shape.rows(corpus.window))
    lowered = describe_criterion(loaded, corpus, spec.criterion)
    key = make_key("plan", spec=str(spec), context=context, corpus=corpus.digest, criterion=lowered)
    stored = store.arrays(key)
    if stored is not None:
        return replace(Plan.read(json.loads(str(stored["plan"]))), model=loaded.spec.model, text=corpus.name)
    with loaded.wrappers.counting() as count, timing() as watch:

        def plan_of(masks: tuple[Mask, ...]) -> Plan:
            effort = Effort(count.evaluations, watch.seconds)
            return Plan(spec, masks, loaded.n_layers, loaded.spec.model, corpus.name, effort)

        planner = _Planner(loaded, corpus, spec, store, progress, lambda masks: listener(plan_of(masks)))
        plan = plan_of(planner.plan())
    store.add_arrays(key, {"plan": np.array(json.dumps(plan.describe()))})
    return plan


@dataclass(frozen=True)
class _Planner:
    """Makes one plan."""

    loaded: LoadedModel
    corpus: Corpus
    spec: PlanSpec
    store: Store
    progress: Progress
    listener: Callable[[tuple[Mask, ...]], None]

    @cached_property
    def protected(self) -> frozenset[int]:
        """The layers that stay whole: those that the spec names, and those that run for later ones even if off."""
        return self.spec.protected(self.loaded.n_layers) | {*(self.loaded.architecture.hands_on or ())}

    @cached_property
    def units(self) -> list[Mask]:
        """What may be removed."""
        units = find_units(self.loaded.n_layers, self.spec.unit)
        there = [unit for unit in units if not unit <= self.loaded.absent]
        free = [unit for unit in there if not any(site.layer in self.protected for site in unit.sites)]
        if not free:
            kept = Mask.of_layers(self.protected)
            raise PlanError("Nothing may be removed", f"protected: {kept}", "Protect fewer layers")
        return free

    @property
    def steps(self) -> int:
        """Removals at the most; something is left."""
        most = len(self.units) - (not self.protected)
        return min(self.spec.steps or most, most)

    @cached_property
    def cost_model(self) -> CostModel:
        """What the model's parts cost."""
        return count_parameters(self.loaded.model, self.loaded.architecture)

    @cached_property
    def decode_times(self) -> DecodeTimes:
        """What decoding spends on each attention and MLP. Raises PlanError if other work kept coming in between."""
        times = measure_decode_times(self.loaded, self.progress)
        if times is None:
            raise PlanError("Decoding could not be timed", "other work came in between", "Try again, or use flops=25%")
        return times

    def enough(self, mask: Mask) -> bool:
        """Tell whether a mask meets the budget; never, where there is none."""
        if not self.spec.budget:
            return False
        budget = Budget.parse(self.spec.budget)
        times = self.decode_times if budget.of == "decode" else None
        return budget.met(mask, self.cost_model, self.corpus.window, times)

    def plan(self) -> tuple[Mask, ...]:
        """Return the masks of 0, 1, 2 ... steps."""
        self._check_budget()
        masks = METHODS[self.spec.method].function(self)
        if self.spec.budget and not self.enough(masks[-1]):
            raise self._unmet(len(masks) - 1)
        return masks

    def _check_budget(self) -> None:
        """Raise PlanError, before anything is measured, if not even all that may go is enough."""
        if self.spec.budget and not self.enough(join(self.units)):
            raise self._unmet(len(self.units))

    def _unmet(self, removals: int) -> PlanError:
        return PlanError(
            "The budget cannot be met",
            f"{self.spec.budget} by removing {removals} times {self.spec.unit}",
            "Ask for less, protect fewer layers, allow more steps, or remove another unit",
        )

    @property
    def n_layers(self) -> int:
        """L of the model."""
        return self.loaded.n_layers

    @property
    def iterative(self) -> bool:
        """Whether to measure again after each removal."""
        return self.spec.iterative

    @property
    def seed(self) -> int:
        """Of what is drawn at random."""
        return self.spec.seed

    @property
    def width(self) -> int:
        """What the method's own option of this name says."""
        return self.spec.width

    def follow(self, masks: Iterable[Mask]) -> tuple[Mask, ...]:
        """Take masks up to the last step, or to the first that is enough; tell the listener."""
        taken: list[Mask] = []
        for step, mask in enumerate(masks):
            taken.append(mask)
            self.listener(tuple(taken))
            if step == self.steps or self.enough(mask):
                break
        return tuple(taken)

    def search(self, confidence: float | None = None) -> Search:
        """Return a search by the plan's criterion; by its confidence too, if no other is given."""
        return Search(
            self.units,
            self._make_losses(),
            len(self.corpus.calibration),
            self.steps,
            self.spec.confidence if confidence is None else confidence,
            self.enough,
            self.progress,
            lambda found: self.listener(found.masks),
            self.loaded.batch_shape.rows(self.corpus.window),
        )

    def _make_losses(self) -> LossFunction:
        losses = make_loss_function(self.loaded, self.corpus, self.store, self.spec.criterion)
        modifier = self.spec.modifier
        if modifier is None:
            return losses
        check_modifiable(self.loaded, modifier)
        return RecoveredLosses(self.loaded, self.corpus, modifier, losses, self.progress)

    def similarity(self, mask: Mask) -> SimilarityStats:
        """Measure the residual stream under a mask."""
        return measure_similarity(self.loaded, self.corpus, self.store, self.progress, mask)

    def rank(self, measure: str) -> list[Mask]:
        """Return the units from the most to the least redundant, by a measure of the whole model."""
        found = measure_importance(
            self.loaded, self.corpus, [measure], self.store, self.progress,
            units=PARTS if self.spec.unit == "site" else (self.spec.unit,),
            permutations=self.spec.width, seed=self.spec.seed,
        )  # fmt: skip
        return sorted(self.units, key=self._find_worth(found, measure).__getitem__)

    def find_least_influence(self, left: list[Mask], mask: Mask) -> Mask:
        """Return the one of the units left that has the least block influence under a mask."""
        return min(left, key=self._find_worth(read_similarity(self.similarity(mask)), "block-influence").__getitem__)

    def _find_worth(self, importances: Sequence[Importance], measure: str) -> dict[Mask, float]:
        """What each unit is worth by a measure, turned so that what is redundant is low."""
        return {
            unit: float(value) if math.isfinite(value) else math.inf  # what overflows is not known to be redundant
            for each in importances
            if each.measure == measure
            for unit, value in zip(find_units(self.loaded.n_layers, each.unit), each.ranked, strict=True)
        }
