"""Perplexity, KL divergence and logit distance as what a search lowers; the name of a criterion -> its losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from explorer.benchmarks import TASK, is_item_criterion, make_calibration_items
from explorer.deltas import Variant
from explorer.errors import TaskError
from explorer.evaluation import Divergence, HiddenStateCache, measure_divergence, score
from explorer.masks import NONE, Mask
from explorer.measures.catalogue import CRITERIA
from explorer.measures.criterion import Criterion, LossRequest, VariantLosses, WindowLosses
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus

_Losses = Float64[np.ndarray, "masks windows"]
_STATE_BYTES = 2**26  # of the unpruned model's hidden states, kept from call to call
_ITEMS = 8  # of a task or probe that stand for one calibration window


def make_loss_function(
    loaded: LoadedModel,
    corpus: Corpus,
    store: Store,
    criterion: str = "perplexity",
    progress: Progress = unreported,
    base: Mask | Variant = NONE,
) -> VariantLosses:
    """Return what gives the losses by a criterion, of masks on slices of the calibration windows.

    Args:
        criterion: a name in `CRITERIA`, or `task:NAME`, `probe:NAME`: then each window stands for some of the items.
        base: the variant in which a mask is turned off.

    Raises TaskError: see `make_calibration_items`.
    """
    if is_item_criterion(criterion):
        return _make_item_losses(loaded, corpus, store, criterion, progress, base)
    function, state_cache = CRITERIA[criterion].function, HiddenStateCache(_STATE_BYTES)

    def losses(masks: Sequence[Mask | Variant], rows: slice) -> _Losses:
        return function(LossRequest(loaded, corpus, _turn_off(masks, base), store, progress, rows, state_cache))

    return losses


def describe_criterion(loaded: LoadedModel, corpus: Corpus, criterion: str) -> str:
    """Return what a search lowers, with a digest of the items of a task: its file may say something else tomorrow.

    Raises TaskError: see `make_calibration_items`.
    """
    if not criterion.startswith(TASK):
        return criterion
    items = make_calibration_items(loaded, corpus, criterion, _ITEMS * len(corpus.calibration))
    return f"{criterion} {items.digest}"


def _turn_off(masks: Sequence[Mask | Variant], base: Mask | Variant) -> list[Mask | Variant]:
    """Return masks as what is turned off in a variant."""
    return [base.without(mask.mask) for mask in masks] if base else list(masks)


def _make_item_losses(
    loaded: LoadedModel,
    corpus: Corpus,
    store: Store,
    criterion: str,
    progress: Progress,
    base: Mask | Variant,
) -> VariantLosses:
    """Deal the items of a task or probe out to the calibration windows; a window's loss is the mean of its items'."""
    n_windows = len(corpus.calibration)
    found = make_calibration_items(loaded, corpus, criterion, _ITEMS * n_windows)
    each = len(found.items) // n_windows
    if not each:
        few = f"{len(found.items)} items for {n_windows} windows"
        raise TaskError("There are too few items to decide by", few, "Use fewer --tokens, or another task")

    def losses(masks: Sequence[Mask | Variant], rows: slice) -> _Losses:
        start, stop, _ = rows.indices(n_windows)
        values = found[start * each : stop * each].find_losses(loaded, _turn_off(masks, base), store, progress)
        return values.reshape(len(masks), stop - start, each).mean(axis=2)

    return losses


def _find_nll(asked: LossRequest) -> _Losses:
    scores = score(asked.loaded, asked.corpus, asked.masks, asked.store, "calibration", asked.progress, rows=asked.rows)
    return np.stack([found.nll for found in scores])


def _read_divergence(read: Callable[[Divergence], Float64[np.ndarray, " windows"]]) -> WindowLosses:
    """Return what gives one of the numbers of a divergence."""

    def losses(asked: LossRequest) -> _Losses:
        found = measure_divergence(
            asked.loaded, asked.corpus, asked.masks, asked.store, "calibration", asked.progress, asked.rows,
            state_cache=asked.state_cache,
        )  # fmt: skip
        return np.stack([read(each) for each in found])

    return losses


_find_kl = _read_divergence(lambda found: found.kl)
_find_logit_l2 = _read_divergence(lambda found: found.logit_l2)

PERPLEXITY = Criterion("perplexity", "Perplexity", "nats", "BlockPruner, arXiv:2406.10594", _find_nll)
KL = Criterion("kl", "KL from the unpruned model", "nats", "KL(unpruned || masked)", _find_kl)
LOGIT_L2 = Criterion("logit-l2", "Logit distance", "logits", "Siddiqui et al., arXiv:2407.16286", _find_logit_l2)
