"""What a modifier works with: the model, the calibration windows, what is off, and the variant so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from explorer.deltas import Delta, Origin, StandIn, Trained, Variant, WeightChange
from explorer.errors import ModifyError
from explorer.masks import Mask, Site
from explorer.model import LayerwisePass, LoadedModel, Seen, States
from explorer.modifiers.fitted import Fitted
from explorer.modifiers.linear_maps import LinearMap
from explorer.modifiers.reference import Reference, next_site
from explorer.progress import Progress, unreported
from explorer.storage import FitSteps, Store

#: Parts of the calibration windows that are left out in turns, each a run of them: neighbours share a subject.
FOLDS = 4

_Step = TypeVar("_Step")
_Tokens = Float[Tensor, "windows positions width"]


@dataclass(frozen=True)
class Pairs:
    """What would have been read where something is off, and what should be added there, for one batch.

    Args:
        rows: which windows.
        x: what the first removed module, or layer, would have been given.
        y: what is missing: the unpruned model's stream after it less the variant's.
        stream: the variant's stream before it.
    """

    rows: slice
    x: _Tokens
    y: _Tokens
    stream: _Tokens


@dataclass
class Setting:
    """The model, the windows and the options of one modifier, and how far the variant has been taken.

    Args:
        run: of the calibration windows.
        reference: the unpruned model's states.
        origin: of the delta to be made.
        below: deltas that are in place.
        options: value of each option of the modifier.
        progress: told the steps.
        kept: what the finished steps of this fit made, if it was begun before.
        seconds, forwards: what those took.
        store: where else what takes long is kept on its way.
        trained: what trainings took, if there are any.
    """

    run: LayerwisePass
    reference: Reference
    origin: Origin
    below: tuple[Delta, ...]
    options: dict[str, str]
    progress: Progress = unreported
    kept: FitSteps = field(default_factory=lambda: FitSteps(None))
    fitted: Fitted = field(default_factory=Fitted)
    seconds: float = 0.0
    forwards: float = 0.0
    store: Store = field(default_factory=lambda: Store(None))
    trained: Trained | None = None
    _at: int = 0
    _states: States | None = None

    @property
    def loaded(self) -> LoadedModel:
        """The model."""
        return self.run.loaded

    @property
    def mask(self) -> Mask:
        """What is off."""
        return self.origin.mask

    def number(self, name: str) -> float:
        """Return the value of an option that is a number."""
        return float(self.options[name])

    def folds(self, rows: slice) -> Iterator[tuple[int, slice]]:
        """Cut a batch by the folds that its windows are in: each with their places in the batch."""
        for fold in range(FOLDS):
            first, last = (-(-len(self.run.ids) * each // FOLDS) for each in (fold, fold + 1))
            start, stop = max(first, rows.start), min(last, rows.stop)
            if start < stop:
                yield fold, slice(start - rows.start, stop - rows.start)

    def steps(self, steps: Sequence[_Step], name: Callable[[_Step], str]) -> Iterator[_Step]:
        """Yield the steps of a fit, which are in the order of the stream, but for those that were finished before.

        What a step leaves in `fitted` is kept when the next one is asked for.

        Args:
            steps: the same whenever this fit is begun.
            name: says in words what is done, for the progress.
        """
        for number, step in enumerate(steps):
            self.progress(number, len(steps), name(step))
            found = self.kept.find(number)
            if found is not None:
                self._take(found)
                continue
            before, start, layers_run = self.fitted, time.perf_counter(), self.run.layers_run
            yield step
            forwards = (self.run.layers_run - layers_run) / self.loaded.n_layers
            origin = replace(self.origin, seconds=time.perf_counter() - start, forwards=forwards)
            added = self.fitted.since(before)
            self.kept.keep(number, Delta(origin, added.weights, added.stand_ins))

    def _take(self, found: Delta) -> None:
        """Take over what a step has made before."""
        self.fitted = self.fitted.joined(Fitted(found.weights, found.stand_ins))
        self.seconds += found.origin.seconds
        self.forwards += found.origin.forwards

    @property
    def variant(self) -> Variant:
        """The variant with what has been fitted so far."""
        return self.vary(self.fitted)

    def vary(self, fitted: Fitted) -> Variant:
        """Return the variant with this as its delta."""
        return Variant(self.mask, (*self.below, Delta(self.origin, fitted.weights, fitted.stand_ins)))

    @cached_property
    def _changed_below(self) -> int:
        return min((min(delta.layers) for delta in self.below if delta.layers), default=self.loaded.n_layers)

    def at(self, layer: int) -> States:
        """Return the variant's input of a layer; layers are asked for in order.

        Nothing is run before the first layer that is otherwise: there it is the unpruned model's.
        """
        if self._states is None:
            first = min(layer, self._changed_below, min(self.mask.sites).layer, *self.fitted.weights)
            self._at, self._states = first, self.reference.before(Site(first, "attention")).copy()
        for passed in range(self._at, layer):
            self.run.run(passed, self._states, self.variant, into=self._states)
        self._at = layer
        return self._states

    def pairs(self, place: Mask) -> Iterator[Pairs]:
        """Yield what is read and what is missing at a place that is off, batch by batch.

        Raises ModifyError if the model has several residual streams.
        """
        if streams := self.loaded.wrappers.packing.streams:
            raise ModifyError(
                "Nothing can stand in for these layers", f"they pass {streams} residual streams on", "Use distill-local"
            )
        site = min(place.sites)
        states, target = self.at(site.layer), self.reference.before(next_site(max(place.sites)))
        if place.whole_layers:
            for seen in self.run.look(site.layer, states, self.variant):
                yield Pairs(
                    seen.rows, seen.before.float(), self.read(target, seen) - seen.before.float(), seen.before.float()
                )
            return
        module = self.loaded.architecture.at(site.layer).modules(site.part)[-1]
        for seen in self.run.look(site.layer, states, self.variant, modules=(module,)):
            stream = (seen.before if site.part == "attention" else seen.after).float()
            missing = (self.read(target, seen) - stream) / self.loaded.wrappers.multiplier
            yield Pairs(seen.rows, seen.given[module].float(), missing, stream)

    def weight(self, layer: int, projection: LinearMap) -> Float[Tensor, "*experts outputs values"]:
        """Return the weights that a projection of a layer has in the variant so far."""
        return projection.read(self.loaded.wrappers.weight(layer, projection.parameter, self.variant.deltas))

    def put(self, layer: int, name: str, change: WeightChange) -> None:
        """Have a parameter of a layer changed from now on."""
        self.fitted = self.fitted.joined(Fitted({layer: {name: change}}))

    def stand_in(self, place: Mask, stand_in: StandIn) -> None:
        """Have something stand in for a place that is off from now on."""
        self.fitted = self.fitted.joined(Fitted(stand_ins={place: stand_in}))

    def arriving(self, layer: int, site: Site) -> States | None:
        """Return the variant's stream before a site, after a layer and what is off behind it.

        None where nothing stands in for that: then it is what leaves the layer.
        """
        behind, places = Site(layer, "mlp"), [place for delta in self.below for place in delta.stand_ins]
        if not any(behind < min(place.sites) < site for place in places):
            return None
        states = self.run.run(layer, self.at(layer), self.variant)
        for passed in range(layer + 1, site.layer):
            self.run.run(passed, states, self.variant, into=states)
        if site.part == "mlp":
            for seen in self.run.look(site.layer, states, self.variant, updates=True):
                states[seen.rows] = seen.before + seen.updates["attention"]
        return states

    def check_finite(self, finite: bool) -> None:
        """Raise ModifyError where sums that a fit would be made of are not finite."""
        if not finite:
            raise ModifyError(
                "There is nothing to fit to",
                f"the arithmetic overflows in {self.loaded.dtype} on the calibration windows",
                "Use --dtype bfloat16 or float32",
            )

    def read(self, states: States, seen: Seen) -> _Tokens:
        """Return the residual stream in a batch of states, float32 on its device."""
        return self.loaded.wrappers.packing.stream(states[seen.rows]).to(seen.before.device).float()


def weigh_tokens(stream: _Tokens) -> Float[Tensor, "windows positions"]:
    """Weigh each token by 1 over the root mean square of its stream.

    The norms that read the stream see errors relative to its size. Without weights the first tokens of windows,
    far larger, would be most of what counts; without those tokens attention loses its sink.
    """
    return stream.square().mean(-1).clamp_min(1e-12).rsqrt()


def check_layers_only(setting: Setting) -> None:
    """Raise ModifyError if something but whole layers is off: a scale of the stream has no place inside a layer."""
    if alone := sorted(setting.mask.sites - Mask.of_layers(setting.mask.whole_layers).sites):
        raise ModifyError(
            f"{setting.origin.modifier} scales the stream where whole layers are off",
            f"{alone[0]} is off alone", "Use refit, linear or mean",
        )  # fmt: skip
