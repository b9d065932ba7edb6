"""Redundancy: equal to slow NumPy on plainly hooked hidden states."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch

from explorer.errors import Cancelled
from explorer.masks.mask import Mask, Site
from explorer.measures import similarity
from explorer.measures.similarity import TOKEN_CHOICES, UNITS, _influence, measure_similarity
from explorer.measures.similarity_stats import SimilarityStats
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus, Windows
from tests.support import brute_force


def test_angular_distance_equals_the_oracle(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    found = measure_similarity(loaded, corpus, store)
    plain = brute_force.plain(loaded.checkpoint.folder)
    states, _ = brute_force.hidden_states(plain, corpus.calibration.ids)
    for choice in TOKEN_CHOICES:
        expected = brute_force.angular_distances(states, choice)
        rows = found.angular_distance(choice)
        assert [len(row) for row in rows] == [len(row) for row in expected] == list(range(loaded.n_layers, 0, -1))
        for row, right in zip(rows, expected, strict=True):
            np.testing.assert_allclose(row, right, atol=1e-5)


@pytest.mark.parametrize("without_first", [False, True])
def test_influence_and_norms_equal_the_oracle(
    loaded: LoadedModel, corpus: Corpus, store: Store, without_first: bool
) -> None:
    found = measure_similarity(loaded, corpus, store)
    plain = brute_force.plain(loaded.checkpoint.folder)
    expected = brute_force.influences(plain, corpus.calibration.ids, int(without_first))
    for unit in UNITS:
        np.testing.assert_allclose(found.block_influence(unit, without_first), expected[unit], atol=1e-5)
    states, _ = brute_force.hidden_states(plain, corpus.calibration.ids)
    norms = [np.linalg.norm(s[:, int(without_first) :].astype(np.float64), axis=-1).mean() for s in states]
    np.testing.assert_allclose(found.residual_norms(without_first), norms, rtol=1e-5)


def test_distances_are_distances(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    for angular in measure_similarity(loaded, corpus, store).angular.values():
        assert angular.shape == (5, loaded.n_layers + 1, loaded.n_layers + 1)
        assert angular.min() >= 0
        assert angular.max() <= 1
        np.testing.assert_allclose(angular, angular.transpose(0, 2, 1), atol=1e-12)
        np.testing.assert_allclose(np.diagonal(angular, axis1=1, axis2=2), 0, atol=1e-7)
        assert np.abs(angular).max() > 0.05


def test_batch_size_does_not_matter(loaded: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure_similarity(loaded, corpus, Store(None))
    monkeypatch.setattr(loaded.batch_shape, "tokens", 2 * corpus.window)
    monkeypatch.setitem(similarity._GRAM_ENTRIES, "cpu", 7 * (loaded.n_layers + 1) * loaded.config.hidden_size)
    parts = measure_similarity(loaded, corpus, Store(None))
    for name in TOKEN_CHOICES:
        np.testing.assert_allclose(parts.angular[name], whole.angular[name], atol=1e-5)
    for unit in UNITS:
        np.testing.assert_allclose(parts.influence[unit], whole.influence[unit], atol=1e-5)
    np.testing.assert_allclose(parts.norms, whole.norms, rtol=1e-5)


def test_other_windows_are_another_key(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    store = Store(None)
    monkeypatch.setattr(store, "arrays", lambda key: keys.append(key))
    plain = {"text": "python-docs", "tokens": 5 * 24, "window": 24, "bos": "auto"}
    corpora = [llama.tokenize(**plain | how) for how in ({}, {"bos": "always"}, {"window": 20}, {"tokens": 4 * 24})]
    shifted = replace(corpora[0].calibration, ids=corpora[0].calibration.ids + 1)
    for corpus in (*corpora, replace(corpora[0], calibration=shifted)):
        measure_similarity(llama, corpus, store)
    assert len(set(keys)) == 5


def test_stored_result_needs_no_forward(llama: LoadedModel, llama_corpus: Corpus, tmp_path) -> None:
    store = Store(tmp_path)
    first = measure_similarity(llama, llama_corpus, store)
    handle = llama.model.get_input_embeddings().register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        again = measure_similarity(llama, llama_corpus, store)
        with pytest.raises(ZeroDivisionError):
            measure_similarity(llama, llama.tokenize("python-docs", 2 * 24, 24), store)
    finally:
        handle.remove()
        store.close()
    for name in TOKEN_CHOICES:
        np.testing.assert_array_equal(again.angular[name], first.angular[name])
    np.testing.assert_array_equal(again.norms, first.norms)


def test_cancelled_measure_stores_nothing(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    def cancel(done: int, total: int, what: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_similarity(llama, llama_corpus, store, cancel)
    assert not torch.is_inference_mode_enabled()
    found, expected = (
        measure_similarity(llama, llama_corpus, store),
        measure_similarity(llama, llama_corpus, Store(None)),
    )
    np.testing.assert_array_equal(found.norms, expected.norms)


def test_out_of_memory_halves_the_batch(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_similarity(llama, llama_corpus, Store(None))
    monkeypatch.setattr(llama.batch_shape, "tokens", 5 * llama_corpus.window)
    inner = similarity._Fitter.leave

    def limited(self: similarity._Fitter, layer: int, hidden: torch.Tensor) -> None:
        if len(hidden) > 2 and layer == 1:
            raise torch.OutOfMemoryError("full")
        inner(self, layer, hidden)

    monkeypatch.setattr(similarity._Fitter, "leave", limited)
    parts = measure_similarity(llama, llama_corpus, Store(None))
    np.testing.assert_allclose(parts.angular["mean"], whole.angular["mean"], atol=1e-5)


def test_sizes_of_updates_equal_the_oracle(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    found = measure_similarity(loaded, corpus, store)
    plain = brute_force.plain(loaded.checkpoint.folder)
    for power in (1, 2):
        for unit, right in brute_force.sizes(plain, corpus.calibration.ids, power).items():
            np.testing.assert_allclose(found.sizes[power, unit], right, rtol=1e-3, atol=1e-5, err_msg=f"{power} {unit}")
            assert right.mean() > 0.01


@pytest.mark.parametrize("mask", ["a1,m2", "0,m3", "1-2,a0"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "opt", "bloom", "falcon_parallel", "granite", "mixtral"])
def test_under_a_mask_it_is_what_zeroed_projections_give(tiny, store: Store, name: str, mask: str) -> None:
    loaded: LoadedModel = tiny.load(name)
    corpus, off = loaded.tokenize("python-docs", 3 * 24, 24), Mask.parse(mask)
    found, ids = measure_similarity(loaded, corpus, store, variant=off), corpus.calibration.ids
    zeroed = brute_force.zeroed(loaded.checkpoint.folder, off)
    states, _ = brute_force.hidden_states(zeroed, ids)
    for choice in TOKEN_CHOICES:
        expected = brute_force.angular_distances(states, choice)
        for row, right in zip(found.angular_distance(choice), expected, strict=True):
            np.testing.assert_allclose(row, right, atol=1e-5)
    for unit, influence in brute_force.influences(zeroed, ids).items():
        np.testing.assert_allclose(found.block_influence(unit), influence, atol=1e-5)
        for power in (1, 2):
            right = brute_force.sizes(zeroed, ids, power)[unit]
            np.testing.assert_allclose(found.sizes[power, unit], right, rtol=1e-3, atol=1e-5)
    for site in off.sites:
        assert (found.influence[site.part][..., site.layer] == 0).all()
        assert (found.sizes[2, site.part][..., site.layer] == 0).all()
    assert not np.allclose(found.norms, measure_similarity(loaded, corpus, store).norms)


def test_the_order_of_windows_does_not_matter(llama: LoadedModel, llama_corpus: Corpus) -> None:
    order = [3, 0, 4, 2, 1]
    windows = Windows(llama_corpus.calibration.ids[order], llama_corpus.calibration.text_bytes[order])
    found = measure_similarity(llama, replace(llama_corpus, calibration=windows), Store(None))
    before = measure_similarity(llama, llama_corpus, Store(None))
    for choice in TOKEN_CHOICES:
        np.testing.assert_allclose(found.angular[choice], before.angular[choice][order], atol=1e-7)
    for unit in UNITS:
        np.testing.assert_allclose(found.influence[unit], before.influence[unit][order], atol=1e-7)
        np.testing.assert_allclose(found.sizes[1, unit], before.sizes[1, unit][order], rtol=1e-5)


def fit(x: np.ndarray, updates: list[tuple[np.ndarray, np.ndarray]]) -> SimilarityStats:
    """Show a fitter a stream x (windows, window, width) and what each layer's attention and MLP add to it."""
    fitter, shape = similarity._Fitter(len(updates), parallel=False), x.shape[:2]
    for layer, (a, m) in enumerate(updates):
        fitter.enter(layer, torch.from_numpy(x).float())
        fitter.update(Site(layer, "attention"), torch.from_numpy(a).float())
        fitter.update(Site(layer, "mlp"), torch.from_numpy(m).float())
        x = x + a + m
        fitter.leave(layer, torch.from_numpy(x).float())
    found = {name: value.numpy() for name, value in fitter.fit(shape).items()}
    return SimilarityStats(
        {choice: found[f"angular_{choice}"] for choice in TOKEN_CHOICES},
        {unit: found[f"influence_{unit}"] for unit in UNITS},
        {(power, unit): found[f"l{power}_{unit}"] for power in (1, 2) for unit in UNITS},
        found["norms"], tokens=0, corpus="", model="", dtype="",
    )  # fmt: skip


def test_streams_whose_angles_are_known() -> None:
    """An identity, a rotation by a sixth of a half turn, its undoing, a stretch, a reversal."""
    x = np.random.default_rng(0).standard_normal((2, 3, 2))
    angle = math.pi / 6
    turned = x @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    nothing = np.zeros_like(x)
    found = fit(x, [(nothing, nothing), (turned - x, nothing), (nothing, x - turned), (x, x), (-2 * x, -4 * x)])
    for choice in TOKEN_CHOICES:
        rows = found.angular_distance(choice)
        np.testing.assert_allclose(rows[0], [0, 1 / 6, 1 / 6, 0, 1], atol=1e-6)  # d(l, 1)
        np.testing.assert_allclose(rows[1], [1 / 6, 0, 1 / 6, 1], atol=1e-6)  # layers 1 and 2 cancel
        np.testing.assert_allclose(rows[4], [1], atol=1e-6)
        assert found.best_starts(choice)[1] == 1
    cosine = 1 - math.cos(angle)
    np.testing.assert_allclose(found.block_influence("layer"), [0, cosine, cosine, 0, 2], atol=1e-6)
    np.testing.assert_allclose(found.block_influence("attention"), [0, cosine, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found.block_influence("mlp"), [0, 0, cosine, 0, 2], atol=1e-6)
    chord = 2 * math.sin(angle / 2)
    np.testing.assert_allclose(found.sizes[2, "layer"].mean((0, 1)), [0, chord, chord, 2, 2], atol=1e-5)
    np.testing.assert_allclose(found.sizes[1, "layer"].mean((0, 1))[[0, 3, 4]], [0, 2, 2], atol=1e-5)
    np.testing.assert_allclose(found.sizes[1, "mlp"].mean((0, 1))[3], 0.5, atol=1e-5)  # x added to 2 x
    norms = np.linalg.norm(x, axis=-1).mean()
    np.testing.assert_allclose(found.residual_norms(), norms * np.array([1, 1, 1, 1, 3, 3]), rtol=1e-5)


def _exact(x: np.ndarray, f: np.ndarray) -> float:
    """1 - cos(x, x + f) to 50 digits."""
    with mpmath.workdps(50):
        a, b = ([mpmath.mpf(float(v)) for v in vector] for vector in (x, f))
        y = [p + q for p, q in zip(a, b, strict=True)]
        dot, xx, yy = (mpmath.fdot(p, q) for p, q in ((a, y), (a, a), (y, y)))
        return float(1 - dot / mpmath.sqrt(xx * yy))


@pytest.mark.parametrize("size", [1e-8, 1e-6, 1e-3, 0.1, 1.0, 30.0])
def test_influence_keeps_its_digits_near_one(size: float) -> None:
    x = np.array([3.0, -1.0, 2.0, 0.5])
    across = np.array([1.0, 3.0, 0.0, 0.0])
    f = size * across
    dots = [torch.tensor([float(np.dot(p, q))], dtype=torch.float64) for p, q in ((x, x), (x, f), (f, f))]
    assert float(_influence(*dots)) == pytest.approx(_exact(x, f), rel=1e-9)


@pytest.mark.parametrize(("along", "expected"), [(0.0, 0.0), (1.0, 0.0), (-0.5, 0.0), (-2.0, 2.0), (-3.0, 2.0)])
def test_influence_along_the_stream(along: float, expected: float) -> None:
    x = np.array([3.0, -1.0, 2.0])
    f = along * x
    dots = [torch.tensor([float(np.dot(p, q))], dtype=torch.float64) for p, q in ((x, x), (x, f), (f, f))]
    assert float(_influence(*dots)) == pytest.approx(expected, abs=1e-12)
