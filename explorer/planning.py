"""LoadedModel, Corpus, PlanSpec -> Plan: every method asked for by name."""

from __future__ import annotations

from collections.abc import Iterable

from explorer.loading import LoadedModel
from explorer.masks import NONE, Mask
from explorer.plans import Plan, PlanSpec
from explorer.records import Corpus, Progress, unreported
from explorer.similarity import measure
from explorer.store import Store


def make_plan(
    loaded: LoadedModel, corpus: Corpus, spec: PlanSpec, store: Store, progress: Progress = unreported
) -> Plan:
    """Make the plan that a spec names, by the calibration windows alone."""
    n_layers = loaded.n_layers
    if spec.method == "deepest":
        masks = _add_up(Mask.of_layers([layer]) for layer in range(n_layers - 2, -1, -1))
    else:
        influence = measure(loaded, corpus, store, progress).block_influence("layer")
        masks = _add_up(Mask.of_layers([int(layer)]) for layer in influence.argsort(kind="stable"))
    return Plan(spec, masks, n_layers, loaded.spec.model, corpus.name)


def _add_up(removals: Iterable[Mask]) -> tuple[Mask, ...]:
    """Return what is off after 0, 1, 2 ... of the removals."""
    masks = [NONE]
    for removal in removals:
        masks.append(Mask(masks[-1].sites | removal.sites))
    return tuple(masks)
