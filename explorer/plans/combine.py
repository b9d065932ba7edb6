"""Model, bytes -> which layers to remove, put zeros into or round, by what each costs alone; then measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

#: How a layer is treated: the modifiers that change it, in order; None where it goes.
_Way = tuple[ModifierSpec, ...] | None


@dataclass(frozen=True)
class Combination:
    """Layers that are off, with zeros and with fewer bits, chosen together.

    Args:
        variant: what is off, and the deltas with the zeros and with what is rounded.
        bytes: of the weights, were zeros not stored, and what is rounded in its bits without scales.
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
    bits: Sequence[int] = (),
) -> Combination:
    """Choose for each layer whether it stays or goes, gets zeros or fewer bits or both, so that the weights fit.

    On the calibration windows each layer is treated alone in each way; the choice with the least sum of damages is a
    0/1 program. Damages do not add up: what was chosen is made and measured.

    Args:
        loaded: the model.
        corpus: whose calibration windows decide.
        budget: of `bytes`.
        spec: the modifier that puts zeros.
        store: where nats and deltas are kept.
        progress: told the layers and windows.
        bits: those that a layer's matrices may be rounded to, 8 and 4.

    Raises:
        PlanError: the budget is not of bytes or cannot be met, or the modifier puts no zeros or names layers.
        ModifyError, DeviceError, Cancelled: see `modify`.
    """
    if budget.of != "bytes":
        raise PlanError("Layers and zeros are combined within bytes", budget.of, "Use bytes=30% or bytes=200MiB")
    if spec.name not in METHODS or "layers" in dict(spec.options):
        raise PlanError("No modifier that puts zeros into layers", str(spec), "Use one of " + ", ".join(METHODS))
    ways = _list_ways(spec, bits)
    made = [_weigh(loaded, corpus, way, store, progress) for way in ways]
    sizes, damages = (np.stack(each, axis=1) for each in zip(*made, strict=True))
    whole = count_parameters(loaded.model, loaded.architecture).total_bytes
    rest = whole - sizes[:, ways.index(())].sum()
    allowed = budget.amount if budget.fits else (1 - budget.amount) * whole
    columns = choose_within(sizes, damages, allowed - rest)
    if columns is None or all(ways[column] is None for column in columns):
        raise PlanError("The weights do not fit", f"{rest:,.0f} bytes are outside the layers", "Allow more bytes")
    variant = _make(loaded, corpus, [ways[column] for column in columns], ways, store, progress)
    (found,) = score(loaded, corpus, [variant], store, "calibration", progress)
    chosen = range(len(columns)), columns
    return Combination(
        variant, float(rest + sizes[chosen].sum()), float(damages[chosen].sum()), found.delta_nll_per_token
    )


def _list_ways(spec: ModifierSpec, bits: Sequence[int]) -> list[_Way]:
    rounded = [(), *((ModifierSpec.parse(f"round;bits={each}"),) for each in bits)]
    return [None, *((*zeros, *each) for zeros in ((), (spec,)) for each in rounded)]


def _weigh(
    loaded: LoadedModel, corpus: Corpus, way: _Way, store: Store, progress: Progress
) -> tuple[Float64[np.ndarray, " layers"], Float64[np.ndarray, " layers"]]:
    """Bytes of each layer treated in a way, and nats a token that it costs alone; infinite where it has no such way."""
    layers, damages = range(loaded.n_layers), np.full(loaded.n_layers, math.inf)
    alone: dict[int, Mask | Variant]
    if way is None:
        sizes, alone = np.zeros(loaded.n_layers), {layer: Mask.of_layers({layer}) for layer in layers}
    else:
        whole = modify(loaded, corpus, NONE, way, store, progress)
        sizes = np.array([_find_size(loaded, whole, layer) for layer in layers])
        able = [layer for layer in layers if all(layer in delta.weights for delta in whole.deltas)]
        alone = {layer: _pick(whole, layer) for layer in able}
    scores = score(loaded, corpus, list(alone.values()), store, "calibration", progress)
    damages[list(alone)] = [each.delta_nll_per_token for each in scores]
    return sizes, damages


def _find_size(loaded: LoadedModel, whole: Variant, layer: int) -> float:
    """Bytes of a layer as deltas leave it, zeros without room."""
    size = float(count_parameters(loaded.model, loaded.architecture).layer_bytes[layer][2])
    left: dict[str, float] = {}
    for delta in whole.deltas:
        for name in delta.weights.get(layer, {}):
            left[name] = left.get(name, 1.0) * _find_share(delta.modifier, 8 * loaded.model.dtype.itemsize)
    get_parameter = loaded.wrappers.layers[layer].get_parameter
    return size - sum((1 - share) * get_parameter(name).nbytes for name, share in left.items())


def _find_share(spec: ModifierSpec, own_bits: int) -> float:
    """Return the share of a matrix's bytes that a modifier leaves."""
    return 1 - float(Sparsity.of(spec).share) if spec.name in METHODS else int(dict(spec.options)["bits"]) / own_bits


def _pick(whole: Variant, layer: int) -> Mask | Variant:
    """Return the whole model with what deltas make of one layer."""
    made: tuple[Delta, ...] = ()
    for delta in whole.deltas:
        below = tuple(each.digest for each in made)
        origin = replace(delta.origin, modifier=_name_layers(delta.modifier, [layer]), below=below)
        made = (*made, Delta(origin, {layer: delta.weights[layer]}, {}))
    return Variant(NONE, made).plain


def _name_layers(spec: ModifierSpec, layers: list[int]) -> ModifierSpec:
    """Return a modifier for some layers only."""
    return ModifierSpec.parse(f"{spec};layers={'+'.join(map(str, layers))}")


def _make(
    loaded: LoadedModel, corpus: Corpus, chosen: list[_Way], ways: list[_Way], store: Store, progress: Progress
) -> Mask | Variant:
    """Make each layer as it was chosen: first all zeros, then what is rounded."""
    off = Mask.of_layers(layer for layer, way in enumerate(chosen) if way is None)
    layers = {
        spec: [layer for layer, way in enumerate(chosen) if way and spec in way]
        for spec in dict.fromkeys(spec for way in reversed(ways) for spec in way or ())
    }
    specs = [_name_layers(spec, named) for spec, named in layers.items() if named]
    return modify(loaded, corpus, off, specs, store, progress).plain
