"""Perplexity, KL divergence and logit distance as what a search lowers; the name of a criterion -> its losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from explorer.deltas import Variant
from explorer.evaluation import Divergence, measure_divergence, score
from explorer.masks import NONE, Mask
from explorer.measures.catalogue import CRITERIA
from explorer.measures.criterion import Criterion, VariantLosses, WindowLosses
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus

_Losses = Float64[np.ndarray, "masks windows"]


def make_loss_function(
    loaded: LoadedModel,
    corpus: Corpus,
    store: Store,
    criterion: str = "perplexity",
    progress: Progress = unreported,
    base: Mask | Variant = NONE,
) -> VariantLosses:
    """Return what gives the losses by a criterion in `CRITERIA`, of masks on slices of the calibration windows.

    With a base a mask is what is turned off in that variant.
    """
    function = CRITERIA[criterion].function

    def losses(masks: Sequence[Mask | Variant], rows: slice) -> _Losses:
        variants = [base.without(mask.mask) for mask in masks] if base else list(masks)
        return function(loaded, corpus, variants, store, progress, rows)

    return losses


def _find_nll(
    loaded: LoadedModel, corpus: Corpus, masks: list[Mask | Variant], store: Store, progress: Progress, rows: slice
) -> _Losses:
    scores = score(loaded, corpus, masks, store, "calibration", progress, rows=rows)
    return np.stack([found.nll for found in scores])


def _read_divergence(read: Callable[[Divergence], Float64[np.ndarray, " windows"]]) -> WindowLosses:
    """Return what gives one of the numbers of a divergence."""

    def losses(
        loaded: LoadedModel, corpus: Corpus, masks: list[Mask | Variant], store: Store, progress: Progress, rows: slice
    ) -> _Losses:
        found = measure_divergence(loaded, corpus, masks, store, "calibration", progress, rows)
        return np.stack([read(each) for each in found])

    return losses


_find_kl = _read_divergence(lambda found: found.kl)
_find_logit_l2 = _read_divergence(lambda found: found.logit_l2)

PERPLEXITY = Criterion("perplexity", "Perplexity", "nats", "BlockPruner, arXiv:2406.10594", _find_nll)
KL = Criterion("kl", "KL from the unpruned model", "nats", "KL(unpruned || masked)", _find_kl)
LOGIT_L2 = Criterion("logit-l2", "Logit distance", "logits", "Siddiqui et al., arXiv:2407.16286", _find_logit_l2)
