"""LoadedModel, Corpus, [Variant] -> [Score]: many variants at once, shared prefixes computed once.

Variants that agree up to a layer share everything before it. A batch of windows goes down the tree of them, each
distinct prefix run once, with the keyword arguments that the model itself passes to its layers. The arithmetic of a
variant is the same whatever it shares, and every batch has one shape, so the numbers do not depend on what was asked
together, how, or before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float64, Int

from explorer.deltas import Variant
from explorer.evaluation.batch_scores import score_batch
from explorer.evaluation.breadth_first import run_batches, run_breadth_first
from explorer.evaluation.executor import Assignment, Missing, count_cost, fill_by_others, find_missing
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.measured import note_variant
from explorer.evaluation.nll import WindowNll, token_nll, window_nll
from explorer.evaluation.prefix_tree import count_steps
from explorer.evaluation.scores import Estimate, Overflow, Score
from explorer.masks import NONE, Mask
from explorer.model import BatchedWindows, LoadedModel, pad_batch, slice_rows
from explorer.progress import Progress, tell_left, unreported
from explorer.stopwatch import timing
from explorer.storage import Store
from explorer.text import Corpus, Split, Windows

_Variant = TypeVar("_Variant", bound=Mask | Variant)
_Windows = Int[np.ndarray, "windows window"]


@dataclass(frozen=True)
class LiveScoring:
    """What makes an answer quick that somebody waits for.

    Args:
        state_cache: states kept from the variants before, used and added to.
        listener: told the estimates, in the order of the variants, after each batch but the last.
    """

    state_cache: HiddenStateCache
    listener: Callable[[list[Estimate]], None]


def score(
    loaded: LoadedModel,
    corpus: Corpus,
    variants: Sequence[Mask | Variant],
    store: Store,
    split: Split = "held-out",
    progress: Progress = unreported,
    live: LiveScoring | None = None,
    rows: slice = slice(None),
) -> list[Score]:
    """Score variants on one split, in the order given. What the store has is not computed again.

    Perplexity is over non-overlapping windows; a window of W ids predicts W-1. A variant's nats on a batch of windows
    are stored as soon as they are known. Where the arithmetic overflows, the nats are infinite.

    Args:
        loaded: the model.
        corpus: the text.
        variants: what is off, and changed; the unpruned model is scored as well.
        store: where nats are kept.
        split: which windows.
        progress: told how many (variant, window) pairs are done.
        live: makes a single answer quick.
        rows: only these windows of the split.

    Raises:
        MaskError: a variant names a layer that the model lacks.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` or the listener raised it; what was finished stays stored.
    """
    windows = corpus.split(split)[rows]
    asked = list(dict.fromkeys([NONE, *(variant.checked(loaded.n_layers) for variant in variants)]))

    def work(size: int) -> _Scores:
        scores = _Scores(loaded, windows, store, size)
        scores.look_up(asked)
        scores.note_variants()
        if not live and fill_by_others(_fill, Assignment(loaded, windows, asked, store, progress), scores.known, size):
            scores.look_up(asked)
        _Work(scores, progress, live, variants).run()
        return scores

    relieve = live.state_cache.shrink if live else lambda: None
    scores = loaded.batch_shape.run(work, windows.ids.shape[1], relieve)
    return [scores.of(variant) for variant in variants]


def _fill(assigned: Assignment[Windows]) -> None:
    """Store the nats that are assigned."""
    windows = assigned.inputs
    size = assigned.loaded.batch_shape.rows(windows.ids.shape[1])
    scores = _Scores(assigned.loaded, windows, assigned.store, size)
    scores.look_up(assigned.variants)
    _Work(scores, assigned.progress, None, assigned.variants).run()


def find_stored_scores(
    loaded: LoadedModel, corpus: Corpus, variants: Sequence[_Variant], store: Store, split: Split = "held-out"
) -> dict[_Variant, Score]:
    """Return the scores of those variants that the store knows on every window of a split; compute nothing."""
    windows = corpus.split(split)
    scores = _Scores(loaded, windows, store, loaded.batch_shape.rows(corpus.window))
    scores.look_up([NONE, *variants])
    whole = {each for each, nll in scores.known.items() if all(digest in nll for digest in windows.digests)}
    return {variant: scores.of(variant) for variant in variants if {variant, NONE} <= whole}


@dataclass
class _Scores:
    """Negative log-likelihoods of variants on some windows, as far as they are known, for batches of one size."""

    loaded: LoadedModel
    windows: Windows
    store: Store
    size: int
    known: dict[Mask | Variant, dict[str, float]] = field(default_factory=dict)  # variant -> window digest -> nats

    @cached_property
    def context(self) -> str:
        """Key of everything but window and variant that decides the nats."""
        return self.loaded.numerics_key(self.size)

    def look_up(self, variants: Iterable[Mask | Variant]) -> None:
        """Take what the store knows of some variants."""
        keys = {variant: variant.key for variant in variants}
        found = self.store.nll_of(self.context, self.windows.digests, keys.values())
        self.known.update({variant: found[key] for variant, key in keys.items()})

    def add(self, variant: Mask | Variant, digests: Sequence[str], nll: WindowNll, overflows: dict[int, int]) -> None:
        """Store a variant's nats on some windows, and for those that overflowed, by place, the first layer that did."""
        layers = [(digests[place], variant.key, layer) for place, layer in overflows.items()]
        found = dict(zip(digests, nll.tolist(), strict=True))
        with self.store.together():
            self.store.add_nll(self.context, [(digest, variant.key, n) for digest, n in found.items()])
            if layers:
                self.store.add_overflows(self.context, layers)
        self.known[variant].update(found)

    def missing(self) -> Missing:
        """Group the distinct windows by the variants that have not been scored on them."""
        return find_missing(self.windows.digests, self.known)

    def note_variants(self) -> None:
        """Note in the store what the variants are that have not been scored."""
        for variant, nll in self.known.items():
            if isinstance(variant, Variant) and not variant.removed and not nll.keys() >= set(self.windows.digests):
                note_variant(self.loaded, variant, self.store)

    def of(self, variant: Mask | Variant, rows: Sequence[int] | None = None) -> Score:
        """Return the score of a variant on some windows; on all of them if they are not named."""
        chosen = list(range(len(self.windows)) if rows is None else rows)
        digests = [self.windows.digests[i] for i in chosen]
        nll, baseline = (np.array([self.known[m][digest] for digest in digests]) for m in (variant, NONE))
        return Score(
            variant,
            nll,
            baseline,
            self.windows.ids.shape[1] - 1,
            self.windows.text_bytes[chosen],
            self._overflow(variant, digests, nll),
            self._overflow(NONE, digests, baseline),
        )

    def _overflow(
        self, variant: Mask | Variant, digests: list[str], nll: Float64[np.ndarray, " windows"]
    ) -> Overflow | None:
        if np.isfinite(nll).all():
            return None
        layer = self.store.overflow(self.context, digests, variant.key)
        return Overflow(self.loaded.dtype, layer, self.loaded.n_layers)


@dataclass
class _Work:
    """Scores what is missing, batch by batch; stores each variant's nats on a batch when they are known."""

    scores: _Scores
    progress: Progress
    live: LiveScoring | None
    asked: Sequence[Mask | Variant]
    done: int = 0
    left: int = 0  # layers to be run on a batch

    def run(self) -> None:
        """Score all that is missing."""
        groups = self.scores.missing()
        self.total = sum(len(variants) * len(rows) for variants, rows in groups.items())
        self.left = count_cost(groups, self.scores.size, self.scores.loaded.n_layers)
        run = self._run_group if self.scores.loaded.wrappers.stream is None else self._run_by_layers
        for variants, rows in groups.items():
            run(list(variants), rows)

    def _run_by_layers(self, variants: list[Mask | Variant], rows: list[int]) -> None:
        """Score variants of a streamed model on some windows; their nats are known when all of them are."""
        scores, wrappers = self.scores, self.scores.loaded.wrappers
        windows = BatchedWindows(wrappers, scores.windows.ids[rows], scores.size, scores.store.folder)
        for level in run_breadth_first(windows, variants, self.progress):
            for branch in level:
                for part, ids in windows.batches():
                    digests = [scores.windows.digests[i] for i in rows[part]]
                    nll = window_nll(wrappers, windows.fill(branch.states[part]), ids, branch.variants[0])[
                        : len(digests)
                    ]
                    broken = branch.broken[part]
                    overflows = {int(place): int(broken[place]) for place in np.flatnonzero(np.isinf(nll))}
                    for variant in branch.variants:
                        scores.add(variant, digests, nll, overflows)
                self.done += len(branch.variants) * len(rows)
                self.progress(self.done, self.total, "Scoring the last layer's output")

    def _run_group(self, variants: list[Mask | Variant], rows: list[int]) -> None:
        """Score variants on some windows; tell the listener about all that were asked for."""
        scores, live, loaded = self.scores, self.live, self.scores.loaded
        cache = live.state_cache if live else None
        what = f"Scoring {len(variants)} mask{'s' * (len(variants) > 1)}"
        kind = "live" if live else "score", scores.size, scores.windows.length  # states of others are kept for the live
        cost = sum(count_steps(variants, loaded.n_layers)[1])
        self.progress(self.done, self.total, what)
        for part in slice_rows(len(rows), scores.size):
            tell_left(loaded.pace.estimate(kind, self.left))
            chosen = rows[part]
            digests = [scores.windows.digests[i] for i in chosen]
            ids = pad_batch(scores.windows.ids[chosen], scores.size, loaded.device)
            with timing() as watch:
                for variant, nll, overflows in score_batch(loaded.wrappers, ids, variants, cache):
                    real = {place: layer for place, layer in overflows.items() if place < len(chosen)}
                    scores.add(variant, digests, nll[: len(chosen)], real)
                    self.done += len(chosen)
                    self.progress(self.done, self.total, what)
            self.left -= cost
            loaded.pace.note(kind, cost, watch.seconds)
            if live and self.done < self.total:
                live.listener([self._estimate(variant) for variant in self.asked])

    def _estimate(self, variant: Mask | Variant) -> Estimate:
        """Estimate a variant that was asked for; after any batch it is known on that batch's windows at least."""
        digests, known = self.scores.windows.digests, self.scores.known
        rows = [i for i, d in enumerate(digests) if d in known[variant] and d in known[NONE]]
        baseline = [known[NONE][d] for d in digests if d in known[NONE]]
        tokens = self.scores.windows.ids.shape[1] - 1
        return Estimate(self.scores.of(variant, rows), math.fsum(baseline) / len(baseline) / tokens, len(digests))


@torch.inference_mode()
def score_tokens(
    loaded: LoadedModel, ids: _Windows, variant: Mask | Variant
) -> Float64[np.ndarray, "windows window-1"]:
    """Return the nats of each predicted token, nothing stored.

    Infinite where the arithmetic overflowed.

    Raises:
        MaskError: the variant names a layer that the model lacks.
        DeviceError: out of memory with a single window.
    """
    variant = variant.checked(loaded.n_layers)

    def work(size: int) -> Float64[np.ndarray, "windows window-1"]:
        batches = run_batches(loaded.wrappers, ids, size, variant)
        nll = [token_nll(loaded.wrappers, hidden, tokens, variant) for tokens, hidden in batches]
        return torch.cat(nll)[: len(ids)].cpu().numpy()

    return loaded.batch_shape.run(work, ids.shape[1])
