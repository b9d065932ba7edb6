"""LoadedModel, Corpus, PlanSpec -> Plan: every published method, over one engine and the calibration windows alone."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from explorer.errors import PlanError
from explorer.masks import NONE, PARTS, Mask, find_units
from explorer.measures import Importance, make_loss_function, measure_importance, measure_similarity, read_similarity
from explorer.model import CostModel, LoadedModel, count_parameters
from explorer.plans.budgets import Budget
from explorer.plans.catalogue import METHODS
from explorer.plans.plan import Effort, Plan, PlanSpec
from explorer.plans.search import Found, Search
from explorer.progress import Progress, unreported
from explorer.stopwatch import timing
from explorer.storage import Store, make_key
from explorer.text import Corpus

#: Told the plan so far.
Listener = Callable[[Plan], None]

#: What each one-shot method ranks by.
_RANKED_BY = {
    "block-influence": "block-influence",
    "attention-drop": "block-influence",
    "mlp-drop": "block-influence",
    "joint-drop": "block-influence",
    "leave-one-out": "loss",
    "taylor": "taylor",
    "magnitude": "magnitude",
    "coalition": "coalition",
    "shapley": "shapley",
}


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
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; what was scored stays stored.
    """
    context = loaded.context(loaded.batch_shape.rows(corpus.window))
    key = make_key("plan", spec=str(spec), context=context, corpus=corpus.digest)
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
        """The layers that stay whole."""
        return self.spec.protected(self.loaded.n_layers)

    @cached_property
    def units(self) -> list[Mask]:
        """What may be removed."""
        units = find_units(self.loaded.n_layers, self.spec.unit)
        there = [unit for unit in units if not unit <= self.loaded.absent]
        free = [unit for unit in there if not any(site.layer in self.protected for site in unit.sites)]
        if not free:
            raise PlanError("Nothing may be removed", f"protected: {self.spec.protect}", "Protect fewer layers")
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

    def enough(self, mask: Mask) -> bool:
        """Tell whether a mask meets the budget; never, where there is none."""
        return bool(self.spec.budget) and Budget.parse(self.spec.budget).met(mask, self.cost_model, self.corpus.window)

    def plan(self) -> tuple[Mask, ...]:
        """Return the masks of 0, 1, 2 ... steps."""
        self._check_budget()
        asks = METHODS[self.spec.method].search or (self.spec.method == "leave-one-out" and self.spec.iterative)
        masks = self._search().masks if asks else tuple(self._follow(self._masks()))
        if self.spec.budget and not self.enough(masks[-1]):
            raise self._unmet(len(masks) - 1)
        return masks

    def _check_budget(self) -> None:
        """Raise PlanError, before anything is measured, if not even all that may go is enough."""
        everything = Mask(frozenset().union(*(unit.sites for unit in self.units)))
        if self.spec.budget and not self.enough(everything):
            raise self._unmet(len(self.units))

    def _unmet(self, removals: int) -> PlanError:
        return PlanError(
            "The budget cannot be met",
            f"{self.spec.budget} by removing {removals} times {self.spec.unit}",
            "Ask for less, protect fewer layers, allow more steps, or remove another unit",
        )

    def _search(self) -> Found:
        spec = self.spec
        confidence = 1.0 if spec.method == "leave-one-out" else spec.confidence
        search = Search(
            self.units,
            make_loss_function(self.loaded, self.corpus, self.store, spec.criterion),
            len(self.corpus.calibration),
            self.steps,
            confidence,
            self.enough,
            self.progress,
            lambda found: self.listener(found.masks),
            self.loaded.batch_shape.rows(self.corpus.window),
        )
        if spec.method == "beam":
            return search.beam(spec.width)
        return search.evolve(spec.width, spec.seed) if spec.method == "evolve" else search.greedy()

    def _follow(self, masks: Iterable[Mask]) -> Iterator[Mask]:
        """Yield masks up to the last step, or to the first that is enough; tell the listener."""
        told: list[Mask] = []
        for step, mask in enumerate(masks):
            told.append(mask)
            yield mask
            self.listener(tuple(told))
            if step == self.steps or self.enough(mask):
                return

    def _masks(self) -> Iterator[Mask]:
        method = self.spec.method
        if method == "similarity-block":
            return self._blocks()
        if method == "deepest":
            last = self.loaded.n_layers - 1
            return _add_up(unit for unit in reversed(self.units) if unit != Mask.of_layers([last]))
        if method == "random":
            return _add_up(random.Random(self.spec.seed).sample(self.units, len(self.units)))
        return self._measure_again() if self.spec.iterative else _add_up(self._ranked())

    def _blocks(self) -> Iterator[Mask]:
        """For every size the contiguous block over which the residual stream turns least (Gromov et al.)."""
        found = measure_similarity(self.loaded, self.corpus, self.store, self.progress)
        yield NONE
        for size, distances in enumerate(found.angular_distance("last_token"), 1):
            free = [at for at in range(len(distances)) if not self.protected & {*range(at, at + size)}]
            starts = [at for at in free if math.isfinite(distances[at])]
            if not starts:
                return
            best = min(starts, key=distances.__getitem__)
            yield Mask.of_layers(range(best, best + size))

    def _ranked(self) -> list[Mask]:
        """The units from the most to the least redundant in the whole model."""
        found = measure_importance(
            self.loaded, self.corpus, [_RANKED_BY[self.spec.method]], self.store, self.progress,
            units=PARTS if self.spec.unit == "site" else (self.spec.unit,),
            permutations=self.spec.width, seed=self.spec.seed,
        )  # fmt: skip
        return sorted(self.units, key=self._worth(found).__getitem__)

    def _measure_again(self) -> Iterator[Mask]:
        """Remove the unit of least block influence, and measure the rest again under what is off (LLM-Drop)."""
        mask, left = NONE, list(self.units)
        yield mask
        while left:
            found = read_similarity(measure_similarity(self.loaded, self.corpus, self.store, self.progress, mask))
            left.remove(least := min(left, key=self._worth(found).__getitem__))
            yield (mask := mask | least)

    def _worth(self, importances: Sequence[Importance]) -> dict[Mask, float]:
        """What each unit is worth by the method's measure."""
        return {
            unit: float(value) if math.isfinite(value) else math.inf  # what overflows is not known to be redundant
            for each in importances
            if each.measure == _RANKED_BY[self.spec.method]
            for unit, value in zip(find_units(self.loaded.n_layers, each.unit), each.values, strict=True)
        }


def _add_up(removals: Iterable[Mask]) -> Iterator[Mask]:
    """Yield what is off after 0, 1, 2 ... of the removals."""
    mask = NONE
    yield mask
    for removal in removals:
        yield (mask := mask | removal)
