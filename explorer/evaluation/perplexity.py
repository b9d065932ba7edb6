"""LoadedModel, Corpus, [Mask] -> [Score]: many masks at once, shared prefixes computed once.

Masks that agree up to a layer share everything before it. A batch of windows goes down the tree of masks, each
distinct prefix run once, with the keyword arguments that the model itself passes to its layers. The arithmetic of a
mask is the same whatever it shares, and every batch has one shape, so the numbers do not depend on what was asked
together, how, or before.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn import functional as F

from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.prefix_tree import KeptState, run_prefix_tree
from explorer.evaluation.scores import Estimate, Overflow, Score
from explorer.masks import NONE, Mask
from explorer.model import Hidden, Ids, LayerInputs, LoadedModel, ModelWrappers, pad_batch, slice_rows
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus, Split, Windows

_Windows = Int[np.ndarray, "windows window"]
_Nll = Float64[np.ndarray, " batch"]

#: Bytes of float32 logits in memory at once. What malloc hands out again without new pages is below 32 MiB.
LOGIT_BYTES = {"cpu": 24 * 2**20, "cuda": 2**29}


@dataclass(frozen=True)
class Live:
    """What makes an answer quick that somebody waits for.

    Args:
        state_cache: states kept from the masks before, used and added to.
        listener: told the estimates, in the order of the masks, after each batch but the last.
    """

    state_cache: HiddenStateCache
    listener: Callable[[list[Estimate]], None]


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
    are stored as soon as they are known. Where the arithmetic overflows, the nats are infinite.

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

    def work(size: int) -> _Scores:
        scores = _Scores(loaded, windows, store, size)
        scores.look_up(asked)
        _Work(scores, progress, live, masks).run()
        return scores

    relieve = live.state_cache.shrink if live else lambda: None
    scores = loaded.batch_shape.run(work, windows.ids.shape[1], relieve)
    return [scores.of(mask) for mask in masks]


def recall(
    loaded: LoadedModel, corpus: Corpus, masks: Sequence[Mask], store: Store, split: Split = "held-out"
) -> dict[Mask, Score]:
    """Return the scores of those masks that the store knows on every window of a split; compute nothing."""
    windows = corpus.split(split)
    scores = _Scores(loaded, windows, store, loaded.batch_shape.rows(corpus.window))
    scores.look_up([NONE, *masks])
    whole = {mask for mask, nll in scores.known.items() if all(digest in nll for digest in windows.digests)}
    return {mask: scores.of(mask) for mask in masks if {mask, NONE} <= whole}


@dataclass
class _Scores:
    """Negative log-likelihoods of masks on some windows, as far as they are known, for batches of one size."""

    loaded: LoadedModel
    windows: Windows
    store: Store
    size: int
    known: dict[Mask, dict[str, float]] = field(default_factory=dict)  # mask -> window digest -> nats

    @cached_property
    def context(self) -> str:
        """Key of everything but window and mask that decides the nats."""
        return self.loaded.numerics_key(self.size)

    def look_up(self, masks: Iterable[Mask]) -> None:
        """Take what the store knows of some masks."""
        for mask in masks:
            self.known[mask] = self.store.nll(self.context, self.windows.digests, str(mask))

    def add(self, mask: Mask, digests: Sequence[str], nll: _Nll, overflows: dict[int, int]) -> None:
        """Store a mask's nats on some windows, and for those that overflowed, by place, the first layer that did."""
        layers = [(digests[place], str(mask), layer) for place, layer in overflows.items()]
        if layers:
            self.store.add_overflows(self.context, layers)
        found = dict(zip(digests, nll.tolist(), strict=True))
        self.store.add_nll(self.context, [(digest, str(mask), n) for digest, n in found.items()])
        self.known[mask].update(found)

    def missing(self) -> dict[tuple[Mask, ...], list[int]]:
        """Group the distinct windows by the masks that have not been scored on them."""
        groups: dict[tuple[Mask, ...], list[int]] = defaultdict(list)
        for digest, index in {d: i for i, d in reversed(list(enumerate(self.windows.digests)))}.items():
            absent = tuple(mask for mask, nll in self.known.items() if digest not in nll)
            if absent:
                groups[absent].append(index)
        return {masks: sorted(rows) for masks, rows in groups.items()}

    def of(self, mask: Mask, rows: Sequence[int] | None = None) -> Score:
        """Return the score of a mask on some windows; on all of them if they are not named."""
        chosen = list(range(len(self.windows)) if rows is None else rows)
        digests = [self.windows.digests[i] for i in chosen]
        nll, baseline = (np.array([self.known[m][digest] for digest in digests]) for m in (mask, NONE))
        return Score(
            mask,
            nll,
            baseline,
            self.windows.ids.shape[1] - 1,
            self.windows.text_bytes[chosen],
            self._overflow(mask, digests, nll),
            self._overflow(NONE, digests, baseline),
        )

    def _overflow(self, mask: Mask, digests: list[str], nll: Float64[np.ndarray, " windows"]) -> Overflow | None:
        if np.isfinite(nll).all():
            return None
        layer = self.store.overflow(self.context, digests, str(mask))
        return Overflow(self.loaded.dtype, layer, self.loaded.n_layers)


@dataclass
class _Work:
    """Scores what is missing, batch by batch; stores each mask's nats on a batch when they are known."""

    scores: _Scores
    progress: Progress
    live: Live | None
    asked: Sequence[Mask]
    done: int = 0

    def run(self) -> None:
        """Score all that is missing."""
        groups = self.scores.missing()
        self.total = sum(len(masks) * len(rows) for masks, rows in groups.items())
        for masks, rows in groups.items():
            self._run_group(list(masks), rows)

    def _run_group(self, masks: list[Mask], rows: list[int]) -> None:
        """Score masks on some windows; tell the listener about all the masks that were asked for."""
        scores, live, loaded = self.scores, self.live, self.scores.loaded
        what = f"Scoring {len(masks)} mask{'s' * (len(masks) > 1)}"
        self.progress(self.done, self.total, what)
        for part in slice_rows(len(rows), scores.size):
            chosen = rows[part]
            digests = [scores.windows.digests[i] for i in chosen]
            ids = pad_batch(scores.windows.ids[chosen], scores.size, loaded.device)
            for mask, nll, overflows in score_batch(loaded.wrappers, ids, masks, live.state_cache if live else None):
                real = {place: layer for place, layer in overflows.items() if place < len(chosen)}
                scores.add(mask, digests, nll[: len(chosen)], real)
                self.done += len(chosen)
                self.progress(self.done, self.total, what)
            if live and self.done < self.total:
                live.listener([self._estimate(mask) for mask in self.asked])

    def _estimate(self, mask: Mask) -> Estimate:
        """Estimate a mask that was asked for; after any batch it is known on that batch's windows at least."""
        digests, known = self.scores.windows.digests, self.scores.known
        rows = [i for i, d in enumerate(digests) if d in known[mask] and d in known[NONE]]
        baseline = [known[NONE][d] for d in digests if d in known[NONE]]
        tokens = self.scores.windows.ids.shape[1] - 1
        return Estimate(self.scores.of(mask, rows), math.fsum(baseline) / len(baseline) / tokens, len(digests))


@torch.inference_mode()
def score_batch(
    wrappers: ModelWrappers, ids: Ids, masks: Sequence[Mask], state_cache: HiddenStateCache | None = None
) -> Iterator[tuple[Mask, _Nll, dict[int, int]]]:
    """Yield each mask with the nats of windows, in the order of the tree.

    And, for windows that overflowed, by place: the first layer whose output is not finite, or L.
    """
    layer_inputs = wrappers.layer_inputs(ids)
    for group, hidden in run_prefix_tree(
        wrappers, layer_inputs, list(masks), KeptState(state_cache, ids) if state_cache else None
    ):
        nll = window_nll(wrappers, hidden, ids)
        overflows = {} if np.isfinite(nll).all() else _find_overflows(wrappers, layer_inputs, group[0], np.isinf(nll))
        for mask in group:
            yield mask, nll, overflows


def _find_overflows(
    wrappers: ModelWrappers, layer_inputs: LayerInputs, mask: Mask, windows: Bool[np.ndarray, " batch"]
) -> dict[int, int]:
    """Find, for each of the windows that overflowed, the first layer whose output is not finite, or L."""
    found = dict.fromkeys(map(int, np.flatnonzero(windows)), len(wrappers.layers))
    hidden = layer_inputs.hidden
    with wrappers.masked(mask):
        for layer, call in enumerate(layer_inputs.calls):
            hidden = wrappers.run_layer(layer, hidden, call)
            sound = hidden.flatten(1).isfinite().all(1).tolist()
            found.update({place: layer for place in found if not sound[place] and found[place] == len(wrappers.layers)})
    return found


@torch.inference_mode()
def score_tokens(loaded: LoadedModel, ids: _Windows, mask: Mask) -> Float64[np.ndarray, "windows window-1"]:
    """Return the nats of each predicted token, nothing stored.

    Infinite where the arithmetic overflowed.

    Raises:
        MaskError: the mask names a layer that the model lacks.
        DeviceError: out of memory with a single window.
    """
    mask = mask.checked(loaded.n_layers)

    def work(size: int) -> Float64[np.ndarray, "windows window-1"]:
        return np.concatenate([score_part(ids[part], size) for part in slice_rows(len(ids), size)])

    def score_part(part: _Windows, size: int) -> Float64[np.ndarray, "windows window-1"]:
        tokens = pad_batch(part, size, loaded.device)
        ((_, hidden),) = run_prefix_tree(loaded.wrappers, loaded.wrappers.layer_inputs(tokens), [mask], None)
        return token_nll(loaded.wrappers, hidden, tokens)[: len(part)].cpu().numpy()

    return loaded.batch_shape.run(work, ids.shape[1])


def window_nll(wrappers: ModelWrappers, hidden: Hidden, ids: Ids) -> _Nll:
    """Sum the nats of each window's predicted tokens, from the last layer's output."""
    return token_nll(wrappers, hidden, ids).sum(1).cpu().numpy()


def token_nll(wrappers: ModelWrappers, hidden: Hidden, ids: Ids) -> Float64[Tensor, "batch window-1"]:
    """Nats of each predicted token, infinite where the arithmetic overflowed.

    Logits exist for a few positions at a time.
    """
    finished, targets = wrappers.finish(hidden)[:, :-1], ids[:, 1:].to(hidden.device)
    nll = torch.empty(targets.shape, dtype=torch.float64, device=hidden.device)
    for block in slice_positions(wrappers, targets.shape, hidden.device.type):
        nll[block] = find_nll(wrappers.logits(finished[block].flatten(0, 1)), targets[block]).to(nll.device)
    return nll


def find_nll(
    logits: Float[Tensor, "_ vocabulary"], targets: Int[Tensor, "batch positions"]
) -> Float64[Tensor, "batch positions"]:
    """Nats of targets, from the logits of batch * positions places; infinite where those are not finite."""
    losses = F.cross_entropy(logits.float(), targets.flatten().to(logits.device), reduction="none")
    return losses.double().view(targets.shape).nan_to_num(nan=math.inf, posinf=math.inf)


def slice_positions(wrappers: ModelWrappers, shape: Sequence[int], device: str) -> Iterator[tuple[slice, slice]]:
    """Cut (batch, positions) into blocks whose float32 logits are few enough to be in memory at once."""
    rows, length = shape
    positions = max(1, LOGIT_BYTES.get(device, LOGIT_BYTES["cpu"]) // (4 * wrappers.vocabulary))
    step = max(1, positions // length)
    for top in range(0, rows, step):
        for left in range(0, length, positions):
            yield slice(top, min(top + step, rows)), slice(left, min(left + positions, length))
