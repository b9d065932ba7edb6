"""Curves: coarse first, each step once, on held-out windows; collapse by its stated rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from explorer.errors import Cancelled, MaskError
from explorer.evaluation.perplexity import score
from explorer.evaluation.scores import Score
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.plans.curve import Curve, coarse_first, trace_curve
from explorer.plans.plan import Plan, PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force


def plan_of(*masks: str, n_layers: int = 4) -> Plan:
    return Plan(PlanSpec("greedy", "site"), tuple(map(Mask.parse, masks)), n_layers)


PLAN = plan_of("none", "a3", "3", "3,m2", "2-3", "2-3,a1", "1-3", "1-3,a0")


@given(st.sets(st.integers(0, 300), max_size=120))
def test_every_step_comes_once_and_the_ends_before_all(steps: set[int]) -> None:
    parts = list(coarse_first(sorted(steps)))
    assert sorted(step for part in parts for step in part) == sorted(steps)
    assert all(1 <= len(part) <= 16 for part in parts)
    if len(steps) > 2:
        assert (len(parts[0]), parts[0][0], parts[0][-1]) == (3, min(steps), max(steps))


def test_first_the_ends_and_the_middle_then_eighths_then_runs_of_neighbours() -> None:
    ends, eighths, *runs = coarse_first(range(129))
    assert ends == [0, 64, 128]
    assert sorted(ends + eighths) == list(range(0, 129, 16))
    known = {*ends, *eighths}
    assert [step for run in runs for step in run] == [step for step in range(129) if step not in known]


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([1, 1.1, 1.9, 2.1, 5, 9], 3),
        ([1, 3, 1.9, 2.1, 1.5, 9], 5),  # what comes back had not collapsed
        ([1, 1.2, 1.9], None),
        ([1, 1.999999, 2.000001], 2),
        ([1, 5, 7], 1),
        ([1, 5, math.inf], 1),
        ([1], None),
    ],
)
def test_collapse_is_where_perplexity_stays_above_twice(factors: list[float], expected: int | None) -> None:
    baseline, tokens = np.array([30.0, 50.0]), 20
    spread = np.array([0.5, -0.5])  # windows differ, their sum decides
    scores = {
        step: Score(Mask(), baseline + tokens * (math.log(factor) + spread), baseline, tokens, np.ones(2, dtype=int))
        for step, factor in enumerate(factors)
    }
    assert Curve(PLAN, scores, {}).collapse == expected
    for step, factor in enumerate(factors):
        assert scores[step].perplexity == pytest.approx(scores[0].unpruned.perplexity * factor, rel=1e-9)


def test_collapse_knows_only_what_is_scored() -> None:
    baseline = np.array([40.0])
    scores = {k: Score(Mask(), baseline + 20 * k / 4, baseline, 20, np.ones(1, dtype=int)) for k in (0, 2, 7)}
    assert Curve(PLAN, scores, {}).collapse == 7
    assert Curve(PLAN, {}, {}).collapse is None


def test_a_curve_is_the_scores_of_held_out_windows(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    told: list[Curve] = []
    curve = trace_curve(llama, llama_corpus, PLAN, store, listener=told.append, divergence=True)
    assert [sorted(each.scores) for each in told] == [
        [0, 4, 7],
        list(range(8)),
    ]
    assert told[-1] == curve
    assert sorted(curve.divergences) == list(range(8))
    for step, mask in enumerate(PLAN.masks):
        zeroed = brute_force.zeroed(llama.checkpoint.folder, mask)
        right = brute_force.window_nll(zeroed, llama_corpus.held_out.ids)
        np.testing.assert_allclose(curve.scores[step].nll, right, rtol=1e-5)
        assert curve.scores[step].mask == curve.divergences[step].mask == mask
    asked = {window for (window,) in store._db.execute("SELECT window FROM nll UNION SELECT window FROM divergences")}
    assert asked == set(llama_corpus.held_out.digests)


def test_only_the_steps_asked_for(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    curve = trace_curve(llama, llama_corpus, PLAN, store, steps=[5, 0, 5, 2])
    assert sorted(curve.scores) == [0, 2, 5]
    assert curve.divergences == {}
    assert trace_curve(llama, llama_corpus, PLAN, store, steps=[]).scores == {}


def test_a_stopped_curve_goes_on_and_a_known_one_needs_no_forward(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    def cancel(curve: Curve) -> None:
        if len(curve.scores) >= 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        trace_curve(llama, llama_corpus, PLAN, store, listener=cancel)
    with llama.wrappers.counting() as rest:
        trace_curve(llama, llama_corpus, PLAN, store)
    with llama.wrappers.counting() as whole:
        curve = trace_curve(llama, llama_corpus, PLAN, Store(None))
    assert 0 < rest.evaluations < whole.evaluations
    with llama.wrappers.counting() as none:
        again = trace_curve(llama, llama_corpus, PLAN, store)
    assert none.evaluations == 0
    for step, found in again.scores.items():
        np.testing.assert_allclose(found.nll, curve.scores[step].nll, rtol=1e-6)
        (plain,) = score(llama, llama_corpus, [PLAN.at(step)], Store(None))
        np.testing.assert_allclose(found.nll, plain.nll, rtol=1e-6)


def test_a_plan_of_a_larger_model_is_refused(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    with pytest.raises(MaskError, match="layers 0 to 3"):
        trace_curve(llama, llama_corpus, plan_of("none", "5", n_layers=6), store)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=9), st.floats(0.01, 1))
def test_the_nearest_step_is_nearest(sizes: list[int], share: float) -> None:
    masks = ["none", *(f"a0-{size - 1}" if size else "none" for size in sizes)]
    plan = plan_of(*masks, n_layers=8)
    shares = [len(mask.sites) / 16 for mask in plan.masks]
    step = plan.nearest(share)
    if step is None:
        assert max(shares) < share
    else:
        assert abs(shares[step] - share) == min(abs(found - share) for found in shares)
        assert max(shares) >= share - 1 / 16
