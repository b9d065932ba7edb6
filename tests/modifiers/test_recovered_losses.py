"""A search that knows of recovery: each candidate is judged with what makes up for it."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import ModifyError, PlanError
from explorer.evaluation.perplexity import score
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus

MEAN = ModifierSpec.parse("mean")


def find_loss(loaded: LoadedModel, corpus: Corpus, mask: Mask, spec: ModifierSpec) -> float:
    variant = modify(loaded, corpus, mask, [spec], Store(None))
    return score(loaded, corpus, [variant], Store(None), "calibration")[0].total_nll


def test_greedy_takes_the_layer_that_costs_least_when_it_is_made_up_for(
    llama: LoadedModel, llama_corpus: Corpus
) -> None:
    plan = make_plan(llama, llama_corpus, PlanSpec.parse("greedy/layer;modify=mean;confidence=1;steps=2"), Store(None))
    left, mask = [Mask.parse(str(layer)) for layer in range(4)], Mask()
    for found in plan.masks[1:]:
        losses = {unit: find_loss(llama, llama_corpus, mask | unit, MEAN) for unit in left}
        best = min(losses, key=losses.__getitem__)
        mask |= best
        left.remove(best)
        assert found == mask


def test_a_mask_that_cannot_be_made_up_for_is_judged_as_it_is(llama: LoadedModel, llama_corpus: Corpus) -> None:
    spec = ModifierSpec.parse("replaceme")
    plan = make_plan(
        llama, llama_corpus, PlanSpec.parse("greedy/layer;modify=replaceme;confidence=1;steps=1"), Store(None)
    )
    losses = {}
    for layer in range(4):
        mask = Mask.parse(str(layer))
        try:
            losses[mask] = find_loss(llama, llama_corpus, mask, spec)
        except ModifyError:
            assert layer == 0
            losses[mask] = score(llama, llama_corpus, [mask], Store(None), "calibration")[0].total_nll
    assert plan.masks[1] == min(losses, key=losses.__getitem__)


def test_nothing_of_a_search_is_stored_but_numbers(
    llama: LoadedModel, llama_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    make_plan(llama, llama_corpus, PlanSpec.parse("greedy/layer;modify=mean;steps=1"), Store(folder))
    assert not list((folder / "deltas").glob("*")) if (folder / "deltas").exists() else True


def test_races_choose_as_well(llama: LoadedModel, llama_corpus: Corpus) -> None:
    raced, exact = (
        make_plan(llama, llama_corpus, PlanSpec.parse(f"greedy/layer;modify=mean;steps=1{more}"), Store(None))
        for more in ("", ";confidence=1")
    )
    found = [find_loss(llama, llama_corpus, plan.masks[1], MEAN) for plan in (raced, exact)]
    np.testing.assert_allclose(found[0], found[1], rtol=0.01)


def test_the_text_form_keeps_the_options() -> None:
    spec = PlanSpec.parse("greedy/site;modify=linear,rank=4")
    assert PlanSpec.parse(str(spec)) == spec
    assert str(spec.modifier) == "linear;rank=4"


@pytest.mark.parametrize("text", ["block-influence/layer;modify=refit", "greedy/site;modify=nonsense"])
def test_what_does_not_apply_is_refused(text: str) -> None:
    with pytest.raises((PlanError, ModifyError)):
        PlanSpec.parse(text)
