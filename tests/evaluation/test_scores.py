"""Records: each figure has one definition, and it is the textbook's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from explorer.evaluation.scores import Score
from explorer.masks.mask import Mask
from explorer.measures.similarity_stats import SimilarityStats
from explorer.text.windows import Windows

TOKENS = 31


@pytest.fixture
def score() -> Score:
    random = np.random.default_rng(0)
    baseline = random.uniform(80, 120, 9)
    return Score(Mask.parse("1"), baseline + random.normal(3, 2, 9), baseline, TOKENS, random.integers(100, 150, 9))


def test_perplexity_is_over_all_tokens(score: Score) -> None:
    assert score.n_tokens == 9 * TOKENS
    assert score.perplexity == pytest.approx(math.exp(score.nll.sum() / (9 * TOKENS)), rel=1e-14)


def test_bits_per_byte(score: Score) -> None:
    assert score.bits_per_byte == pytest.approx(score.nll.sum() * math.log2(math.e) / score.text_bytes.sum(), rel=1e-14)


def test_difference_has_the_paired_t_interval(score: Score) -> None:
    differences = (score.nll - score.baseline) / TOKENS
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert score.delta_nll_per_token == pytest.approx(differences.mean(), rel=1e-12)
    assert score.delta_ci95 == pytest.approx(tuple(expected), rel=1e-10)


def test_perplexity_interval_goes_through_exp(score: Score) -> None:
    per_token = score.nll / TOKENS
    low, high = stats.t.interval(0.95, len(per_token) - 1, loc=per_token.mean(), scale=stats.sem(per_token))
    assert score.perplexity_ci95 == pytest.approx((math.exp(low), math.exp(high)), rel=1e-10)


def test_one_window_has_no_interval() -> None:
    one = Score(Mask(), np.array([90.0]), np.array([90.0]), TOKENS, np.array([100]))
    assert one.delta_ci95 is None
    assert one.perplexity_ci95 is None


def test_perplexity_beyond_float_is_infinite() -> None:
    huge = Score(Mask(), np.array([1e6]), np.array([1e6]), 10, np.array([100]))
    assert huge.perplexity == math.inf


def test_window_digest_is_of_the_ids_alone() -> None:
    ids = np.array([[1, 2, 3], [1, 2, 4], [1, 2, 3]])
    first, second, third = Windows(ids, np.array([3, 3, 9])).digests
    assert first == third != second
    assert Windows(np.asfortranarray(ids.astype(np.int32)), np.array([3, 3, 9])).digests == (first, second, third)


def test_rows_of_angular_distance_are_block_sizes() -> None:
    angular = np.arange(2 * 4 * 4, dtype=float).reshape(2, 4, 4)
    found = SimilarityStats({"mean": angular}, {}, {}, np.zeros((2, 5, 4)), 10, "", "", "").angular_distance("mean")
    assert [len(row) for row in found] == [3, 2, 1]
    assert found[1][1] == angular.mean(0)[1, 3]
