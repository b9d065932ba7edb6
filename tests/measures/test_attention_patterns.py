"""Attention: equal to what an eager model of plain transformers says of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from explorer.errors import UnsupportedModel
from explorer.measures import attention_patterns
from explorer.measures.attention_patterns import measure_attention
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force


def expected(loaded: LoadedModel, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entropy and share of the first token, (windows, L, heads), query by query from the second on."""
    plain = brute_force.plain(loaded.checkpoint.folder, attn_implementation="eager")
    with torch.no_grad():
        weights = plain(torch.from_numpy(ids), output_attentions=True, use_cache=False).attentions
    entropy, first = [], []
    for layer in weights:
        p = layer.double().numpy()[:, :, 1:]
        safe = np.where(p > 0, p, 1)
        entropy.append(-(p * np.log(safe)).sum(-1).mean(-1))
        first.append(p[..., 0].mean(-1))
    return np.stack(entropy, 1), np.stack(first, 1)


def test_attention_equals_the_oracle(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    before = loaded.model.config._attn_implementation
    logits = brute_force.logits(loaded.model, corpus.calibration.ids)
    if loaded.config.model_type == "falcon":
        with pytest.raises(UnsupportedModel, match="0 of 4 layers") as error:
            measure_attention(loaded, corpus, store)
        assert "\n" not in str(error.value)
    else:
        found = measure_attention(loaded, corpus, store)
        entropy, first = expected(loaded, corpus.calibration.ids)
        np.testing.assert_allclose(found.entropy, entropy, atol=1e-5)
        np.testing.assert_allclose(found.first, first, atol=1e-5)
        assert 0 < entropy.mean() < math.log(corpus.window)
        assert 0 < first.mean() < 1
        by_name = {each.measure: each for each in found.importances()}
        np.testing.assert_allclose(by_name["attention-entropy"].values, entropy.mean((0, 2)), atol=1e-5)
        np.testing.assert_allclose(by_name["attention-sink"].samples, first.mean(2), atol=1e-5)
    assert loaded.model.config._attn_implementation == before
    assert torch.equal(brute_force.logits(loaded.model, corpus.calibration.ids), logits)


def test_the_implementation_is_restored_after_a_failure(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = llama.model.config._attn_implementation
    assert before != "eager"
    monkeypatch.setattr(attention_patterns, "_reduce", lambda weights: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_attention(llama, llama_corpus, store)
    assert llama.model.config._attn_implementation == before


def test_batches_do_not_matter_and_what_is_stored_needs_no_forward(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = measure_attention(llama, llama_corpus, store)
    again = measure_attention(llama, llama_corpus, Store(None))
    np.testing.assert_array_equal(one_by_one.entropy, again.entropy)
    monkeypatch.setattr(llama.wrappers, "attend", lambda *_: 1 / 0)
    np.testing.assert_array_equal(measure_attention(llama, llama_corpus, store).first, one_by_one.first)


def test_flat_and_resting_heads_read_as_such() -> None:
    n = 6
    flat = torch.tril(torch.ones(n, n)) / torch.arange(1, n + 1)[:, None]
    resting = torch.zeros(n, n)
    resting[:, 0] = 1
    entropy, first = attention_patterns._reduce(torch.stack([flat, resting])[None])[:, 0]
    assert float(entropy[0]) == pytest.approx(np.mean([math.log(k) for k in range(2, n + 1)]))
    assert float(first[0]) == pytest.approx(np.mean([1 / k for k in range(2, n + 1)]))
    assert (float(entropy[1]), float(first[1])) == (0, 1)
