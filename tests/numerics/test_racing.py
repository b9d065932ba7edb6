"""Races: the winner of all windows, found on fewer; what is saved is counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from explorer.evaluation.perplexity import score
from explorer.masks.mask import Mask, Site
from explorer.model.loading import LoadedModel
from explorer.numerics.racing import _PRIOR, LossFunction, Race, _beaten, race
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import WINDOW

N_WINDOWS = 24


class Table:
    """LossFunction from a table (candidates, windows), counted."""

    def __init__(self, nll: np.ndarray) -> None:
        self.nll, self.asked = nll, np.zeros(nll.shape, dtype=int)
        self.masks = [Mask(frozenset({Site(i, "mlp")})) for i in range(len(nll))]

    def __call__(self, masks: Sequence[Mask], rows: slice) -> np.ndarray:
        indices = [self.masks.index(mask) for mask in masks]
        self.asked[indices, rows] += 1
        return self.nll[indices, rows]

    def race(self, confidence: float = 0.95, keep: int = 1) -> Race:
        return race(self.masks, self, self.nll.shape[1], confidence, keep)

    @property
    def best(self) -> int:
        return int(self.nll.sum(axis=1).argmin())


def draw(seed: int, candidates: int = 40, spread: float = 0.5) -> Table:
    """Damages like a model's: windows that differ much, candidates that differ by their place and a little noise."""
    rng = np.random.default_rng(seed)
    windows = 700 + 80 * rng.standard_normal(N_WINDOWS)
    damage = np.sort(rng.exponential(40, candidates))[rng.permutation(candidates)]
    noise = rng.standard_normal((candidates, N_WINDOWS))
    return Table(windows + damage[:, None] * (1 + spread * noise / 4) + noise)


def test_exact_race_scores_everything_once_and_finds_the_best() -> None:
    table = draw(0)
    found = table.race(1.0)
    assert found.winner == table.masks[table.best]
    assert (table.asked == 1).all()
    assert (found.evaluations, found.saved) == (table.nll.size, 0)


def test_order_is_by_loss_and_near_it_when_raced() -> None:
    for seed in range(5):
        table = draw(seed)
        order = table.nll.sum(axis=1).argsort()
        assert table.race(1.0).order == tuple(order)
        raced = table.race()
        assert raced.order[0] == order[0]
        assert sorted(raced.order) == list(range(len(order)))
        assert stats.spearmanr(np.argsort(raced.order), np.argsort(order)).statistic > 0.8


def test_the_winner_is_scored_on_all_windows_and_nothing_twice() -> None:
    for seed in range(10):
        table = draw(seed)
        found = table.race()
        assert table.asked.max() == 1
        assert found.windows == tuple(table.asked.sum(axis=1))
        assert found.evaluations == table.asked.sum()
        assert found.saved == table.nll.size - table.asked.sum() > 0
        winner = table.masks.index(found.winner)
        np.testing.assert_array_equal(found.losses, table.nll[[winner]])
        assert found.totals == pytest.approx((table.nll[winner].sum(),))


def test_confidence_is_how_often_the_winner_is_the_best() -> None:
    right = {confidence: [] for confidence in (0.8, 0.95, 0.99)}
    saved = {confidence: [] for confidence in right}
    for seed in range(300):
        for confidence in right:
            table = draw(seed)
            found = table.race(confidence)
            right[confidence].append(found.winner == table.masks[table.best])
            saved[confidence].append(found.saved / table.nll.size)
    assert np.mean(right[0.95]) >= 0.93
    assert np.mean(right[0.99]) >= 0.98
    assert np.mean(saved[0.8]) > np.mean(saved[0.95]) > np.mean(saved[0.99]) > 0.3


def test_equals_are_not_dropped_and_the_first_wins() -> None:
    row = 700 + np.arange(N_WINDOWS)[None] * 3.0
    table = Table(np.repeat(row, 5, axis=0))
    found = table.race()
    assert found.saved == 0
    assert found.winner == table.masks[0]


def test_a_lone_candidate_wins() -> None:
    table = draw(1, candidates=1)
    assert table.race().winner == table.masks[0]


@pytest.mark.parametrize("confidence", [0.0, -1.0, 1.5, float("nan")])
def test_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        draw(0).race(confidence)
    with pytest.raises(ValueError, match="0 candidates"):
        race([], draw(0), 3)


def test_with_two_candidates_the_test_is_the_t_test_with_a_shared_variance() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.1, 0.5, 1.0, 2.0):
        nll = np.stack([np.zeros(6), shift + rng.standard_normal(6)])
        if nll[1].sum() <= 0:
            continue
        d = nll[1]
        variance = (5 * d.var(ddof=1) + _PRIOR * d.var(ddof=1) / 2) / (5 + _PRIOR)
        p = stats.t.sf(d.mean() / np.sqrt(variance / 6), 5 + _PRIOR)
        for confidence in (0.6, 0.9, 0.99, 0.9999):
            assert list(_beaten(nll, confidence)) == [False, p < 1 - confidence]


def test_progress_grows_to_its_total() -> None:
    table, told = draw(2), []
    race(table.masks, table, N_WINDOWS, progress=lambda done, total, _: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (table.nll.size, table.nll.size)


def test_the_best_few_are_kept() -> None:
    right = []
    for seed in range(100):
        table = draw(seed)
        order = [table.masks[i] for i in table.nll.sum(axis=1).argsort()]
        assert table.race(1.0, keep=3).best == tuple(order[:3])
        found = draw(seed).race(0.99, keep=3)
        assert found.saved > 0
        assert list(found.totals) == sorted(found.totals)
        right.append(found.best == tuple(order[:3]))
    assert np.mean(right) >= 0.95
    assert len(draw(0, candidates=2).race(keep=5).best) == 2


def _judge(loaded: LoadedModel, corpus: Corpus, store: Store) -> LossFunction:
    def losses(asked: Sequence[Mask], rows: slice) -> np.ndarray:
        return np.stack([s.nll for s in score(loaded, corpus, asked, store, "calibration", rows=rows)])

    return losses


def test_race_over_a_model_ends_as_the_exact_one(llama: LoadedModel) -> None:
    corpus = llama.tokenize("python-docs", 16 * WINDOW, WINDOW)
    masks, losses = [Mask(frozenset({site})) for site in llama.sites], _judge(llama, corpus, Store(None))
    exact, quick = race(masks, losses, 16, 1.0), race(masks, losses, 16, 0.99)
    whole = {s.mask: s for s in score(llama, corpus, masks, Store(None), "calibration")}
    assert exact.winner == min(whole.values(), key=lambda s: s.total_nll).mask
    assert quick.totals[0] <= 1.01 * exact.totals[0]
    np.testing.assert_allclose(exact.losses[0], whole[exact.winner].nll, rtol=1e-6)


@pytest.mark.parametrize("real", ["bfloat16"], indirect=True)
def test_race_on_the_real_model_finds_as_good_an_attention(real: LoadedModel) -> None:
    corpus = real.tokenize("python-docs", 12 * 64, 64)
    masks = [Mask.parse(f"a{layer}") for layer in range(0, real.n_layers, 3)]
    store = Store(None)
    found = race(masks, _judge(real, corpus, store), 12, 0.99)
    exact = sorted(score(real, corpus, masks, store, "calibration"), key=lambda s: s.total_nll)
    assert found.totals[0] <= exact[0].total_nll + 0.02 * exact[0].n_tokens
    assert found.saved > 0
