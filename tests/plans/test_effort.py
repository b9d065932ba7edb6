"""Effort: what making a plan took, what is not done twice, and a plan that was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.errors import Cancelled
from explorer.model.loading import LoadedModel
from explorer.plans.catalogue import METHODS
from explorer.plans.make import make_plan
from explorer.plans.plan import Plan, PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import WINDOW

PASS = 5 * 4  # windows times layers


@pytest.fixture(autouse=True)
def one_window_at_a_time(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", WINDOW)  # then no batch is filled up


@pytest.mark.parametrize(
    ("text", "evaluations"),
    [
        ("deepest", 0),
        ("random", 0),
        ("magnitude", 0),
        ("block-influence", PASS),
        ("similarity-block", PASS),
        ("block-influence;iterative=yes", 5 * (4 + 3 + 2)),  # the last removal is decided with two off
        ("taylor", 2 * PASS),
        ("leave-one-out", 5 * (4 + 3 + 2 + 1)),  # what comes before a removed layer is run once
        ("greedy/layer;steps=1;confidence=1.0", 5 * (4 + 3 + 2 + 1)),
        ("leave-one-out;iterative=yes;steps=1;confidence=0.01", 5 * (4 + 3 + 2 + 1)),  # never a race
    ],
)
def test_layers_run_are_counted(llama: LoadedModel, llama_corpus: Corpus, text: str, evaluations: int) -> None:
    plan = make_plan(llama, llama_corpus, PlanSpec.parse(text), Store(None))
    assert plan.effort.layer_evaluations == evaluations
    assert plan.effort.seconds > 0
    assert plan.describe()["cost"]["layer_evaluations"] == evaluations


@pytest.mark.parametrize("method", list(METHODS))
def test_a_stored_plan_needs_no_forward(
    llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, spec = Store(tmp_path), PlanSpec.parse(f"{method};steps=3;protect=1;seed=2")
    first = make_plan(llama, llama_corpus, spec, store)
    monkeypatch.setattr(llama.wrappers, "counting", lambda: 1 / 0)
    again = make_plan(llama, llama_corpus, spec, store)
    store.close()
    assert again == first
    assert again.effort == first.effort
    assert (again.model, again.text) == (llama.spec.model, "python-docs")


def test_another_spec_or_text_is_another_plan(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    other = llama.tokenize("python-docs", 3 * WINDOW, WINDOW)
    for text in ("random/site", "random/site;seed=1", "random/site;steps=2", "greedy/site", "greedy/site;criterion=kl"):
        plan = make_plan(llama, llama_corpus, PlanSpec.parse(text), store)
        assert str(plan.spec) == text
    for text in ("greedy/site", "block-influence/site"):
        spec = PlanSpec.parse(text)
        assert make_plan(llama, other, spec, store).masks == make_plan(llama, other, spec, Store(None)).masks


@pytest.mark.parametrize(
    "text",
    [
        "greedy/site",
        "beam/layer",
        "evolve/layer",
        "leave-one-out/site",
        "shapley/layer",
        "block-influence;iterative=yes",
    ],
)
def test_a_stopped_plan_goes_on(llama: LoadedModel, llama_corpus: Corpus, text: str) -> None:
    spec, whole, told = PlanSpec.parse(text), Store(None), 0

    def count(done: int, total: int, what: str) -> None:
        nonlocal told
        told += 1

    expected = make_plan(llama, llama_corpus, spec, whole, count)
    for stop_at in (told // 2, 3 * told // 4):
        store, left = Store(None), stop_at

        def cancel(done: int, total: int, what: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cancelled

        with pytest.raises(Cancelled):
            make_plan(llama, llama_corpus, spec, store, cancel)
        plan = make_plan(llama, llama_corpus, spec, store)
        assert plan.masks == expected.masks
        assert 0 < plan.effort.layer_evaluations < expected.effort.layer_evaluations


def test_the_listener_can_stop_a_plan_and_sees_it_grow(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    told: list[Plan] = []

    def listener(plan: Plan) -> None:
        told.append(plan)
        if len(plan.masks) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        make_plan(llama, llama_corpus, PlanSpec.parse("greedy/site"), store, listener=listener)
    assert [len(plan.masks) for plan in told] == [2, 3]
    assert told[0].masks == told[1].masks[:2]
    assert 0 < told[0].effort.layer_evaluations < told[1].effort.layer_evaluations
    assert make_plan(llama, llama_corpus, PlanSpec.parse("greedy/site"), store).masks[:3] == told[1].masks
