"""A pruned layer -> how far its output is from what it was, before and after its survivors adapted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from explorer.deltas import SparsityPattern, Variant, WeightChange
from explorer.model import LayerwisePass, States
from explorer.sparsity.watcher import LayerErrors


def find_errors(run: LayerwisePass, states: States, variant: Variant, layer: int) -> LayerErrors:
    """Run a layer as it was, with zeros alone, and as the variant's last delta has it.

    Args:
        run: of the calibration windows.
        states: the layer's input.
        variant: its last delta has put zeros into the layer.
        layer: which layer.
    """
    made = variant.deltas[-1].weights[layer]
    zeros = {name: _take_zeros(change) for name, change in made.items()}
    adapts = any(zeros[name] is not change for name, change in made.items())
    ways = [_change(variant, layer, each) for each in ({}, zeros, *([made] if adapts else []))]
    outputs, squares, size = [run.look(layer, states, way) for way in ways], [0.0] * (len(ways) - 1), 0.0
    for wanted, *others in zip(*outputs, strict=True):
        size += float(wanted.after.double().square().sum())
        for way, other in enumerate(others):
            squares[way] += float((other.after.double() - wanted.after.double()).square().sum())
    zeroed, *adapted = (math.sqrt(each / size) if size else math.nan for each in squares)
    names = tuple(sorted(name.removesuffix(".weight") for name in made))
    return LayerErrors(layer, names, zeroed, adapted[0] if adapted else None)


def _take_zeros(change: WeightChange) -> WeightChange:
    """Return the zeros of a change alone; the change itself if it has nothing else."""
    return SparsityPattern.of(change) if isinstance(change, Tensor) else change


def _change(variant: Variant, layer: int, named: Mapping[str, WeightChange]) -> Variant:
    """Return a variant whose last delta changes a layer otherwise."""
    *below, last = variant.deltas
    return replace(variant, deltas=(*below, replace(last, weights={**last.weights, layer: named})))
