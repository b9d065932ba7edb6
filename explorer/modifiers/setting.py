"""What a modifier works with: the model, the calibration windows, what is off, and the variant so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from explorer.deltas import Delta, Origin, Variant, WeightChange
from explorer.errors import ModifyError
from explorer.masks import Mask, Site
from explorer.model import LayerwisePass, LoadedModel, Seen, States
from explorer.modifiers.fitted import Fitted
from explorer.modifiers.output_projections import OutputProjection
from explorer.modifiers.reference import Reference, next_site
from explorer.progress import Progress, unreported

#: Parts of the calibration windows that are left out in turns, each a run of them: neighbours share a subject.
FOLDS = 4

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
        progress: told the places.
    """

    run: LayerwisePass
    reference: Reference
    origin: Origin
    below: tuple[Delta, ...]
    options: dict[str, str]
    progress: Progress = unreported
    fitted: Fitted = field(default_factory=Fitted)
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

    @property
    def variant(self) -> Variant:
        """The variant with what has been fitted so far."""
        return Variant(self.mask, (*self.below, Delta(self.origin, self.fitted.weights, self.fitted.stand_ins)))

    @cached_property
    def _changed_below(self) -> int:
        return min((min(delta.layers) for delta in self.below if delta.layers), default=self.loaded.n_layers)

    def at(self, layer: int) -> States:
        """Return the variant's input of a layer; layers are asked for in order.

        Nothing is run before the first layer that is otherwise: there it is the unpruned model's.
        """
        if self._states is None:
            first = min(layer, self._changed_below, min(self.mask.sites).layer)
            self._at, self._states = first, self.reference.before(Site(first, "attention")).copy()
        for passed in range(self._at, layer):
            self.run.run(passed, self._states, self.variant, into=self._states)
        self._at = layer
        return self._states

    def pairs(self, place: Mask) -> Iterator[Pairs]:
        """Yield what is read and what is missing at a place that is off, batch by batch."""
        site = min(place.sites)
        states, target = self.at(site.layer), self.reference.before(next_site(max(place.sites)))
        if place.whole_layers:
            for seen in self.run.look(site.layer, states, self.variant):
                yield Pairs(
                    seen.rows, seen.before.float(), self.target(target, seen) - seen.before.float(), seen.before.float()
                )
            return
        module = self.loaded.architecture.at(site.layer).modules(site.part)[-1]
        for seen in self.run.look(site.layer, states, self.variant, modules=(module,)):
            stream = (seen.before if site.part == "attention" else seen.after).float()
            missing = (self.target(target, seen) - stream) / self.loaded.wrappers.multiplier
            yield Pairs(seen.rows, seen.given[module].float(), missing, stream)

    def weight(self, layer: int, projection: OutputProjection) -> Float[Tensor, "outputs values"]:
        """Return the weights that a projection of a layer has in the variant so far."""
        return projection.read(self.loaded.wrappers.weight(layer, f"{projection.name}.weight", self.variant.deltas))

    def put(self, layer: int, name: str, change: WeightChange) -> None:
        """Have a parameter of a layer changed from now on."""
        weights = {**self.fitted.weights, layer: {**self.fitted.weights.get(layer, {}), name: change}}
        self.fitted = replace(self.fitted, weights=weights)

    def arrive(self, layer: int, hidden: _Tokens) -> _Tokens:
        """Return what leaves a layer as it arrives after what is off behind it: with what stands in there already."""
        stand_ins = {place: each for delta in self.below for place, each in delta.stand_ins.items()}
        for place, stand_in in stand_ins.items():
            if not place.whole_layers:
                raise ModifyError(
                    f"{self.origin.modifier} cannot be fitted over what stands in for a single site",
                    f"something stands in for {place}", "Give it first",
                )  # fmt: skip
            if min(place.sites).layer == layer + 1:
                hidden = hidden + stand_in.on(hidden.device)(hidden)
        return hidden

    def check_finite(self, finite: bool) -> None:
        """Raise ModifyError where sums that a fit would be made of are not finite."""
        if not finite:
            raise ModifyError(
                "There is nothing to fit to",
                f"the arithmetic overflows in {self.loaded.dtype} on the calibration windows",
                "Use --dtype bfloat16 or float32",
            )

    def target(self, states: States, seen: Seen) -> _Tokens:
        """Return states of the reference for a batch, float32 on its device."""
        return states[seen.rows].to(seen.before.device).float()


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
