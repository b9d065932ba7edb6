"""Windows, [Mask] -> the last layer's output under each: the tree of masks, each distinct prefix run once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator

from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.masks import Mask
from explorer.model import Hidden, Ids, LayerInputs, ModelWrappers


class KeptState:
    """The states kept for one batch of windows."""

    def __init__(self, state_cache: HiddenStateCache, ids: Ids) -> None:
        self.state_cache = state_cache
        self.windows = hashlib.sha256(ids.cpu().numpy().tobytes() + str(tuple(ids.shape)).encode()).hexdigest()

    def starts(self, masks: list[Mask], n_layers: int) -> list[tuple[int, Hidden, list[Mask]]]:
        """Return where masks start that need not start at layer 0, and take those out of the list."""
        found = [(mask, self.state_cache.deepest(self.windows, mask, n_layers)) for mask in masks]
        masks[:] = [mask for mask, start in found if start is None]
        return [(*start, [mask]) for mask, start in found if start is not None]

    def keep(self, layer: int, mask: Mask, hidden: Hidden) -> None:
        """Keep the input of a layer under a mask for the next ones."""
        self.state_cache.keep(self.windows, layer, mask, hidden)


def run_prefix_tree(
    wrappers: ModelWrappers, layer_inputs: LayerInputs, masks: list[Mask], kept: KeptState | None
) -> Iterator[tuple[list[Mask], Hidden]]:
    """Yield masks with their last layer's output, running each distinct prefix once.

    Of the branches at a fork the fullest is taken last: what waits on the stack then is the states of a few forks,
    not of every layer.
    """
    n_layers = len(wrappers.layers)
    stack = kept.starts(masks, n_layers) if kept else []
    stack += [(0, layer_inputs.hidden, masks)] if masks else []
    while stack:
        layer, hidden, group = stack.pop()
        while layer < n_layers:
            group, *others = _fork(group, layer)
            stack += [(layer, hidden, other) for other in reversed(others)]
            with wrappers.masked(group[0]):
                hidden = wrappers.run_layer(layer, hidden, layer_inputs.calls[layer])
            layer += 1
            if kept:
                kept.keep(layer, group[0], hidden)
        yield group, hidden


def _fork(masks: list[Mask], layer: int) -> list[list[Mask]]:
    """Part masks by what is off in a layer, the smallest part first."""
    parts: dict[tuple[bool, bool], list[Mask]] = defaultdict(list)
    for mask in masks:
        parts[mask.off(layer)].append(mask)
    return sorted(parts.values(), key=len)
