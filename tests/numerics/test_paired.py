"""Shares and paired differences against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from explorer.numerics.paired import (
    bootstrap,
    compare_shares,
    exceeds,
    find_mcnemar_p,
    share_interval,
)

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


@given(st.integers(1, 200), st.data())
def test_the_interval_of_a_share_is_wilsons(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    found = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert share_interval(successes, n) == pytest.approx((found.low, found.high), abs=1e-12)
    for chance in (0.25, 0.5):
        assert exceeds(successes, n, chance) == (stats.binomtest(successes, n, chance, "greater").pvalue < 0.05)


@given(ANSWERS)
def test_paired_shares_are_mcnemars(answers: list[tuple[bool, bool]]) -> None:
    before, after = np.array(answers).T
    better, worse, n = int((after & ~before).sum()), int((before & ~after).sum()), len(answers)
    found = compare_shares(before, after)
    assert found.value == pytest.approx(after.mean() - before.mean())
    assert found.interval is not None
    if better + worse == 0:
        assert found.interval[1] == -found.interval[0] == pytest.approx(stats.binomtest(0, n).proportion_ci().high)
        assert find_mcnemar_p(before, after) == 1
        return
    test = stats.binomtest(better, better + worse)
    interval = test.proportion_ci()
    expected = [(better + worse) / n * (2 * end - 1) for end in (interval.low, interval.high)]
    assert list(found.interval) == pytest.approx(expected, abs=1e-9)
    assert find_mcnemar_p(before, after) == pytest.approx(test.pvalue)
    assert found.seen == (test.pvalue < 0.05)


def test_flips_that_are_drawn_alike_are_seldom_seen() -> None:
    """Of many experiments without a difference the test sees one in at most one of twenty."""
    draw = np.random.default_rng(0)
    seen = 0
    for _ in range(400):
        before = draw.random(80) < 0.6
        changed, better = draw.random(80) < 0.2, draw.random(80) < 0.5
        before, after = np.where(changed, ~better, before), np.where(changed, better, before)
        seen += compare_shares(before, after).seen
    assert seen <= 20


def test_one_item_has_no_interval() -> None:
    found = compare_shares(np.array([True]), np.array([False]))
    assert (found.value, found.interval, found.seen) == (-1.0, None, False)
    assert bootstrap(1, lambda rows: 0.0)[1] is None


def test_the_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=120)
    error, interval = bootstrap(len(values), lambda rows: float(np.exp(values[rows].mean())))
    found = stats.bootstrap(
        (values,), lambda x, axis: np.exp(x.mean(axis=axis)), method="percentile", n_resamples=4000, rng=2
    )
    assert interval == pytest.approx(found.confidence_interval, rel=0.05)
    assert error == pytest.approx(found.standard_error, rel=0.1)
    assert bootstrap(len(values), lambda rows: math.inf) == (pytest.approx(math.nan, nan_ok=True), None)
