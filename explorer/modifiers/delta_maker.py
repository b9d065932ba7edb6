"""Variant, ModifierSpec -> Variant with one more delta, over one pass of the unpruned model for all that are made."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from explorer.deltas import Delta, ModifierSpec, Origin, Variant
from explorer.model import LayerwisePass, LoadedModel
from explorer.modifiers.catalogue import find_modifier
from explorer.modifiers.made_steps import MadeSteps
from explorer.modifiers.reference import Reference
from explorer.modifiers.setting import Setting
from explorer.progress import Progress
from explorer.storage import FitSteps, Store, describe_libraries, make_key
from explorer.text import Corpus


@dataclass
class DeltaMaker:
    """Makes deltas, in batches of one size.

    Args:
        loaded: the model.
        corpus: whose calibration windows are fitted to.
        store: where deltas are kept.
        progress: told the layers.
        rows: windows in a batch.
    """

    loaded: LoadedModel
    corpus: Corpus
    store: Store
    progress: Progress
    rows: int

    @cached_property
    def _reference(self) -> Reference:
        run = LayerwisePass(self.loaded, self.corpus.calibration.ids, self.rows, self.store.folder)
        return Reference(run, self.progress)

    @property
    def forwards(self) -> float:
        """How many forward passes of all calibration windows the layers run until now are."""
        return self._reference.run.forwards

    def make(self, variant: Variant, specs: Iterable[ModifierSpec]) -> Variant:
        """Return a variant with a delta more for each modifier, from the store where it has been made before."""
        for spec in specs:
            variant = Variant(variant.mask, (*variant.deltas, self._find(variant, spec)))
        return variant

    def fit(self, variant: Variant, spec: ModifierSpec) -> Variant:
        """Return a variant with a delta more, made now and not stored."""
        made = self._make(variant, self._describe(variant, spec), FitSteps(None))
        return Variant(variant.mask, (*variant.deltas, made))

    def find_begun(self, variant: Variant, specs: Iterable[ModifierSpec]) -> Variant:
        """Return a variant with what the store has of its deltas: of the first that is not whole the finished steps."""
        for spec in specs:
            origin = self._describe(variant, spec)
            key = self._key(origin)
            found = self.store.deltas.find(key)
            if found is None:
                begun = self.store.deltas.steps(key).join()
                return Variant(variant.mask, (*variant.deltas, *([begun] if begun else [])))
            variant = Variant(variant.mask, (*variant.deltas, found))
        return variant

    def repeat(self, variant: Variant, layer: int | None) -> None:
        """Make a variant's last delta once more: only the step of a layer, or none; see `repeat_layer`."""
        *below, made = variant.deltas
        self._make(replace(variant, deltas=tuple(below)), made.origin, MadeSteps(made, layer))

    def _describe(self, variant: Variant, spec: ModifierSpec) -> Origin:
        return Origin(
            spec,
            variant.mask,
            self.loaded.digest,
            self.corpus.calibration_name,
            self.corpus.tokens,
            self.corpus.calibration.digest,
            tuple(delta.digest for delta in variant.deltas),
            describe_libraries(),
        )

    def _find(self, variant: Variant, spec: ModifierSpec) -> Delta:
        origin = self._describe(variant, spec)
        key = self._key(origin)
        found = self.store.deltas.find(key)
        if found is None:
            steps = self.store.deltas.steps(key)
            found = self._make(variant, origin, steps)
            self.store.deltas.keep(key, found)
            steps.remove()
        return found

    def _key(self, origin: Origin) -> str:
        context = self.loaded.numerics_key(self.rows)
        return make_key("delta", context=context, **{name: str(part) for name, part in origin.describe().items()})

    def _make(self, variant: Variant, origin: Origin, steps: FitSteps) -> Delta:
        modifier, start = find_modifier(origin.modifier), time.perf_counter()
        run = self._reference.run
        before = run.layers_run
        options = modifier.read(origin.modifier)
        setting = Setting(run, self._reference, origin, variant.deltas, options, self.progress, steps, store=self.store)
        fitted = modifier.function(setting)
        cost = replace(
            origin,
            seconds=time.perf_counter() - start + setting.seconds,
            forwards=(run.layers_run - before) / self.loaded.n_layers + setting.forwards,
            trained=setting.trained,
        )
        return Delta(cost, fitted.weights, fitted.stand_ins)
