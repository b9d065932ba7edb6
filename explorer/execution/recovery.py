"""What recovery gives: a variant made or found, its score beside the mask's, those along a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from explorer.deltas import ModifierSpec
from explorer.errors import ModifyError
from explorer.evaluation import Estimate, HiddenStateCache, LiveScoring, Recovered, Score, find_recovered, score
from explorer.masks import Mask
from explorer.model import LoadedModel, count_added
from explorer.modifiers import modify
from explorer.plans import coarse_first
from explorer.progress import Count, Progress
from explorer.storage import Store
from explorer.text import Corpus

Modifiers = tuple[ModifierSpec, ...]


@dataclass(frozen=True)
class Recovery:
    """What recovery won back at one mask.

    Args:
        pruned: the Score under the mask alone.
        score: the Score with the deltas; it names the mask alone, for what is kept long holds no tensors.
        recovered: the share of the lost nats that was won back.
        fitted_on: name of the calibration text.
        tokens: ids of it.
        seconds: that the fits took, when they were made.
        parameters_added: numbers in what stands in, and in a head that was the embedding.
    """

    pruned: Score
    score: Score
    recovered: Recovered
    fitted_on: str
    tokens: int
    seconds: float
    parameters_added: int


def recover(
    loaded: LoadedModel,
    corpus: Corpus,
    mask: Mask,
    modifiers: Modifiers,
    store: Store,
    progress: Progress,
    states: HiddenStateCache,
    listener: Callable[[Estimate], None],
) -> Recovery:
    """Make a variant and score it beside its mask; what was finished stays stored, whatever stops it.

    Args:
        states: kept from the variants before, used and added to.
        listener: told estimates of the variant's score.

    Raises ModifyError, Cancelled: see `recovery.modify`.
    """
    variant = modify(loaded, corpus, mask, modifiers, store, progress)
    live = LiveScoring(states, lambda estimates: listener(replace(estimates[0], score=_let_go(estimates[0].score))))
    found, pruned = score(loaded, corpus, [variant, mask], store, progress=progress, live=live)
    return Recovery(
        pruned,
        _let_go(found),
        find_recovered(pruned, found),
        corpus.calibration_name,
        corpus.tokens,
        sum(delta.origin.seconds for delta in variant.deltas),
        count_added(loaded, variant.deltas),
    )


def recover_masks(
    loaded: LoadedModel,
    corpus: Corpus,
    masks: Sequence[Mask],
    modifiers: Modifiers,
    store: Store,
    progress: Progress,
    listener: Callable[[Mapping[Mask, Score]], None],
) -> dict[Mask, Score]:
    """Make and score variants of a row of masks, the ends and the middle first; one at a time is in memory.

    A mask whose variant cannot be made is left out.

    Args:
        progress: told how many of the masks are done.
        listener: told the scores known so far, by mask.

    Raises:
        ModifyError: none of them can be made; why the last could not.
        Cancelled: `progress` or the listener raised it; what was finished stays stored.
    """
    found: dict[Mask, Score] = {}
    refused: ModifyError | None = None
    waiting = [mask for mask in dict.fromkeys(masks) if mask]
    count = Count(progress, len(waiting), "Recovering along the plan")
    for done, index in enumerate(index for part in coarse_first(range(len(waiting))) for index in part):
        count.done = done
        count.tell()
        try:
            variant = modify(loaded, corpus, waiting[index], modifiers, store, count.tell)
        except ModifyError as error:
            refused = error
            continue
        (scored,) = score(loaded, corpus, [variant], store, progress=count.tell)
        found[waiting[index]] = _let_go(scored)
        listener(dict(found))
    if refused and not found:
        raise refused
    return found


def _let_go(found: Score) -> Score:
    return replace(found, variant=found.mask)
