"""Taylor and magnitude: equal to one plain backward of transformers' own mean loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.checkpoints.spec import ModelSpec
from explorer.errors import Cancelled, UnsupportedModel
from explorer.evaluation import nll
from explorer.measures.gradients import measure_magnitude, measure_taylor
from explorer.measures.importance import Importance
from explorer.measures.measure import UNITS
from explorer.model.loading import LoadedModel
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import WINDOW


def by_unit(found: list[Importance]) -> dict[str, Importance]:
    assert [each.unit for each in found] == list(UNITS)
    return {each.unit: each for each in found}


def test_taylor_equals_a_plain_backward(loaded: LoadedModel, corpus: Corpus) -> None:
    found = by_unit(measure_taylor(loaded, corpus))
    expected = brute_force.taylor(loaded.checkpoint.folder, corpus.calibration.ids)
    for unit in UNITS:
        assert expected[unit].min() > 0
        np.testing.assert_allclose(found[unit].values, expected[unit], rtol=1e-4, err_msg=unit)


def test_magnitude_equals_the_sum_of_the_weights(loaded: LoadedModel) -> None:
    found = by_unit(measure_magnitude(loaded))
    expected = brute_force.magnitude(loaded.checkpoint.folder)
    for unit in UNITS:
        np.testing.assert_allclose(found[unit].values, expected[unit], rtol=1e-6, err_msg=unit)
        assert found[unit].samples is None


@pytest.mark.parametrize("n_windows", [3, 10])
def test_samples_are_the_pseudo_values_of_leaving_a_group_out(llama: LoadedModel, n_windows: int) -> None:
    corpus = llama.tokenize("python-docs", n_windows * WINDOW, WINDOW)
    found, ids = by_unit(measure_taylor(llama, corpus)), corpus.calibration.ids
    whole = brute_force.taylor(llama.checkpoint.folder, ids)
    groups = np.array_split(np.arange(n_windows), min(8, n_windows))
    for number, group in enumerate(groups):
        without = brute_force.taylor(llama.checkpoint.folder, np.delete(ids, group, axis=0))
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
    monkeypatch.setitem(nll.LOGIT_BYTES, "cpu", 7 * 4 * 300)
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
