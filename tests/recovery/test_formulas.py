"""Each modifier against an independent NumPy transcription of its formula, on a tiny Llama with one layer off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from explorer.deltas.delta import Delta
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.variant import Variant
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.tiny_models import WINDOW

CUT = 2
MASK = Mask.parse(str(CUT))


@dataclass
class Seen:
    """What the unpruned model does around the cut, float64, (windows, window, ...)."""

    before: np.ndarray
    after: np.ndarray
    features: np.ndarray
    mlp: np.ndarray
    down: np.ndarray


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=40 * WINDOW)


@pytest.fixture
def seen(llama: LoadedModel, corpus: Corpus) -> Seen:
    model, ids = brute_force.plain(llama.checkpoint.folder), corpus.calibration.ids
    features: list[np.ndarray] = []
    down: Any = model.model.layers[CUT - 1].mlp.down_proj
    down.register_forward_pre_hook(lambda _, args: features.append(args[0].double().numpy()))
    states, updates = brute_force.hidden_states(model, ids)
    return Seen(
        states[CUT].astype(float),
        states[CUT + 1].astype(float),
        features[0],
        updates["mlp"][CUT - 1].astype(float),
        down.weight.detach().double().numpy(),
    )


def make(llama: LoadedModel, corpus: Corpus, spec: str) -> Delta:
    return modify(llama, corpus, MASK, [ModifierSpec.parse(spec)], Store(None)).deltas[0]


def flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


def size_weights(target: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(np.square(flat(target)).mean(-1))


def folds(n_windows: int) -> Iterator[np.ndarray]:
    """Yield which windows are left out: each of four runs of them."""
    fold = np.array([w * 4 // n_windows for w in range(n_windows)])
    yield from (fold == k for k in range(4))


def solve(x: np.ndarray, y: np.ndarray, w: np.ndarray, penalty: float, bias: bool) -> np.ndarray:
    shift = penalty * np.eye(x.shape[1])
    if bias:
        shift[-1, -1] = 0
    return np.linalg.solve(x.T @ (x * w[:, None]) + shift, x.T @ (y * w[:, None]))


def cross_validate(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, windows: int, grid: np.ndarray, bias: bool = False
) -> tuple[np.ndarray, float]:
    """Weighted ridge; the penalty with the fewest squares left in the folds, of all that are tried."""
    tokens, squares = len(x) // windows, np.square(x) * w[:, None]
    unit = squares.sum(0)[: x.shape[1] - bias].mean()

    def left(relative: float) -> float:
        total = 0.0
        for out in folds(windows):
            rows = np.repeat(out, tokens)
            share = squares[~rows].sum() / squares.sum()
            fitted = solve(x[~rows], y[~rows], w[~rows], relative * unit * share, bias)
            total += float((np.square(y[rows] - x[rows] @ fitted) * w[rows, None]).sum())
        return total / float((np.square(y) * w[:, None]).sum())

    errors = [left(penalty) for penalty in grid]
    best = int(np.argmin(errors))
    return solve(x, y, w, grid[best] * unit, bias), errors[best]


def test_mean(llama: LoadedModel, corpus: Corpus, seen: Seen) -> None:
    bias = make(llama, corpus, "mean").stand_ins[MASK].bias
    np.testing.assert_allclose(bias, flat(seen.after - seen.before).mean(0), rtol=1e-4, atol=1e-6)


def test_linear(llama: LoadedModel, corpus: Corpus, seen: Seen) -> None:
    x = np.concatenate([flat(seen.before), np.ones((seen.before.size // 32, 1))], 1)
    y, w = flat(seen.after - seen.before), size_weights(seen.after)
    expected, _ = cross_validate(x, y, w, len(seen.before), np.logspace(-6, 1, 15), bias=True)
    found = make(llama, corpus, "linear").stand_ins[MASK]
    np.testing.assert_allclose(found.weight, expected[:-1], rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(found.bias, expected[-1], rtol=1e-2, atol=1e-4)


def test_linear_of_low_rank_is_the_nearest_on_the_data(llama: LoadedModel, corpus: Corpus, seen: Seen) -> None:
    full, low = (make(llama, corpus, spec).stand_ins[MASK] for spec in ("linear", "linear;rank=3"))
    assert low.down.shape == (32, 3)
    root = np.sqrt(size_weights(seen.after))[:, None]
    fitted = flat(seen.before) @ full.weight.double().numpy() * root
    singular = np.linalg.svd(fitted, compute_uv=False)
    missed = fitted - flat(seen.before) @ (low.down @ low.up).double().numpy() * root
    np.testing.assert_allclose(np.square(missed).sum(), np.square(singular[3:]).sum(), rtol=1e-3)


def test_refit_before_the_cut(llama: LoadedModel, corpus: Corpus, seen: Seen) -> None:
    x, y, w = flat(seen.features), flat(seen.after - seen.before), size_weights(seen.after)
    change, error = cross_validate(x, y, w, len(seen.before), np.logspace(-4, 0, 9))
    assert error < 1
    found = make(llama, corpus, "refit;where=before").weights[CUT - 1]["mlp.down_proj.weight"]
    np.testing.assert_allclose(found, seen.down + change.T, rtol=1e-2, atol=1e-4)


def test_refit_beside_the_cut_changes_the_projection_before_and_those_after(llama: LoadedModel, corpus: Corpus) -> None:
    changed = {layer: set(named) for layer, named in make(llama, corpus, "refit").weights.items()}
    assert changed[CUT - 1] == {"mlp.down_proj.weight"}
    assert set(changed) <= {CUT - 1, CUT + 1}
    assert changed.get(CUT + 1, set()) <= {"self_attn.o_proj.weight", "mlp.down_proj.weight"}


@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_replace_me(llama: LoadedModel, corpus: Corpus, seen: Seen, penalty: float) -> None:
    m, y = flat(seen.mlp), flat(seen.after - seen.before + seen.mlp)
    turn = np.linalg.solve(m.T @ m + penalty * np.eye(32), m.T @ y)
    found = make(llama, corpus, f"replaceme;penalty={penalty:g}").weights[CUT - 1]["mlp.down_proj.weight"]
    np.testing.assert_allclose(found, turn.T @ seen.down, rtol=1e-2, atol=1e-4)


def test_replace_me_by_cosine_turns_the_outputs_towards_what_is_missing(
    llama: LoadedModel, corpus: Corpus, seen: Seen
) -> None:
    m, y = torch.from_numpy(flat(seen.mlp)).float(), torch.from_numpy(flat(seen.after - seen.before + seen.mlp)).float()
    turn = torch.eye(32, requires_grad=True)
    adam = torch.optim.Adam([turn], lr=1e-4)
    torch.manual_seed(0)
    for _ in range(10):
        for rows in torch.randperm(len(m)).split(1024):
            adam.zero_grad()
            (1 - torch.nn.functional.cosine_similarity(m[rows] @ turn, y[rows])).mean().backward()
            adam.step()
    found = make(llama, corpus, "replaceme;loss=cosine").weights[CUT - 1]["mlp.down_proj.weight"]
    np.testing.assert_allclose(found, turn.detach().double().numpy().T @ seen.down, rtol=1e-2, atol=2e-5)


def channel_ratios(seen: Seen, basis: np.ndarray) -> np.ndarray:
    before, after = (np.abs(states @ basis).mean(1) for states in (seen.before, seen.after))
    return (after / before).mean(0)


def test_scale_divides_what_is_added_after_the_cut(llama: LoadedModel, corpus: Corpus, seen: Seen) -> None:
    scale = channel_ratios(seen, np.eye(32)).mean()
    made = make(llama, corpus, "scale")
    assert not made.stand_ins
    assert set(made.weights) == {CUT + 1}
    for name in ("mlp.down_proj.weight", "self_attn.o_proj.weight"):
        own = llama.wrappers.layers[CUT + 1].get_parameter(name).double()
        np.testing.assert_allclose(made.weights[CUT + 1][name], own / scale, rtol=1e-4)


def test_channels_are_scaled_in_a_hadamard_basis(llama: LoadedModel, corpus: Corpus, seen: Seen) -> None:
    basis = scipy.linalg.hadamard(32) / np.sqrt(32)
    patch = basis @ np.diag(channel_ratios(seen, basis)) @ basis.T
    found = make(llama, corpus, "channels").stand_ins[MASK].weight
    np.testing.assert_allclose(np.eye(32) + found.double().numpy(), patch, rtol=1e-3, atol=1e-5)


@dataclass
class Over:
    """What stands in for single sites, and the stream where the cut behind layer 1 ends, unpruned and with it."""

    below: Variant
    wanted: np.ndarray
    arrived: np.ndarray
    given: np.ndarray
    weight: np.ndarray


def stand_in_first(llama: LoadedModel, corpus: Corpus, mask: str, projection: str) -> Over:
    below, ids = variants.make(llama, corpus, mask, "linear;rank=1"), corpus.calibration.ids
    folder = llama.checkpoint.folder
    given: list[np.ndarray] = []
    model = variants.overwritten(folder, below)
    module: Any = model.model.layers[CUT - 1].get_submodule(projection)
    module.register_forward_pre_hook(lambda _, args: given.append(args[0].double().numpy()))
    (whole, added), (left, added_left) = (brute_force.hidden_states(m, ids) for m in (brute_force.plain(folder), model))
    ends = [states[CUT] + updates["attention"][CUT] for states, updates in ((whole, added), (left, added_left))]
    return Over(below, ends[0].astype(float), ends[1].astype(float), given[0], module.weight.detach().double().numpy())


@pytest.mark.parametrize(("mask", "projection"), [("a2", "mlp.down_proj"), ("m1,a2", "self_attn.o_proj")])
def test_refit_sees_what_stands_in_for_single_sites(
    llama: LoadedModel, corpus: Corpus, mask: str, projection: str
) -> None:
    over = stand_in_first(llama, corpus, mask, projection)
    x, y, w = flat(over.given), flat(over.wanted - over.arrived), size_weights(over.wanted)
    change, error = cross_validate(x, y, w, len(over.given), np.logspace(-4, 0, 9))
    assert error < 1
    made = modify(llama, corpus, over.below, ["refit;where=before"], Store(None)).deltas[1]
    assert {layer: list(named) for layer, named in made.weights.items()} == {CUT - 1: [f"{projection}.weight"]}
    np.testing.assert_allclose(
        made.weights[CUT - 1][f"{projection}.weight"], over.weight + change.T, rtol=1e-2, atol=1e-4
    )


def test_replaceme_sees_what_stands_in_for_single_sites(llama: LoadedModel, corpus: Corpus) -> None:
    over = stand_in_first(llama, corpus, "a2", "mlp.down_proj")
    m = flat(over.given) @ over.weight.T
    expected = np.linalg.lstsq(m, flat(over.wanted - over.arrived) + m, rcond=None)[0]
    made = modify(llama, corpus, over.below, ["replaceme"], Store(None)).deltas[1]
    found = made.weights[CUT - 1]["mlp.down_proj.weight"]
    np.testing.assert_allclose(found, expected.T @ over.weight, rtol=1e-2, atol=1e-4)
