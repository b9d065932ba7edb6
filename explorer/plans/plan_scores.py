"""LoadedModel, Corpus, [Mask] -> held-out scores by mask, the coarse shape of the row first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from explorer.evaluation import Score, find_stored_scores, score
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.plans.curve import coarse_first
from explorer.progress import Count, Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus

#: Told the scores known so far, by mask. It may raise `Cancelled` to stop the work.
Listener = Callable[[Mapping[Mask, Score]], None]


def score_plan_masks(
    loaded: LoadedModel,
    corpus: Corpus,
    masks: Sequence[Mask],
    store: Store,
    progress: Progress = unreported,
    listener: Listener = lambda found: None,
) -> dict[Mask, Score]:
    """Score a row of masks on the held-out windows, the ends and the middle first; what is stored comes at once.

    Args:
        loaded: the model.
        corpus: the text.
        masks: such as the masks of a plan.
        store: where nats are kept.
        progress: told how many of the masks are done.
        listener: told the scores known so far.

    Raises:
        MaskError: a mask names a layer that the model lacks.
        Cancelled: `progress` or the listener raised it; what was finished stays stored.
    """
    found = find_stored_scores(loaded, corpus, masks, store)
    listener(dict(found))
    missing = [mask for mask in dict.fromkeys(masks) if mask not in found]
    count = Count(progress, len(found) + len(missing), "Scoring masks", len(found))
    for part in coarse_first(range(len(missing))):
        group = [missing[index] for index in part]
        scores = score(loaded, corpus, group, store, progress=count.tell)
        found |= dict(zip(group, scores, strict=True))
        count.done = len(found)
        listener(dict(found))
    count.tell()
    return found
