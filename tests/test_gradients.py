"""Taylor and magnitude: equal to one plain backward of transformers' own mean loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer import scoring
from explorer.errors import Cancelled, UnsupportedModel
from explorer.gradients import measure_magnitude, measure_taylor
from explorer.importance import UNITS
from explorer.loading import LoadedModel
from explorer.measures import Importance
from explorer.records import Corpus, ModelSpec
from tests import brute_force
from tests.tiny_models import WINDOW

Worth = Callable[[Tensor], Tensor]


def sums(model: Any, worth: Worth) -> dict[str, np.ndarray]:
    """Sum what weights are worth, biases left out, over each layer, its attention and its MLP: unit -> (L,)."""
    where = brute_force.names(model)
    prefixes = {"layer": ("",), "attention": (where["attention"] + ".",), "mlp": (where["mlp"] + ".",)}
    if model.config.model_type == "opt":
        prefixes["mlp"] = ("fc1.", "fc2.")
    found: dict[str, list[float]] = {unit: [] for unit in UNITS}
    for layer in model.get_submodule(where["layers"]):
        for unit, names in prefixes.items():
            weights = [p for name, p in layer.named_parameters() if name.startswith(names)]
            kept = [p for p in weights if p.ndim > 1 or "norm" in _name(layer, p) or "sinks" in _name(layer, p)]
            found[unit].append(float(sum(worth(p).double().sum() for p in kept if "bias" not in _name(layer, p))))
    return {unit: np.array(values) for unit, values in found.items()}


def _name(layer: Any, parameter: Tensor) -> str:
    (name,) = [name for name, p in layer.named_parameters() if p is parameter]
    return name.replace("ln_", "norm_")


def plain_backward(loaded: LoadedModel, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Sum |W dL/dW|, from one backward pass of the loss that transformers computes itself."""
    model, tokens = brute_force.plain(loaded.checkpoint.folder), torch.from_numpy(ids)
    model(tokens, labels=tokens, use_cache=False).loss.backward()
    return sums(model, lambda w: torch.zeros(1) if w.grad is None else (w.detach() * w.grad).abs())


def by_unit(found: list[Importance]) -> dict[str, Importance]:
    assert [each.unit for each in found] == list(UNITS)
    return {each.unit: each for each in found}


def test_taylor_equals_a_plain_backward(loaded: LoadedModel, corpus: Corpus) -> None:
    found, expected = by_unit(measure_taylor(loaded, corpus)), plain_backward(loaded, corpus.calibration.ids)
    for unit in UNITS:
        assert expected[unit].min() > 0
        np.testing.assert_allclose(found[unit].values, expected[unit], rtol=1e-4, err_msg=unit)


def test_magnitude_equals_the_sum_of_the_weights(loaded: LoadedModel) -> None:
    found = by_unit(measure_magnitude(loaded))
    expected = sums(brute_force.plain(loaded.checkpoint.folder), lambda w: w.detach().abs())
    for unit in UNITS:
        np.testing.assert_allclose(found[unit].values, expected[unit], rtol=1e-6, err_msg=unit)
        assert found[unit].samples is None


@pytest.mark.parametrize("n_windows", [3, 10])
def test_samples_are_the_pseudo_values_of_leaving_a_group_out(llama: LoadedModel, n_windows: int) -> None:
    corpus = llama.tokenize("python-docs", n_windows * WINDOW, WINDOW)
    found, ids = by_unit(measure_taylor(llama, corpus)), corpus.calibration.ids
    whole, groups = plain_backward(llama, ids), np.array_split(np.arange(n_windows), min(8, n_windows))
    for number, group in enumerate(groups):
        without = plain_backward(llama, np.delete(ids, group, axis=0))
        for unit in UNITS:
            expected = len(groups) * whole[unit] - (len(groups) - 1) * without[unit]
            samples = found[unit].samples
            assert samples is not None
            assert samples.shape == (len(groups), 4)
            np.testing.assert_allclose(samples[number], expected, rtol=1e-3, atol=1e-3 * whole[unit].max())


def test_blocks_of_logits_do_not_matter(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = by_unit(measure_taylor(llama, llama_corpus))
    monkeypatch.setitem(scoring.LOGIT_BYTES, "cpu", 7 * 4 * 300)
    for unit, found in by_unit(measure_taylor(llama, llama_corpus)).items():
        np.testing.assert_allclose(found.values, whole[unit].values, rtol=1e-5)


@pytest.mark.parametrize("stop_at", [None, 0, 2])
def test_the_model_is_as_it_was(llama: LoadedModel, llama_corpus: Corpus, stop_at: int | None) -> None:
    def progress(done: int, total: int, what: str) -> None:
        if done == stop_at:
            raise Cancelled

    weights = {name: p.clone() for name, p in llama.model.named_parameters()}
    before = brute_force.logits(llama.model, llama_corpus.calibration.ids)
    if stop_at is None:
        measure_taylor(llama, llama_corpus, progress)
    else:
        with pytest.raises(Cancelled):
            measure_taylor(llama, llama_corpus, progress)
    for name, parameter in llama.model.named_parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, weights[name])
    assert torch.equal(brute_force.logits(llama.model, llama_corpus.calibration.ids), before)


def test_quantized_weights_are_refused(llama: LoadedModel, llama_corpus: Corpus) -> None:
    quantized = replace(llama, spec=ModelSpec("m", quantize="nf4"))
    for work in (lambda: measure_taylor(quantized, llama_corpus), lambda: measure_magnitude(quantized)):
        with pytest.raises(UnsupportedModel, match="quantized"):
            work()
