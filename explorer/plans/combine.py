"""Model, bytes -> which layers to remove and which to put zeros into, by what each costs alone; then measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from explorer.deltas import Delta, ModifierSpec, Variant
from explorer.errors import PlanError
from explorer.evaluation import score
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel, count_parameters
from explorer.modifiers import modify
from explorer.numerics import choose_within
from explorer.plans.budgets import Budget
from explorer.progress import Progress, unreported
from explorer.sparsity import METHODS, Sparsity
from explorer.storage import Store
from explorer.text import Corpus

_KEPT, _OFF, _ZEROS = range(3)  # the ways to treat a layer


@dataclass(frozen=True)
class Combination:
    """Layers that are off and layers with zeros, chosen together.

    Args:
        variant: what is off, and the delta with the zeros.
        bytes: of the weights, were zeros not stored; no file of today does without them.
        predicted: nats a token on the calibration windows, the sum of what each costs alone.
        measured: the same, of all together.
    """

    variant: Mask | Variant
    bytes: float
    predicted: float
    measured: float


def combine(
    loaded: LoadedModel,
    corpus: Corpus,
    budget: Budget,
    spec: ModifierSpec,
    store: Store,
    progress: Progress = unreported,
) -> Combination:
    """Choose for each layer whether it stays, goes or gets zeros, so that the weights fit into bytes.

    On the calibration windows each layer is left out alone, and gets its zeros alone; the choice with the least sum of
    damages is a 0/1 program. Damages do not add up: what was chosen is made and measured.

    Args:
        loaded: the model.
        corpus: whose calibration windows decide.
        budget: of `bytes`.
        spec: the modifier that puts zeros.
        store: where nats and deltas are kept.
        progress: told the layers and windows.

    Raises:
        PlanError: the budget is not of bytes or cannot be met, or the modifier puts no zeros or names layers.
        ModifyError, DeviceError, Cancelled: see `modify`.
    """
    if budget.of != "bytes":
        raise PlanError("Layers and zeros are combined within bytes", budget.of, "Use bytes=30% or bytes=200MiB")
    if spec.name not in METHODS or "layers" in dict(spec.options):
        raise PlanError("No modifier that puts zeros into layers", str(spec), "Use one of " + ", ".join(METHODS))
    whole = modify(loaded, corpus, NONE, [spec], store, progress)
    (delta,) = whole.deltas
    sizes = _find_sizes(loaded, delta)
    rest = count_parameters(loaded.model, loaded.architecture).total_bytes - sizes[:, _KEPT].sum()
    allowed = budget.amount if budget.fits else (1 - budget.amount) * (rest + sizes[:, _KEPT].sum())
    damages = _find_damages(loaded, corpus, delta, store, progress)
    ways = choose_within(sizes, damages, allowed - rest)
    if ways is None or ways.count(_OFF) == len(ways):
        raise PlanError("The weights do not fit", f"{rest:,.0f} bytes are outside the layers", "Allow more bytes")
    variant = _make(loaded, corpus, spec, ways, store, progress)
    (found,) = score(loaded, corpus, [variant], store, "calibration", progress)
    chosen = range(len(ways)), ways
    return Combination(
        variant, float(rest + sizes[chosen].sum()), float(damages[chosen].sum()), found.delta_nll_per_token
    )


def _find_sizes(loaded: LoadedModel, delta: Delta) -> Float64[np.ndarray, "layers 3"]:
    """Bytes of each layer: kept, off, with zeros that take no room."""
    share = float(Sparsity.of(delta.modifier).share)
    kept = [counts[2] for counts in count_parameters(loaded.model, loaded.architecture).layer_bytes]
    zeroed = [_count_bytes(loaded, layer, delta.weights.get(layer, {})) for layer in range(loaded.n_layers)]
    return np.array([[size, 0, size - share * part] for size, part in zip(kept, zeroed, strict=True)], dtype=float)


def _count_bytes(loaded: LoadedModel, layer: int, named: Mapping[str, object]) -> int:
    return sum(loaded.wrappers.layers[layer].get_parameter(name).nbytes for name in named)


def _find_damages(
    loaded: LoadedModel, corpus: Corpus, delta: Delta, store: Store, progress: Progress
) -> Float64[np.ndarray, "layers 3"]:
    """Nats a token that each layer costs alone, kept, off and with zeros; not finite where there is no such way."""
    layers = range(loaded.n_layers)
    off: list[Mask | Variant] = [Mask.of_layers({layer}) for layer in layers]
    zeros: list[Mask | Variant] = [_pick(delta, layer) for layer in sorted(delta.weights)]
    scores = score(loaded, corpus, [*off, *zeros], store, "calibration", progress)
    found = np.zeros((loaded.n_layers, 3))
    found[:, _OFF] = [each.delta_nll_per_token for each in scores[: loaded.n_layers]]
    found[:, _ZEROS] = math.inf
    found[sorted(delta.weights), _ZEROS] = [each.delta_nll_per_token for each in scores[loaded.n_layers :]]
    return found


def _pick(delta: Delta, layer: int) -> Variant:
    """Return the whole model with the zeros of one layer."""
    origin = replace(delta.origin, modifier=_name_layers(delta.modifier, [layer]))
    return Variant(NONE, (Delta(origin, {layer: delta.weights[layer]}, {}),))


def _name_layers(spec: ModifierSpec, layers: list[int]) -> ModifierSpec:
    """Return a modifier for some layers only."""
    return ModifierSpec.parse(f"{spec};layers={'+'.join(map(str, layers))}")


def _make(
    loaded: LoadedModel, corpus: Corpus, spec: ModifierSpec, ways: list[int], store: Store, progress: Progress
) -> Mask | Variant:
    off, zeros = ([layer for layer, way in enumerate(ways) if way == wanted] for wanted in (_OFF, _ZEROS))
    specs = [_name_layers(spec, zeros)] if zeros else []
    return modify(loaded, corpus, Mask.of_layers(off), specs, store, progress).plain
