"""Linear replaceability: ridge against numpy's normal equations, shares against plainly hooked states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.measures.importance import Importance
from explorer.measures.linear_approximation import _explain, measure_replaceability
from explorer.measures.measure import UNITS
from explorer.model.loading import LoadedModel
from explorer.numerics.ridge import _PENALTIES, fit_ridge
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import FAMILIES, WINDOW, load_folder, make_model, save

SEQUENTIAL = ["llama", "gemma2", "gpt2", "opt", "granite", "bloom", "falcon_sequential", "mixtral"]
PARALLEL = ["phi", "gpt_neox_parallel", "falcon_parallel", "falcon_new", "cohere2", "stablelm_parallel"]


def ridge(x: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, bias and penalty: generalised cross-validation by singular values, then normal equations."""
    n, centred, target = len(x), x - x.mean(0), f - f.mean(0)
    rank = min(n - 1, x.shape[1])
    left, singular, _ = (part for part in np.linalg.svd(centred, full_matrices=False))
    u, squares = left[:, :rank], np.square(singular[:rank])
    outside = np.square(target - u @ (u.T @ target)).sum()
    scores = []
    for penalty in _PENALTIES * squares[0]:
        lost = penalty / (squares + penalty)
        missed = np.square(lost[:, None] * (u.T @ target)).sum() + (outside if rank < n - 1 else 0)
        scores.append(missed / (lost.sum() + n - 1 - rank) ** 2)
    best = _PENALTIES[int(np.argmin(scores))] * squares[0]
    weights = np.linalg.solve(centred.T @ centred + best * np.eye(x.shape[1]), centred.T @ target)
    return weights, f.mean(0) - x.mean(0) @ weights, best


def test_the_oracle_judges_penalties_by_their_hat_matrices() -> None:
    x, f = draw(30, 8, 2.0)
    centred, scores = x - x.mean(0), []
    for penalty in _PENALTIES * np.linalg.eigvalsh(centred.T @ centred)[-1]:
        hat = centred @ np.linalg.inv(centred.T @ centred + penalty * np.eye(8)) @ centred.T + 1 / 30
        scores.append(np.square(f - hat @ f).sum() / (30 - np.trace(hat)) ** 2)
    found = ridge(x, f)[2] / np.linalg.eigvalsh(centred.T @ centred)[-1]
    assert found == pytest.approx(_PENALTIES[int(np.argmin(scores))])


def draw(n: int, width: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width)) + 3
    return x, x @ rng.standard_normal((width, 4)) + 2 + noise * rng.standard_normal((n, 4))


@pytest.mark.parametrize("shape", [(60, 5), (60, 40), (12, 30), (20, 20), (21, 20), (3, 50)])
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_ridge_is_the_normal_equations_at_the_penalty_of_cross_validation(shape: tuple[int, int], noise: float) -> None:
    x, f = draw(*shape, noise)
    weights, bias = fit_ridge(torch.from_numpy(x), torch.from_numpy(f))
    expected_weights, expected_bias, _ = ridge(x, f)
    scale = np.abs(expected_weights).max()
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("noise", [1.0, 8.0])
def test_the_penalty_is_nearly_the_best_for_windows_left_out(noise: float) -> None:
    x, f = draw(30, 20, noise, seed=1)
    errors = []
    for penalty in _PENALTIES * np.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0)))[-1]:
        missed = 0.0
        for left_out in range(len(x)):
            a, b = np.delete(x, left_out, 0), np.delete(f, left_out, 0)
            centred = a - a.mean(0)
            w = np.linalg.solve(centred.T @ centred + penalty * np.eye(20), centred.T @ (b - b.mean(0)))
            missed += float(np.square(f[left_out] - b.mean(0) - (x[left_out] - a.mean(0)) @ w).sum())
        errors.append(missed)
    chosen = ridge(x, f)[2] / np.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0)))[-1]
    assert errors[int(np.abs(np.log(_PENALTIES / chosen)).argmin())] <= 1.1 * min(errors)
    assert max(errors) > 1.5 * min(errors)


def states(loaded: LoadedModel, ids: np.ndarray, parallel: bool) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """What goes in and what is added, (windows, tokens but the first, width), of every layer by unit."""
    hidden, updates = brute_force.hidden_states(brute_force.plain(loaded.checkpoint.folder), ids)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {unit: [] for unit in UNITS}
    for layer, (a, m) in enumerate(zip(updates["attention"], updates["mlp"], strict=True)):
        x, a, m = (array[:, 1:].astype(np.float64) for array in (hidden[layer], a, m))
        found["layer"].append((x, hidden[layer + 1][:, 1:].astype(np.float64) - x))
        found["attention"].append((x, a))
        found["mlp"].append((x if parallel else x + a, m))
    return found


def missed_and_whole(fitted: tuple, judged: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Squares that the map misses, and all squares, of each judged window."""
    width = fitted[0].shape[-1]
    weights, bias, _ = ridge(fitted[0].reshape(-1, width), fitted[1].reshape(-1, width))
    return np.square(judged[1] - judged[0] @ weights - bias).sum((1, 2)), np.square(judged[1]).sum((1, 2))


def by_unit(found: list[Importance]) -> dict[str, Importance]:
    return {each.unit: each for each in found}


@pytest.mark.parametrize("name", SEQUENTIAL + PARALLEL)
def test_shares_equal_the_oracle_fitted_on_calibration_and_judged_on_held_out(tiny, name: str) -> None:
    loaded: LoadedModel = tiny.load(name)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    found = by_unit(measure_replaceability(loaded, corpus))
    fitted, judged = (states(loaded, split.ids, name in PARALLEL) for split in (corpus.calibration, corpus.held_out))
    for unit in UNITS:
        samples = found[unit].samples
        assert samples is not None
        for layer in range(loaded.n_layers):
            missed, whole = missed_and_whole(fitted[unit][layer], judged[unit][layer])
            share = 1 - missed.sum() / whole.sum()
            assert found[unit].values[layer] == pytest.approx(share, abs=2e-3), (unit, layer)
            for window in range(5):
                rest = np.arange(5) != window
                pseudo = 5 * share - 4 * (1 - missed[rest].sum() / whole[rest].sum())
                assert samples[window, layer] == pytest.approx(pseudo, abs=2e-2)


def test_what_was_fitted_is_explained_better_than_what_was_held_out(llama: LoadedModel, llama_corpus: Corpus) -> None:
    honest = by_unit(measure_replaceability(llama, llama_corpus))
    same = by_unit(measure_replaceability(llama, replace(llama_corpus, held_out=llama_corpus.calibration)))
    for unit in UNITS:
        assert (same[unit].values > honest[unit].values + 0.05).all()


@pytest.mark.parametrize("width", [6, 200])
def test_a_linear_update_is_explained(width: int) -> None:
    rng = np.random.default_rng(0)
    basis, b = rng.standard_normal((6, width)), rng.standard_normal((width, width))
    x = [torch.from_numpy(rng.standard_normal((5, 20, 6)) @ basis + 1) for _ in range(2)]  # few directions, as streams
    fitted, judged = ((each, each @ torch.from_numpy(b) - 2) for each in x)
    value, pseudo = _explain(fitted, judged)
    assert value == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(pseudo, 1, atol=1e-5)
    noise = torch.from_numpy(rng.standard_normal((5, 20, width)))
    assert _explain((x[0], noise), (x[1], noise.flip(0)))[0] < 0.1


def test_a_constant_and_a_missing_update_are_explained(tmp_path: Path) -> None:
    model = make_model(FAMILIES["gpt2"]())
    with torch.no_grad():
        model.transformer.h[1].attn.c_proj.weight.zero_()  # adds its bias
        model.transformer.h[2].mlp.c_proj.weight.zero_()
        model.transformer.h[2].mlp.c_proj.bias.zero_()  # adds nothing
    loaded = load_folder(save(model, tmp_path / "model"))
    found = by_unit(measure_replaceability(loaded, loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)))
    assert found["attention"].values[1] == pytest.approx(1, abs=1e-6)
    assert found["mlp"].values[2] == 1
    assert found["attention"].values[2] < 0.99
    assert found["layer"].values[2] == pytest.approx(found["attention"].values[2], abs=1e-9)


def test_batches_do_not_matter(llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = by_unit(measure_replaceability(llama, llama_corpus))
    monkeypatch.setattr(llama.batch_shape, "tokens", 2 * WINDOW)
    for unit, found in by_unit(measure_replaceability(llama, llama_corpus)).items():
        np.testing.assert_allclose(found.values, whole[unit].values, atol=1e-4)
