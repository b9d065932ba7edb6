"""Interactions: pairs scored by plain transformers, additive games, and a map that fills coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from explorer.errors import Cancelled
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.interactions import Interactions, interact
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force


class Game:
    """LossFunction of whole layers: a worth each, and something on top for neighbours; counted."""

    def __init__(self, n_units: int, beside: float) -> None:
        self.units = [Mask.of_layers([layer]) for layer in range(n_units)]
        self.beside = beside
        self.asked: list[tuple[Mask, int]] = []

    def __call__(self, masks: Sequence[Mask], rows: slice) -> np.ndarray:
        windows = np.arange(rows.start, rows.stop)
        self.asked += [(mask, int(window)) for mask in masks for window in windows]
        return np.stack([self._loss(mask, windows) for mask in masks])

    def _loss(self, mask: Mask, windows: np.ndarray) -> np.ndarray:
        off = mask.whole_layers
        pairs = sum(layer + 1 in off for layer in off)
        return (
            50 + windows + sum(layer**1.5 for layer in off) * (1 + windows / 10) + self.beside * pairs * (1 + windows)
        )


def test_an_additive_game_has_none() -> None:
    found = interact((game := Game(7, 0.0)).units, game, 5, 10)
    off_diagonal = ~np.eye(7, dtype=bool)
    np.testing.assert_allclose(found.pairs[off_diagonal], 0, atol=1e-12)
    assert np.isnan(np.diagonal(found.pairs)).all()
    np.testing.assert_allclose(found.leave_one_out, [layer**1.5 * 1.2 / 10 for layer in range(7)])
    assert (found.windows[off_diagonal] == 5).all()


def test_only_neighbours_interact_and_nothing_is_asked_twice() -> None:
    game = Game(6, 3.0)
    found = interact(game.units, game, 4, 10)
    expected = np.zeros((6, 6))
    for i in range(5):
        expected[i, i + 1] = expected[i + 1, i] = 3.0 * 2.5 / 10
    np.testing.assert_allclose(np.nan_to_num(found.pairs), expected, atol=1e-12)
    assert len(game.asked) == len(set(game.asked)) == (1 + 6 + 15) * 4


@pytest.mark.parametrize("unit", ["layer", "site"])
def test_pairs_equal_the_oracle(llama: LoadedModel, llama_corpus: Corpus, store: Store, unit: str) -> None:
    units = find_units(4, unit)
    found = interact(units, make_loss_function(llama, llama_corpus, store), 5, llama_corpus.window - 1)
    folder, ids = llama.checkpoint.folder, llama_corpus.calibration.ids

    def nll(mask: Mask) -> float:
        model = brute_force.zeroed(folder, mask)
        return brute_force.window_nll(model, ids).sum() / (5 * (llama_corpus.window - 1))

    baseline, leave_one_out = nll(NONE), [nll(mask) for mask in units]
    np.testing.assert_allclose(found.leave_one_out, np.array(leave_one_out) - baseline, atol=1e-4)
    moved = 0.0
    for i in range(len(units)):
        for j in range(i + 1, len(units)):
            both = nll(Mask(units[i].sites | units[j].sites))
            expected = (both - baseline) - (leave_one_out[i] - baseline) - (leave_one_out[j] - baseline)
            assert found.pairs[i, j] == found.pairs[j, i] == pytest.approx(expected, abs=2e-4)
            moved = max(moved, abs(expected))
    assert moved > 0.05


def test_the_map_fills_coarse_to_fine() -> None:
    game, told = Game(24, 1.0), list[Interactions]()
    whole = interact(game.units, game, 8, 10, told.append)
    known = [~np.isnan(each.pairs) for each in told]
    lattice = np.zeros((24, 24), dtype=bool)
    lattice[::3, ::3] = True
    np.testing.assert_array_equal(known[0], lattice & ~np.eye(24, dtype=bool))
    assert all((before <= after).all() for before, after in pairwise(known))
    full = next(k for k, each in enumerate(known) if each.sum() == 24 * 23)
    assert set(told[full].windows[known[full]]) == {2}
    assert (whole.windows + 8 * np.eye(24, dtype=int) == 8).all()
    np.testing.assert_allclose(told[full].pairs[0, 1], 1.0 * 1.5 / 10)  # of windows 0 and 1
    np.testing.assert_allclose(told[0].leave_one_out, [layer**1.5 * 1.05 / 10 for layer in range(24)])
    np.testing.assert_array_equal(told[-1].pairs, whole.pairs)
    assert all(each.n_windows == 8 for each in told)


@pytest.mark.parametrize(("n_units", "n_windows"), [(1, 3), (2, 1), (9, 2)])
def test_small_maps(n_units: int, n_windows: int) -> None:
    game, told = Game(n_units, 1.0), list[tuple[int, int]]()
    found = interact(game.units, game, n_windows, 10, progress=lambda done, total, what: told.append((done, total)))
    assert np.isnan(found.pairs).sum() == n_units
    total = n_units * (n_units - 1) // 2 * n_windows
    assert not told or told[-1] == (total, total)


def test_stopped_maps_go_on_and_what_is_stored_is_not_scored_again(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    units, losses = find_units(4, "site"), make_loss_function(llama, llama_corpus, store)

    def cancel(found: Interactions) -> None:
        if (found.windows > 0).any():
            raise Cancelled

    with pytest.raises(Cancelled):
        interact(units, losses, 5, llama_corpus.window - 1, cancel)
    before = store._db.execute("SELECT window, mask, nll FROM nll").fetchall()
    assert len(before) >= 1 + 8 + 28
    found = interact(units, losses, 5, llama_corpus.window - 1)
    whole = interact(units, make_loss_function(llama, llama_corpus, Store(None)), 5, llama_corpus.window - 1)
    np.testing.assert_allclose(found.pairs, whole.pairs, atol=1e-5)
    assert set(before) <= set(store._db.execute("SELECT window, mask, nll FROM nll").fetchall())
    handle = llama.model.get_input_embeddings().register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        again = interact(units, losses, 5, llama_corpus.window - 1)
    finally:
        handle.remove()
    np.testing.assert_array_equal(again.pairs, found.pairs)
