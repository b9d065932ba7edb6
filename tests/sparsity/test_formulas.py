"""Each score and update against a slow NumPy transcription of its formula, on a tiny Llama."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import ModifyError
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.sparsity.allocation import find_outliers, spread_shares
from explorer.sparsity.sparse_gpt import factor_inverse, prune_and_update
from explorer.sparsity.sparsity import Sparsity
from explorer.sparsity.stream import sum_products, sum_squares
from explorer.sparsity.wanda import find_smallest_sums, score_wanda
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.pruning import (
    LINEARS,
    count_zeros,
    find_lowest,
    inputs_of,
    oracle_sparse_gpt,
    oracle_wanda,
    update,
    zeros_of,
)
from tests.support.tiny_models import WINDOW


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=12 * WINDOW)


def weights_of(loaded: LoadedModel, corpus: Corpus, spec: str, mask: str = "none") -> dict[str, np.ndarray]:
    """Return the matrices of every layer in the variant that a modifier makes."""
    variant = modify(loaded, corpus, Mask.parse(mask), [spec], Store(None))
    return {
        f"{layer}.{name}": loaded.wrappers.weight(layer, f"{name}.weight", variant.deltas).double().numpy()
        for layer in range(loaded.n_layers)
        for name in LINEARS
    }


def own_weights(loaded: LoadedModel) -> dict[str, np.ndarray]:
    return {
        f"{layer}.{name}": loaded.wrappers.weight(layer, f"{name}.weight").double().numpy()
        for layer in range(loaded.n_layers)
        for name in LINEARS
    }


@pytest.mark.parametrize(
    ("spec", "count", "group"),
    [
        ("sparsity=50%", 16, 0),
        ("sparsity=29%", 9, 0),
        ("pattern=2:4", 2, 4),
        ("pattern=3:4", 1, 4),
        ("pattern=4:8", 4, 8),
    ],
)
@pytest.mark.parametrize("method", ["magnitude", "wanda", "wanda++;optimise=no"])
def test_counts_are_exact(llama: LoadedModel, corpus: Corpus, method: str, spec: str, count: int, group: int) -> None:
    own = own_weights(llama)
    for name, found in weights_of(llama, corpus, f"{method};{spec}").items():
        assert ((found == own[name]) | (found == 0)).all()
        if found.shape[1] == 32 or group:
            assert set(count_zeros(found, group).flatten()) == {count}


def test_magnitude(llama: LoadedModel, corpus: Corpus) -> None:
    own = own_weights(llama)
    for name, found in weights_of(llama, corpus, "magnitude;sparsity=25%").items():
        for row, kept in zip(np.abs(own[name]), found, strict=True):
            order = sorted(range(len(row)), key=lambda column: (row[column], column))
            assert set(np.flatnonzero(kept == 0)) == set(order[: len(row) // 4])


@pytest.mark.parametrize("spec", ["sparsity=50%", "pattern=2:4", "pattern=4:8"])
def test_wanda(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    model = brute_force.plain(llama.checkpoint.folder)
    expected = oracle_wanda(model, corpus.calibration.ids, spec)
    found = weights_of(llama, corpus, f"wanda;{spec}")
    assert {name: zeros_of(each).tolist() for name, each in found.items()} == {
        name: each.tolist() for name, each in expected.items()
    }


@pytest.mark.parametrize("spec", ["sparsity=50%", "pattern=2:4"])
def test_sparse_gpt(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    model = brute_force.plain(llama.checkpoint.folder)
    expected = oracle_sparse_gpt(model, corpus.calibration.ids, spec)
    found = weights_of(llama, corpus, f"sparsegpt;{spec}")
    for name, each in expected.items():
        assert (zeros_of(found[name]) == zeros_of(each)).mean() > 0.999, name
        np.testing.assert_allclose(found[name], each, atol=1e-3)


def read(text: str) -> Sparsity:
    return Sparsity.of(ModifierSpec.parse(f"wanda;{text}"))


def test_wanda_is_magnitude_where_all_inputs_have_one_norm(llama: LoadedModel) -> None:
    own, norms = llama.wrappers.weight(0, "mlp.up_proj.weight"), torch.full((32,), 2.0)  # rounds nothing
    lowest = read("sparsity=50%").find_lowest
    assert torch.equal(lowest(score_wanda(own, norms)), lowest(own.abs()))


def test_of_equal_scores_the_lower_columns_go() -> None:
    for text, expected in (("sparsity=50%", [1, 1, 1, 1, 0, 0, 0, 0]), ("pattern=2:4", [1, 1, 0, 0, 1, 1, 0, 0])):
        assert read(text).find_lowest(torch.ones(3, 8)).int().tolist() == [expected] * 3


@pytest.mark.parametrize("text", ["sparsity=50%", "pattern=2:4"])
def test_sparse_gpt_is_magnitude_where_inputs_are_uncorrelated(text: str) -> None:
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    ((made, _),) = prune_and_update(
        [weight], factor_inverse(torch.eye(16, dtype=torch.float64), 0.01).float(), read(text)
    )
    grouped = weight.view(-1, 4) if text.startswith("pattern") else weight.view(1, -1)  # a share of all rows together
    zeros = grouped.abs().argsort(-1).argsort(-1) < grouped.shape[1] // 2
    assert torch.equal(made, weight.masked_fill(zeros.view(6, 16), 0))


@pytest.mark.parametrize("text", ["sparsity=50%", "pattern=2:4", "pattern=1:3"])
def test_sparse_gpt_goes_on_behind_a_block_of_columns(text: str) -> None:
    generator = np.random.default_rng(0)
    weight, inputs = generator.normal(size=(5, 300)), generator.normal(size=(900, 300))
    hessian = inputs.T @ inputs
    ((made, _),) = prune_and_update(
        [torch.from_numpy(weight)], factor_inverse(torch.from_numpy(hessian), 0.01), read(text)
    )
    np.testing.assert_allclose(made, update(weight, hessian, text), atol=1e-9)


def test_inputs_that_are_always_zero_lose_their_weights() -> None:
    inputs = torch.randn(40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs[:, 3] = 0
    weight = torch.ones(4, 8, dtype=torch.float64).masked_fill(torch.arange(8) == 3, 0)
    ((made, _),) = prune_and_update([weight], factor_inverse(inputs.T @ inputs, 0.01), read("pattern=2:4"))
    assert made.isfinite().all()
    assert (made[:, 3] == 0).all()
    assert set(count_zeros(made.numpy(), 4).flatten()) == {2}


def test_a_hessian_without_a_factor_is_said() -> None:
    with pytest.raises(ModifyError, match="no Cholesky factor"):
        factor_inverse(-torch.eye(4, dtype=torch.float64), 0.01)


def test_the_variant_of_wanda_takes_as_much_of_each_row() -> None:
    scores = torch.rand(20, 50, generator=torch.Generator().manual_seed(0)) ** 3
    zeros = find_smallest_sums(scores, 0.5).numpy()
    assert zeros.mean() == pytest.approx(0.5, abs=0.003)  # so near as shares of 0.001 of the sums take it
    rows, low, high = np.sort(scores.double().numpy(), -1), 0.0, 0.8
    while True:
        counts = [int((np.cumsum(row) <= (low + high) / 2 * row.sum()).sum()) for row in rows]
        if abs(sum(counts) / 1000 - 0.5) <= 0.001 or high - low < 0.001:
            break
        low, high = (low, (low + high) / 2) if sum(counts) > 500 else ((low + high) / 2, high)
    assert zeros.sum(-1).tolist() == counts
    assert len(set(counts)) > 1
    for marks, row in zip(zeros, scores.numpy(), strict=True):
        assert row[marks].max() <= row[~marks].min()


def test_owl_gives_layers_with_more_outliers_fewer_zeros() -> None:
    worth = np.array([0.01, 0.04, 0.02, 0.09])
    kept = (worth - worth.min()) * (1 / (worth.max() - worth.min()) * 0.08 * 2)
    np.testing.assert_allclose(spread_shares(list(worth), 0.7), 1 - (kept - kept.mean() + 1 - 0.7))
    assert spread_shares([0.5, 0.5], 0.7) == [0.7, 0.7]
    scores = [torch.tensor([[1.0, 1.0, 1.0, 30.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0]])]
    assert find_outliers(scores) == 1 / 8  # their mean is 37 / 8


@pytest.mark.parametrize("allocation", ["owl", "influence"])
def test_an_allocation_keeps_the_share_of_the_whole(llama: LoadedModel, corpus: Corpus, allocation: str) -> None:
    found = weights_of(llama, corpus, f"wanda;allocation={allocation};sparsity=50%")
    shares = [np.mean([(found[f"{layer}.{name}"] == 0).mean() for name in LINEARS]) for layer in range(llama.n_layers)]
    assert np.mean(shares) == pytest.approx(0.5, abs=1 / 32)  # whole columns
    assert max(shares) - min(shares) == pytest.approx(0.16, abs=2 / 32)


def run_layer(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(hidden.shape[1])[None]
    return model.model.layers[0](hidden, position_embeddings=model.model.rotary_emb(hidden, positions))


def test_gradients_are_of_one_window_at_a_time(llama: LoadedModel, corpus: Corpus) -> None:
    model, ids = brute_force.plain(llama.checkpoint.folder), corpus.calibration.ids
    states, _ = brute_force.hidden_states(model, ids)
    weights = {name: model.model.layers[0].get_submodule(name).weight for name in LINEARS}
    squares = dict.fromkeys(LINEARS, 0.0)
    for window in torch.from_numpy(states[0]):
        for weight in weights.values():
            weight.requires_grad_().grad = None
        run_layer(model, window[None]).square().sum().sqrt().backward()
        squares = {name: squares[name] + np.square(weights[name].grad.double().numpy()) for name in LINEARS}
    inputs = inputs_of(model, ids)
    found = weights_of(llama, corpus, "wanda++;optimise=no;sparsity=50%")
    for name, weight in weights.items():
        norms = np.sqrt(np.square(np.concatenate(inputs[name])).sum(0) / len(ids))
        gradient = np.sqrt(squares[name] / len(ids))
        scores = (100 * gradient + norms) * np.abs(weight.detach().double().numpy())
        assert (zeros_of(found[f"0.{name}"]) == find_lowest(scores, "sparsity=50%")).all()


def test_survivors_adapt_by_rmsprop(llama: LoadedModel, corpus: Corpus) -> None:
    """Two rounds of three windows in the first layer, RMSprop written out."""
    model, ids = brute_force.plain(llama.checkpoint.folder), np.array(sorted(corpus.calibration.ids.tolist()))
    states, _ = brute_force.hidden_states(model, ids)
    inputs = inputs_of(model, ids)
    weights = {name: model.model.layers[0].get_submodule(name).weight for name in LINEARS}
    windows = torch.from_numpy(states[0])
    with torch.no_grad():
        wanted = [run_layer(model, window[None]) for window in windows]
    means = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    generator = torch.Generator().manual_seed(3)

    @torch.no_grad()
    def prune() -> None:
        for name, weight in weights.items():
            norms = np.sqrt(np.square(np.concatenate(inputs[name])).sum(0))
            weight[torch.from_numpy(find_lowest(np.abs(weight.numpy()) * norms, "pattern=2:4"))] = 0

    for _ in range(2):
        prune()
        for window in torch.randperm(len(ids), generator=generator)[:3].tolist():
            for weight in weights.values():
                weight.requires_grad_().grad = None
            (run_layer(model, windows[window][None]) - wanted[window]).square().sum().backward()
            with torch.no_grad():
                for name, weight in weights.items():
                    means[name] = 0.99 * means[name] + 0.01 * weight.grad**2
                    weight -= 1e-3 * weight.grad / (means[name].sqrt() + 1e-8)
                    weight.requires_grad_(False)
    prune()
    found = weights_of(llama, corpus, "wanda++;gradients=no;pattern=2:4;rounds=2;samples=3;lr=1e-3;seed=3")
    for name, weight in weights.items():
        np.testing.assert_allclose(found[f"0.{name}"], weight.double().numpy(), atol=2e-5)


def test_statistics_of_more_windows_are_those_of_fewer_and_of_the_rest() -> None:
    reads = torch.randn(60, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for find in (sum_squares, sum_products):
        torch.testing.assert_close(find(reads), find(reads[:20]) + find(reads[20:]), rtol=1e-12, atol=1e-12)
    assert (sum_squares(reads) >= sum_squares(reads[:20])).all()
