"""LoadedModel, Corpus, [Mask] -> held-out scores by mask, the coarse shape of the row first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from explorer.evaluation import Score, recall, score
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.plans.curve import coarse_first
from explorer.progress import Progress, unreported
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
    found = recall(loaded, corpus, masks, store)
    listener(dict(found))
    missing = [mask for mask in dict.fromkeys(masks) if mask not in found]
    told = _Told(progress, len(found), len(found) + len(missing))
    for part in coarse_first(range(len(missing))):
        group = [missing[index] for index in part]
        scores = score(loaded, corpus, group, store, progress=told.tell)
        found |= dict(zip(group, scores, strict=True))
        told.done = len(found)
        listener(dict(found))
    told.tell()
    return found


class _Told:
    """Tells how many masks are done, whatever the step within them."""

    def __init__(self, progress: Progress, done: int, total: int) -> None:
        self.progress, self.done, self.total = progress, done, total

    def tell(self, *_: object) -> None:
        self.progress(self.done, self.total, "Scoring masks")
