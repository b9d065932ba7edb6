"""The ladder: a plan's masks scored from coarse to fine, to the numbers that each has alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from explorer.errors import Cancelled
from explorer.evaluation.perplexity import find_stored_scores, score
from explorer.evaluation.scores import Score
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.plans.curve import coarse_first
from explorer.plans.plan_scores import score_plan_masks
from explorer.storage.store import Store
from explorer.text.windows import Corpus

MASKS = [NONE, *(Mask.of_layers(range(3, 3 - n, -1)) for n in range(1, 5)), Mask.parse("a0"), Mask.parse("m1,2")]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17, 31, 161])
def test_every_step_comes_once_and_the_shape_first(count: int) -> None:
    parts = list(coarse_first(range(count)))
    assert sorted(step for part in parts for step in part) == list(range(count))
    for known in (parts[0], sorted([*parts[0], *parts[1]]) if len(parts) > 1 else []):
        gaps = np.diff(known)
        assert len(gaps) == 0 or (gaps.max() - gaps.min() <= 1 and known[0] == 0 and known[-1] == count - 1)


def test_scores_are_those_of_each_mask_alone(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    told: list[int] = []

    def listen(found: Mapping[Mask, Score]) -> None:
        told.append(len(found))

    found = score_plan_masks(llama, llama_corpus, MASKS, store, listener=listen)
    assert told == [0, 3, 7]
    for mask in MASKS:
        (alone,) = score(llama, llama_corpus, [mask], Store(None))
        np.testing.assert_array_equal(found[mask].nll, alone.nll)
    told.clear()
    assert score_plan_masks(llama, llama_corpus, MASKS, store, listener=listen).keys() == set(MASKS)
    assert told == [7]


def test_what_was_finished_before_it_was_cancelled_stays(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    def listen(found: Mapping[Mask, Score]) -> None:
        if len(found) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        score_plan_masks(llama, llama_corpus, MASKS, store, listener=listen)
    assert len(find_stored_scores(llama, llama_corpus, MASKS, store)) == 3


def test_what_is_scored_on_some_windows_only_is_not_recalled(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    score(llama, llama_corpus, [MASKS[1]], store, rows=slice(0, 2))
    assert find_stored_scores(llama, llama_corpus, MASKS, store) == {}
