"""Windows, [Variant] -> the last layer's output of each: the tree of variants, each distinct prefix run once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise

from explorer.deltas import Variant, find_layer_key
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.masks import Mask
from explorer.model import Hidden, Ids, LayerInputs, ModelWrappers


class BatchStates:
    """The states kept for one batch of windows."""

    def __init__(self, state_cache: HiddenStateCache, ids: Ids) -> None:
        self.state_cache = state_cache
        self.windows = hashlib.sha256(ids.cpu().numpy().tobytes() + str(tuple(ids.shape)).encode()).hexdigest()

    @classmethod
    def of(cls, state_cache: HiddenStateCache | None, ids: Ids) -> BatchStates | None:
        """Return those of a cache, if there is one."""
        return cls(state_cache, ids) if state_cache else None

    def starts(
        self, variants: Sequence[Mask | Variant], n_layers: int
    ) -> list[tuple[int, Hidden, list[Mask | Variant]]]:
        """Return where variants start that need not start at layer 0."""
        found = [(variant, self.state_cache.deepest(self.windows, variant, n_layers)) for variant in variants]
        return [(*start, [variant]) for variant, start in found if start is not None]

    def keep(self, layer: int, variant: Mask | Variant, hidden: Hidden) -> None:
        """Keep the input of a layer in a variant for the next ones."""
        self.state_cache.keep(self.windows, layer, variant, hidden)


def run_prefix_tree(
    wrappers: ModelWrappers, layer_inputs: LayerInputs, variants: Sequence[Mask | Variant], kept: BatchStates | None
) -> Iterator[tuple[list[Mask | Variant], Hidden]]:
    """Yield variants that have one head with their last layer's output, running each distinct prefix once.

    Of the branches at a fork the fullest is taken last: what waits on the stack then is the states of a few forks,
    not of every layer.
    """
    n_layers = len(wrappers.layers)
    stack = kept.starts(variants, n_layers) if kept else []
    begun = {variant for _, _, (variant,) in stack}
    others = [variant for variant in variants if variant not in begun]
    stack += [(0, layer_inputs.hidden, others)] if others else []
    while stack:
        layer, hidden, group = stack.pop()
        while layer < n_layers:
            group, *rest = fork(group, layer)
            stack += [(layer, hidden, other) for other in reversed(rest)]
            with wrappers.as_variant(group[0]):
                hidden = wrappers.run_layer(layer, hidden, layer_inputs.calls[layer])
            layer += 1
            if kept:
                kept.keep(layer, group[0], hidden)
        yield from ((alike, hidden) for alike in fork(group, n_layers))


def run_beside(
    wrappers: ModelWrappers,
    ids: Ids,
    baseline: Mask | Variant,
    variants: Sequence[Mask | Variant],
    state_cache: HiddenStateCache | None,
) -> Iterator[tuple[list[Mask | Variant], Hidden]]:
    """Yield a baseline, whose states are kept in the cache if there is one, and after it the other variants."""
    layer_inputs, others = wrappers.layer_inputs(ids), [each for each in variants if each != baseline]
    yield from run_prefix_tree(wrappers, layer_inputs, [baseline], BatchStates.of(state_cache, ids))
    yield from run_prefix_tree(wrappers, layer_inputs, others, None)


def count_steps(variants: Sequence[Mask | Variant], n_layers: int) -> tuple[list[Mask | Variant], list[int]]:
    """Return variants in an order in which those that begin alike follow each other, and what each costs after that.

    The layers from where it parts from the one before it, and the head.
    """
    paths = [([find_layer_key(each, layer) for layer in range(n_layers + 1)], each) for each in variants]
    paths.sort(key=lambda pair: pair[0])
    parts = [0, *(_find_parting(before, after) for (before, _), (after, _) in pairwise(paths))]
    return [each for _, each in paths], [max(1, n_layers + 1 - part) for part in parts]


def _find_parting(before: Sequence[Hashable], after: Sequence[Hashable]) -> int:
    return next((layer for layer, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]), len(after))


def fork(variants: list[Mask | Variant], layer: int) -> list[list[Mask | Variant]]:
    """Part variants by what is otherwise in a layer, or in the head, the smallest part first."""
    parts: dict[Hashable, list[Mask | Variant]] = defaultdict(list)
    for variant in variants:
        parts[find_layer_key(variant, layer)].append(variant)
    return sorted(parts.values(), key=len)
