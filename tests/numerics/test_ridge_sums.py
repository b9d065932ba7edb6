"""RidgeSums: equal to plain least squares where there is nothing to choose; robust where data is poor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from explorer.numerics.hadamard import make_hadamard
from explorer.numerics.ridge_sums import PENALTIES, RidgeSums


def draw(n: int, inputs: int, outputs: int, noise: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, w = torch.randn(n, inputs, generator=g), torch.randn(inputs, outputs, generator=g)
    return x, x @ w + noise * torch.randn(n, outputs, generator=g)


def fill(x: torch.Tensor, y: torch.Tensor, folds: int = 4, **options: bool) -> RidgeSums:
    sums = RidgeSums(x.shape[1], y.shape[1], folds, **options)
    for fold, (a, b) in enumerate(zip(x.chunk(folds), y.chunk(folds), strict=True)):
        sums.add(a, b, fold)
    return sums


def test_a_linear_relation_is_found() -> None:
    x, y = draw(400, 6, 3)
    found = fill(x, y).solve()
    assert found.penalty == min(PENALTIES)
    assert found.error < 1e-6
    torch.testing.assert_close(x.double() @ found.weights, y.double(), rtol=1e-2, atol=1e-2)


def test_noise_is_not_explained() -> None:
    x, _ = draw(60, 40, 2)
    _, y = draw(60, 3, 2, noise=1.0, seed=1)
    assert fill(x, y).solve().error > 0.9


def test_batches_in_one_fold_add_up() -> None:
    x, y = draw(100, 5, 2, noise=0.3)
    whole, parts = RidgeSums(5, 2, 1), RidgeSums(5, 2, 1)
    whole.add(x, y, 0)
    for a, b in zip(x.split(7), y.split(7), strict=True):
        parts.add(a, b, 0)
    torch.testing.assert_close(whole.solve((0.1,)).weights, parts.solve((0.1,)).weights, rtol=1e-5, atol=1e-6)


def test_weights_are_repetitions() -> None:
    x, y = draw(50, 4, 2, noise=0.5)
    twice, weighed = RidgeSums(4, 2, 1), RidgeSums(4, 2, 1)
    twice.add(torch.cat([x, x[:10]]), torch.cat([y, y[:10]]), 0)
    weighed.add(x, y, 0, torch.cat([torch.full((10,), 2.0), torch.ones(40)]))
    torch.testing.assert_close(twice.solve((0.1,)).weights, weighed.solve((0.1,)).weights, rtol=1e-4, atol=1e-5)


def test_the_intercept_is_not_penalised() -> None:
    x = torch.cat([torch.randn(200, 3, generator=torch.Generator().manual_seed(2)), torch.ones(200, 1)], 1)
    found = fill(x, torch.full((200, 1), 7.0), intercept=True).solve((1e6,))
    torch.testing.assert_close(found.weights[-1], torch.tensor([7.0], dtype=torch.float64), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["rank-deficient", "identical", "zero", "one fold"])
def test_poor_data_does_not_explode(kind: str) -> None:
    x, y = draw(40, 30, 2, noise=0.1)
    if kind == "rank-deficient":
        x = x[:, :2] @ torch.ones(2, 30)
    elif kind == "identical":
        x, y = x[:1].expand(40, -1), y[:1].expand(40, -1)
    elif kind == "zero":
        x = torch.zeros_like(x)
    sums = fill(x, y, 1 if kind == "one fold" else 4)
    found = sums.solve()
    assert found.weights.isfinite().all()
    assert float((x.double() @ found.weights - y).square().sum()) <= 1.0001 * float(y.square().sum())
    if kind == "one fold":
        assert found.penalty == max(PENALTIES)
        assert np.isnan(found.error)


def test_what_overflows_is_seen() -> None:
    x, y = draw(8, 2, 1)
    sums = fill(x, y.clone().index_fill(0, torch.tensor([3]), float("inf")))
    assert not sums.finite


@pytest.mark.parametrize("n", [1, 2, 12, 20, 28, 36, 48, 64, 576, 960, 2304, 3584])
def test_a_hadamard_matrix_has_entries_of_one_size(n: int) -> None:
    made = make_hadamard(n)
    np.testing.assert_allclose(made @ made.T, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(np.abs(made), 1 / np.sqrt(n))


@pytest.mark.parametrize("n", [7, 18, 100])
def test_any_other_width_is_mixed_in_blocks(n: int) -> None:
    made = make_hadamard(n)
    np.testing.assert_allclose(made @ made.T, np.eye(n), atol=1e-12)
    assert len(np.unique(np.abs(made).round(9))) <= 2
