"""Importance as data: its order, intervals that cover, pseudo-values, and how far rankings agree."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from explorer.measures.catalogue import MEASURES
from explorer.measures.importance import Importance
from explorer.numerics.rank_correlation import correlate
from explorer.numerics.resampling import jackknife

TRIALS = 3000


@pytest.mark.parametrize("n_windows", [4, 8, 30])
@pytest.mark.parametrize("name", ["normal", "uniform", "skewed"])
def test_intervals_cover_the_truth(name: str, n_windows: int) -> None:
    rng = np.random.default_rng(n_windows)
    shape = (n_windows, TRIALS)
    samples = {
        "normal": lambda: rng.standard_normal(shape),
        "uniform": lambda: rng.uniform(-1, 1, shape),
        "skewed": lambda: rng.gamma(4, 1, shape) - 4,
    }[name]()
    intervals = Importance("loss", "layer", samples.mean(0), samples).intervals()
    assert intervals is not None
    assert intervals.shape == (TRIALS, 2)
    covered = np.mean((intervals[:, 0] <= 0) & (intervals[:, 1] >= 0))
    assert 0.91 <= covered <= 0.97
    half = stats.t.ppf(0.975, n_windows - 1) * samples.std(0, ddof=1) / np.sqrt(n_windows)
    assert np.mean(intervals[:, 1] - intervals[:, 0]) == pytest.approx(np.mean(2 * half), rel=0.1)


def test_intervals_cover_what_is_no_mean() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(600):
        x, y = rng.standard_normal((2, 20)) + 4
        values, pseudo = jackknife(20, lambda chosen, x=x, y=y: np.array([x[chosen].sum() / y[chosen].sum()]))
        intervals = Importance("loss", "layer", values, pseudo).intervals(300)
        assert intervals is not None
        covered.append(intervals[0, 0] <= 1 <= intervals[0, 1])
    assert 0.92 <= np.mean(covered) <= 0.98


def test_what_has_no_spread_has_no_interval_or_a_point() -> None:
    values = np.array([1.0, 2.0])
    for samples in (None, values[None]):
        found = Importance("loss", "layer", values, samples)
        assert found.intervals() is None
        assert found.rank_stability(1) is None
    np.testing.assert_allclose(
        Importance("loss", "layer", values, np.stack([values] * 3)).intervals(), [[1, 1], [2, 2]]
    )


def test_rank_stability_is_how_often_a_resampled_text_says_so() -> None:
    rng, n = np.random.default_rng(1), 6
    samples = rng.standard_normal((n, 5)) + np.array([0, 0.3, 0.3, 1, 8])
    found = Importance("loss", "layer", samples.mean(0), samples).rank_stability(2, draws=4000)
    assert found is not None
    counts = np.zeros(5)
    for _ in range(4000):
        counts[np.argsort(samples[rng.integers(0, n, n)].mean(0))[:2]] += 1
    np.testing.assert_allclose(found, counts / 4000, atol=0.04)
    assert found.sum() == pytest.approx(2)
    assert found[4] == 0


def test_where_high_is_redundant_order_and_shares_turn_round() -> None:
    values = np.array([0.2, 0.9, 0.9, 0.1])
    samples = np.stack([values] * 3)
    assert MEASURES["replaceability"].redundant == "high"
    assert list(Importance("replaceability", "mlp", values, redundant="high").order) == [1, 2, 0, 3]
    assert list(Importance("loss", "mlp", values).order) == [3, 0, 1, 2]
    turned = Importance("replaceability", "mlp", values, samples, "high")
    np.testing.assert_array_equal(turned.rank_stability(2), [0, 1, 1, 0])


def test_jackknife_of_a_mean_gives_the_samples() -> None:
    samples = np.random.default_rng(2).standard_normal((7, 3))
    value, pseudo = jackknife(7, lambda chosen: samples[chosen].mean(0))
    np.testing.assert_allclose(value, samples.mean(0))
    np.testing.assert_allclose(pseudo, samples)
    value, pseudo = jackknife(1, lambda chosen: samples[:1][chosen].mean(0))
    np.testing.assert_array_equal(pseudo, value[None])


def test_correlations_equal_scipy() -> None:
    rng = np.random.default_rng(3)
    rows = [rng.standard_normal(9), rng.integers(0, 4, 9).astype(float), np.arange(9.0), rng.standard_normal(9)]
    signs = [1, 1, -1, -1]
    found = correlate(
        [
            Importance("loss", "layer", row, redundant="low" if sign > 0 else "high").ranked
            for sign, row in zip(signs, rows, strict=True)
        ]
    )
    for i, (a, sign) in enumerate(zip(rows, signs, strict=True)):
        for j, (b, other) in enumerate(zip(rows, signs, strict=True)):
            rho, tau = stats.spearmanr(a * sign, b * other).statistic, stats.kendalltau(a * sign, b * other).statistic
            assert found.spearman[i, j] == pytest.approx(rho)
            assert found.kendall[i, j] == pytest.approx(tau)


def test_a_constant_ranking_agrees_with_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = correlate([np.arange(4.0), np.ones(4)])
    for matrix in (found.spearman, found.kendall):
        assert matrix[0, 0] == pytest.approx(1)
        assert np.isnan([matrix[0, 1], matrix[1, 0], matrix[1, 1]]).all()
    assert correlate([np.arange(4.0)]).spearman == pytest.approx(np.ones((1, 1)))


def test_every_measure_says_what_it_is_of() -> None:
    for name, measure in MEASURES.items():
        assert set(measure.units) <= {"layer", "attention", "mlp"}, name
        assert measure.label, name
        assert measure.source, name
