"""What texts and objectives remove first, against leave-one-out losses and searches of their own."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.errors import PlanError
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.model.loading import LoadedModel
from explorer.plans.choices import OBJECTIVES, SEARCHES, compare_choices
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from tests.support.tiny_models import WINDOW

CHOSEN = ("perplexity", "kl", "probe:copying")


def test_every_choice_is_what_its_text_and_objective_say(llama: LoadedModel, store: Store) -> None:
    corpora = [llama.tokenize("python-docs", n * WINDOW, WINDOW) for n in (3, 4)]
    told: list[tuple[int, int, str]] = []
    found = compare_choices(llama, corpora, CHOSEN, 2, store, progress=lambda *each: told.append(each))
    assert list(dict.fromkeys(told)) == [(done, 6, "Texts and objectives") for done in range(6)]
    assert found.removed.shape == (2, 3, 2, 4)
    assert (found.removed.sum(axis=-1) == 2).all()
    units = find_units(llama.n_layers, "layer")
    for row, corpus in enumerate(corpora):
        for column, objective in enumerate(CHOSEN):
            losses = make_loss_function(llama, corpus, Store(None), objective)(units, slice(None)).sum(axis=1)
            once = {units[place] for place in losses.argsort(kind="stable")[:2]}
            assert {unit for unit in units if unit <= found.find(row, column, 0)} == once
            plan = make_plan(
                llama, corpus, PlanSpec("greedy", "layer", criterion=objective, confidence=1.0, steps=2), store
            )
            assert found.find(row, column, 1) == plan.masks[2]


def test_agreement_is_the_share_in_common(llama: LoadedModel, store: Store) -> None:
    found = compare_choices(llama, [llama.tokenize("python-docs", 3 * WINDOW, WINDOW)], CHOSEN, 2, store)
    removed = [found.find(0, column, how) for column in range(3) for how in range(2)]
    expected = [[len(one.sites & other.sites) / 4 for one in removed] for other in removed]
    np.testing.assert_allclose(found.agreement, expected)
    assert [each[:3] for each in found.cells[:2]] == [("python-docs", "perplexity", how) for how in SEARCHES]
    assert [each[3] for each in found.cells] == removed
    assert set(found.variance) == {"text", "objective", "search"}
    assert found.variance["text"].share == pytest.approx(0)  # there is one


def test_an_objective_that_is_named_twice_chooses_twice(llama: LoadedModel, store: Store) -> None:
    corpus = llama.tokenize("python-docs", 3 * WINDOW, WINDOW)
    removed = compare_choices(llama, [corpus], ("perplexity", "kl", "perplexity"), 2, store).removed
    np.testing.assert_array_equal(removed[:, 0], removed[:, 2])
    assert (removed.sum(axis=-1) == 2).all()


def test_nothing_to_compare_is_one_line(llama: LoadedModel, store: Store) -> None:
    corpus = llama.tokenize("python-docs", 3 * WINDOW, WINDOW)
    for corpora, objectives, number in (([], OBJECTIVES, 1), ([corpus], [], 1), ([corpus], OBJECTIVES, 4)):
        with pytest.raises(PlanError, match="nothing to compare"):
            compare_choices(llama, corpora, objectives, number, store)
