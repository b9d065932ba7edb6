"""LoadedModel, Corpus, [Mask] -> [Score]: many masks at once, shared prefixes computed once.

Masks that agree up to a layer share everything before it. A batch of windows goes down the tree of masks, each
distinct prefix run once, with the keyword arguments that the model itself passes to its layers. The arithmetic of a
mask is the same whatever it shares, so the numbers do not depend on what was asked together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.batches import run_batched
from explorer.hooks import Hooks, Trace
from explorer.loading import LoadedModel
from explorer.masks import NONE, Mask
from explorer.records import Corpus, Progress, Score, Split, unreported
from explorer.store import Store

HEAD_TOKENS = 256  # positions whose logits are in memory at once


def score(
    loaded: LoadedModel,
    corpus: Corpus,
    masks: Sequence[Mask],
    store: Store,
    split: Split = "held-out",
    progress: Progress = unreported,
) -> list[Score]:
    """Score masks on one split, in the order given. What the store has is not computed again.

    Perplexity is over non-overlapping windows; a window of W ids predicts W-1. Every finished batch of windows is
    stored before the next begins.

    Raises:
        MaskError: a mask names a layer that the model lacks.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; what was finished stays stored.
    """
    windows = corpus.split(split)
    asked = list(dict.fromkeys([NONE, *(mask.checked(loaded.n_layers) for mask in masks)]))
    known = {mask: store.nats(loaded.context, windows.digests, str(mask)) for mask in asked}
    for group, rows in _missing(known, windows.digests).items():
        _score_missing(
            loaded, windows.ids[rows], [windows.digests[i] for i in rows], list(group), known, store, progress
        )
    nats = {mask: np.array([known[mask][digest] for digest in windows.digests]) for mask in asked}
    return [Score(mask, nats[mask], nats[NONE], corpus.window - 1, windows.text_bytes) for mask in masks]


def _missing(known: dict[Mask, dict[str, float]], digests: Sequence[str]) -> dict[tuple[Mask, ...], list[int]]:
    """Group the distinct windows by the masks that have not been scored on them."""
    groups: dict[tuple[Mask, ...], list[int]] = defaultdict(list)
    for digest, index in {digest: index for index, digest in reversed(list(enumerate(digests)))}.items():
        absent = tuple(mask for mask, nats in known.items() if digest not in nats)
        if absent:
            groups[absent].append(index)
    return {masks: sorted(rows) for masks, rows in groups.items()}


def _score_missing(
    loaded: LoadedModel,
    ids: np.ndarray,
    digests: list[str],
    masks: list[Mask],
    known: dict[Mask, dict[str, float]],
    store: Store,
    progress: Progress,
) -> None:
    total = len(digests) * len(masks)
    what = f"Scoring {len(masks)} mask{'s' * (len(masks) > 1)}"

    def work(rows: slice) -> None:
        batch = torch.from_numpy(ids[rows]).to(loaded.device)
        scored: dict[Mask, dict[str, float]] = {}
        for mask, nats in score_batch(loaded.hooks, batch, masks):
            scored[mask] = dict(zip(digests[rows], nats.tolist(), strict=True))
            progress(rows.start * len(masks) + len(scored) * len(nats), total, what)
        store.add_nats(
            loaded.context, [(digest, str(mask), n) for mask, found in scored.items() for digest, n in found.items()]
        )
        for mask, found in scored.items():
            known[mask].update(found)

    progress(0, total, what)
    run_batched(work, len(digests), ids.shape[1], loaded.device)


@torch.inference_mode()
def score_batch(hooks: Hooks, ids: Tensor, masks: Sequence[Mask]) -> Iterator[tuple[Mask, np.ndarray]]:
    """Yield each mask with the nats (batch,) float64 of windows ids (batch, window), in the order of the tree."""
    trace = hooks.trace(ids)
    for group, hidden in _descend(hooks, trace, list(masks)):
        nats = _window_nats(hooks, hidden, ids)
        for mask in group:
            yield mask, nats


def _descend(hooks: Hooks, trace: Trace, masks: list[Mask]) -> Iterator[tuple[list[Mask], Tensor]]:
    """Yield masks with their last layer's output, running each distinct prefix once.

    Of the branches at a fork the fullest is taken last: what waits on the stack then is the states of a few forks,
    not of every layer.
    """
    stack = [(0, trace.hidden, masks)]
    while stack:
        layer, hidden, group = stack.pop()
        while layer < len(hooks.layers):
            group, *others = _fork(group, layer)
            stack += [(layer, hidden, other) for other in reversed(others)]
            with hooks.masked(group[0]):
                hidden = hooks.run_layer(layer, hidden, trace.calls[layer])
            layer += 1
        yield group, hidden


def _fork(masks: list[Mask], layer: int) -> list[list[Mask]]:
    """Part masks by what is off in a layer, the smallest part first."""
    parts: dict[tuple[bool, bool], list[Mask]] = defaultdict(list)
    for mask in masks:
        parts[mask.off(layer)].append(mask)
    return sorted(parts.values(), key=len)


def _window_nats(hooks: Hooks, hidden: Tensor, ids: Tensor) -> np.ndarray:
    """Sum the nats of each window's predicted tokens; logits exist for a few positions at a time."""
    targets = ids[:, 1:]
    nats = torch.zeros(len(ids), dtype=torch.float64)
    rows = max(1, HEAD_TOKENS // targets.shape[1])
    for top in range(0, len(ids), rows):
        for left in range(0, targets.shape[1], HEAD_TOKENS):
            block = slice(top, top + rows), slice(left, min(left + HEAD_TOKENS, targets.shape[1]))
            logits = hooks.logits(hidden[block]).float()
            losses = F.cross_entropy(logits.flatten(0, 1), targets[block].flatten().to(logits.device), reduction="none")
            nats[block[0]] += losses.double().view(len(logits), -1).sum(1).cpu()
    return nats.numpy()
