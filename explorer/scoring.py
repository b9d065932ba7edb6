"""LoadedModel, Corpus, [Mask] -> [Score]: many masks at once, shared prefixes computed once.

Masks that agree up to a layer share everything before it. A batch of windows goes down the tree of masks, each
distinct prefix run once, with the keyword arguments that the model itself passes to its layers. The arithmetic of a
mask is the same whatever it shares, so the numbers do not depend on what was asked together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.descent import Kept, descend
from explorer.hooks import Hooks
from explorer.loading import LoadedModel
from explorer.masks import NONE, Mask
from explorer.prefixes import Prefixes
from explorer.records import Corpus, Estimate, Progress, Score, Split, Windows, unreported
from explorer.store import Store

#: Bytes of float32 logits in memory at once. What malloc hands out again without new pages is below 32 MiB.
LOGIT_BYTES = {"cpu": 24 * 2**20, "cuda": 2**29}

Known = dict[Mask, dict[str, float]]  # mask -> window digest -> nats


@dataclass(frozen=True)
class Live:
    """What makes an answer quick that somebody waits for.

    Args:
        prefixes: states kept from the masks before, used and added to.
        listener: told the estimates, in the order of the masks, after each batch but the last.
        tokens: ids in a batch; fewer, and the first estimate comes sooner.
    """

    prefixes: Prefixes
    listener: Callable[[list[Estimate]], None]
    tokens: int = 512


def score(
    loaded: LoadedModel,
    corpus: Corpus,
    masks: Sequence[Mask],
    store: Store,
    split: Split = "held-out",
    progress: Progress = unreported,
    live: Live | None = None,
    rows: slice = slice(None),
) -> list[Score]:
    """Score masks on one split, in the order given. What the store has is not computed again.

    Perplexity is over non-overlapping windows; a window of W ids predicts W-1. A mask's nats on a batch of windows
    are stored as soon as they are known.

    Args:
        loaded: the model.
        corpus: the text.
        masks: what is off; the unpruned model is scored as well.
        store: where nats are kept.
        split: which windows.
        progress: told how many (mask, window) pairs are done.
        live: makes a single answer quick.
        rows: only these windows of the split.

    Raises:
        MaskError: a mask names a layer that the model lacks.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` or the listener raised it; what was finished stays stored.
    """
    windows = corpus.split(split)[rows]
    asked = list(dict.fromkeys([NONE, *(mask.checked(loaded.n_layers) for mask in masks)]))
    known = {mask: store.nats(loaded.context, windows.digests, str(mask)) for mask in asked}
    groups = _missing(known, windows.digests)
    work = _Work(loaded, windows, known, store, progress, live, sum(len(m) * len(r) for m, r in groups.items()))
    for group, indices in groups.items():
        work.run(list(group), indices, masks)
    return [_assemble(mask, known, windows, range(len(windows))) for mask in masks]


def recall(
    loaded: LoadedModel, corpus: Corpus, masks: Sequence[Mask], store: Store, split: Split = "held-out"
) -> dict[Mask, Score]:
    """Return the scores of those masks that the store knows on every window of a split; compute nothing."""
    windows = corpus.split(split)
    known = {mask: store.nats(loaded.context, windows.digests, str(mask)) for mask in (NONE, *masks)}
    whole = {mask for mask, nats in known.items() if all(digest in nats for digest in windows.digests)}
    rows = range(len(windows))
    return {mask: _assemble(mask, known, windows, rows) for mask in masks if {mask, NONE} <= whole}


def _missing(known: Known, digests: Sequence[str]) -> dict[tuple[Mask, ...], list[int]]:
    """Group the distinct windows by the masks that have not been scored on them."""
    groups: dict[tuple[Mask, ...], list[int]] = defaultdict(list)
    for digest, index in {digest: index for index, digest in reversed(list(enumerate(digests)))}.items():
        absent = tuple(mask for mask, nats in known.items() if digest not in nats)
        if absent:
            groups[absent].append(index)
    return {masks: sorted(rows) for masks, rows in groups.items()}


def _assemble(mask: Mask, known: Known, windows: Windows, rows: Sequence[int]) -> Score:
    """Make the score of a mask from the nats of some windows."""
    nats, base = (np.array([known[m][windows.digests[i]] for i in rows]) for m in (mask, NONE))
    return Score(mask, nats, base, windows.ids.shape[1] - 1, windows.text_bytes[list(rows)])


@dataclass
class _Work:
    """Scores what is missing, batch by batch; stores each mask's nats on a batch when they are known."""

    loaded: LoadedModel
    windows: Windows
    known: Known
    store: Store
    progress: Progress
    live: Live | None
    total: int
    done: int = 0

    def run(self, masks: list[Mask], rows: list[int], asked: Sequence[Mask]) -> None:
        """Score masks on some windows; tell the listener about all the masks that were asked for."""
        live, loaded = self.live, self.loaded
        what = f"Scoring {len(masks)} mask{'s' * (len(masks) > 1)}"
        self.progress(self.done, self.total, what)

        def work(part: slice) -> None:
            digests = [self.windows.digests[i] for i in rows[part]]
            missing = [mask for mask in masks if any(digest not in self.known[mask] for digest in digests)]
            ids = torch.from_numpy(self.windows.ids[rows[part]]).to(loaded.device)
            for mask, nats in score_batch(loaded.hooks, ids, missing, live.prefixes if live else None):
                found = dict(zip(digests, nats.tolist(), strict=True))
                self.store.add_nats(loaded.context, [(digest, str(mask), n) for digest, n in found.items()])
                self.known[mask].update(found)
                self.done += len(digests)
                self.progress(self.done, self.total, what)
            if live and self.done < self.total:
                live.listener([self._estimate(mask) for mask in asked])

        loaded.batches.run(
            work,
            len(rows),
            self.windows.ids.shape[1],
            live.tokens if live else None,
            live.prefixes.shrink if live else lambda: None,
        )

    def _estimate(self, mask: Mask) -> Estimate:
        """Estimate a mask that was asked for; after any batch it is known on that batch's windows at least."""
        digests = self.windows.digests
        rows = [i for i, d in enumerate(digests) if d in self.known[mask] and d in self.known[NONE]]
        base = [self.known[NONE][d] for d in digests if d in self.known[NONE]]
        tokens = self.windows.ids.shape[1] - 1
        return Estimate(
            _assemble(mask, self.known, self.windows, rows), math.fsum(base) / len(base) / tokens, len(digests)
        )


@torch.inference_mode()
def score_batch(
    hooks: Hooks, ids: Tensor, masks: Sequence[Mask], prefixes: Prefixes | None = None
) -> Iterator[tuple[Mask, np.ndarray]]:
    """Yield each mask with the nats (batch,) float64 of windows ids (batch, window), in the order of the tree."""
    trace = hooks.trace(ids)
    for group, hidden in descend(hooks, trace, list(masks), Kept(prefixes, ids) if prefixes else None):
        nats = window_nats(hooks, hidden, ids)
        for mask in group:
            yield mask, nats


@torch.inference_mode()
def score_tokens(loaded: LoadedModel, ids: np.ndarray, mask: Mask) -> np.ndarray:
    """Return the nats of each predicted token (windows, window - 1) float64 of ids (windows, window), nothing stored.

    Raises:
        MaskError: the mask names a layer that the model lacks.
    """
    tokens = torch.from_numpy(ids).to(loaded.device)
    trace = loaded.hooks.trace(tokens)
    ((_, hidden),) = descend(loaded.hooks, trace, [mask.checked(loaded.n_layers)], None)
    return token_nats(loaded.hooks, hidden, tokens).cpu().numpy()


def window_nats(hooks: Hooks, hidden: Tensor, ids: Tensor) -> np.ndarray:
    """Sum the nats of each window's predicted tokens, (batch,) float64, from the last layer's output."""
    return token_nats(hooks, hidden, ids).sum(1).cpu().numpy()


def token_nats(hooks: Hooks, hidden: Tensor, ids: Tensor) -> Tensor:
    """Nats of each predicted token (batch, window - 1), float64; logits exist for a few positions at a time."""
    finished, targets = hooks.finish(hidden)[:, :-1], ids[:, 1:].to(hidden.device)
    nats = torch.empty(targets.shape, dtype=torch.float64, device=hidden.device)
    for block in blocks(hooks, targets.shape, hidden.device.type):
        logits = hooks.logits(finished[block].flatten(0, 1)).float()
        losses = F.cross_entropy(logits, targets[block].flatten().to(logits.device), reduction="none")
        nats[block] = losses.double().view(targets[block].shape).to(nats.device)
    return nats


def blocks(hooks: Hooks, shape: Sequence[int], device: str) -> Iterator[tuple[slice, slice]]:
    """Cut (batch, positions) into blocks whose float32 logits are few enough to be in memory at once."""
    rows, length = shape
    positions = max(1, LOGIT_BYTES.get(device, LOGIT_BYTES["cpu"]) // (4 * hooks.vocabulary))
    step = max(1, positions // length)
    for top in range(0, rows, step):
        for left in range(0, length, positions):
            yield slice(top, min(top + step, rows)), slice(left, min(left + positions, length))
