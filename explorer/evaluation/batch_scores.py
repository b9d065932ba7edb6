"""A batch of windows, [Variant] -> the nats of each variant, in the order of the tree that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool

from explorer.deltas import Variant
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.nll import WindowNll, window_nll
from explorer.evaluation.prefix_tree import BatchStates, run_prefix_tree
from explorer.masks import Mask
from explorer.model import Ids, LayerInputs, ModelWrappers


@torch.inference_mode()
def score_batch(
    wrappers: ModelWrappers, ids: Ids, variants: Sequence[Mask | Variant], state_cache: HiddenStateCache | None = None
) -> Iterator[tuple[Mask | Variant, WindowNll, dict[int, int]]]:
    """Yield each variant with the nats of windows, in the order of the tree.

    And, for windows that overflowed, by place: the first layer whose output is not finite, or L.
    """
    layer_inputs = wrappers.layer_inputs(ids)
    for group, hidden in run_prefix_tree(wrappers, layer_inputs, variants, BatchStates.of(state_cache, ids)):
        nll = window_nll(wrappers, hidden, ids, group[0])
        overflows = {} if np.isfinite(nll).all() else _find_overflows(wrappers, layer_inputs, group[0], np.isinf(nll))
        for variant in group:
            yield variant, nll, overflows


def _find_overflows(
    wrappers: ModelWrappers, layer_inputs: LayerInputs, variant: Mask | Variant, windows: Bool[np.ndarray, " batch"]
) -> dict[int, int]:
    """Find, for each of the windows that overflowed, the first layer whose output is not finite, or L."""
    found = dict.fromkeys(map(int, np.flatnonzero(windows)), len(wrappers.layers))
    hidden = layer_inputs.hidden
    with wrappers.as_variant(variant):
        for layer, call in enumerate(layer_inputs.calls):
            hidden = wrappers.run_layer(layer, hidden, call)
            sound = hidden.flatten(1).isfinite().all(1).tolist()
            found.update({place: layer for place in found if not sound[place] and found[place] == len(wrappers.layers)})
    return found
