"""LoadedModel, Corpus, [Mask] -> how far the final hidden state of the last token turns, as what a search lowers."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from explorer.deltas import Variant
from explorer.evaluation import (
    Assignment,
    HiddenStateCache,
    fill_by_others,
    find_turn,
    make_turn_context,
    run_beside,
    run_breadth_first,
)
from explorer.masks import NONE, Mask
from explorer.measures.criterion import Criterion, LossRequest
from explorer.model import BatchedWindows, Hidden, ModelWrappers, slice_rows
from explorer.text import Corpus, Windows


def measure_last_token_cosine(request: LossRequest) -> Float64[np.ndarray, "masks windows"]:
    """1 - cos(y, y') of each mask on each of some calibration windows.

    y is the hidden state of the window's last token after the final norm, in the unpruned model, y' the same under the
    mask: the similarity by which Gromov et al. (arXiv:2403.17887) choose a block, taken at the model's end. Infinite
    where the arithmetic overflowed. What is stored is not computed again.

    Raises:
        MaskError: a mask names a layer that the model lacks.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; what was finished stays stored.
    """
    loaded, store = request.loaded, request.store
    windows = request.corpus.calibration[request.rows]
    asked = list(dict.fromkeys(mask.checked(loaded.n_layers) for mask in request.masks))

    def work(size: int) -> Float64[np.ndarray, "masks windows"]:
        context = make_turn_context(loaded.numerics_key(size))

        def look_up() -> dict[Mask | Variant, dict[str, float]]:
            found = store.nll_of(context, windows.digests, [mask.key for mask in asked])
            return {mask: found[mask.key] for mask in asked}

        known = look_up()
        if fill_by_others(_fill, Assignment(loaded, windows, asked, store, request.progress), known, size):
            known = look_up()
        for part in slice_rows(len(windows), size if loaded.wrappers.stream is None else len(windows)):
            digests = windows.digests[part]
            missing = [mask for mask in asked if any(digest not in known[mask] for digest in digests)]
            if not missing:
                continue
            request.progress(part.start, len(windows), f"Comparing {len(asked)} mask{'s' * (len(asked) > 1)}")
            cut = BatchedWindows(loaded.wrappers, windows.ids[part], size, store.folder)
            found = _compare(cut, list(dict.fromkeys([NONE, *missing])), request.state_cache)
            sound = []
            for mask in missing:
                values = dict(zip(digests, found[mask][: len(digests)].tolist(), strict=True))
                known[mask].update(values)
                sound += [(digest, mask.key, loss) for digest, loss in values.items() if math.isfinite(loss)]
            store.add_nll(context, sound)
        return np.array([[known[mask][digest] for digest in windows.digests] for mask in request.masks])

    return loaded.batch_shape.run(work, request.corpus.window)


def _fill(assigned: Assignment[Windows]) -> None:
    """Store the turns that are assigned."""
    windows = assigned.inputs
    asked = LossRequest(
        assigned.loaded, Corpus("", windows, windows, False), assigned.variants, assigned.store, assigned.progress,
        state_cache=assigned.state_cache,
    )  # fmt: skip
    measure_last_token_cosine(asked)


@torch.inference_mode()
def _compare(
    windows: BatchedWindows, masks: list[Mask | Variant], state_cache: HiddenStateCache | None
) -> dict[Mask | Variant, Float64[Tensor, " windows"]]:
    """Return for each mask, the empty one among them, how far it turns each window's last state."""
    wrappers = windows.wrappers
    parts: dict[Mask | Variant, list[Tensor]] = {mask: [] for mask in masks}
    if wrappers.stream is None:
        for _, ids in windows.batches():
            for group, hidden in run_beside(wrappers, ids, NONE, masks, state_cache):
                for mask in group:
                    parts[mask].append(_finish(wrappers, hidden))
    else:
        for branch in chain.from_iterable(run_breadth_first(windows, masks)):
            for rows, _ in windows.batches():
                for mask in branch.variants:
                    parts[mask].append(_finish(wrappers, windows.fill(branch.states[rows])))
    states = {mask: torch.cat(found)[: len(windows.ids)] for mask, found in parts.items()}
    return {mask: find_turn(states[NONE], found) for mask, found in states.items()}


def _finish(wrappers: ModelWrappers, hidden: Hidden) -> Float64[Tensor, "batch _"]:
    """Last token's state after the final norm."""
    return wrappers.finish(hidden)[:, -1].double().cpu()


LAST_TOKEN_COSINE = Criterion(
    "last-token-cosine", "Cosine distance of the last token's final state", "1 - cos",
    "the similarity of Gromov et al., arXiv:2403.17887, at the model's end", measure_last_token_cosine,
)  # fmt: skip
