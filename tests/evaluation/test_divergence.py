"""Divergence: equal to plain transformers' logits, compared in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from explorer.errors import Cancelled, MaskError
from explorer.evaluation import divergence, nll, perplexity
from explorer.evaluation.divergence import Divergence, measure_divergence
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.masks.mask import NONE, Mask
from explorer.measures.criterion import LossRequest
from explorer.measures.last_token_cosine import measure_last_token_cosine
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force

MASKS = [Mask.parse(text) for text in ("a1", "2,m0", "none", "a1,m2", "0-2")]


def expected(loaded: LoadedModel, ids: np.ndarray, mask: Mask) -> np.ndarray:
    """(3, windows): KL, distance and agreement of plain transformers, zeroed."""
    plain, zeroed = (brute_force.zeroed(loaded.checkpoint.folder, m) for m in (NONE, mask))
    before, after = (brute_force.logits(m, ids)[:, :-1].double() for m in (plain, zeroed))
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)
    return torch.stack(
        [kl.sum(1), (before - after).norm(dim=-1).sum(1), (before.argmax(-1) == after.argmax(-1)).double().sum(1)]
    ).numpy()


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "falcon_parallel", "mixtral", "bloom"])
def test_divergence_equals_the_oracle(tiny, name: str, store: Store) -> None:
    loaded: LoadedModel = tiny.load(name)
    corpus = loaded.tokenize("python-docs", 4 * 24, 24)
    for mask, found in zip(MASKS, measure_divergence(loaded, corpus, MASKS, store), strict=True):
        kl, distance, top1_matches = expected(loaded, corpus.held_out.ids, mask)
        assert found.mask == mask
        np.testing.assert_allclose(found.kl, kl, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.logit_l2, distance, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(found.top1_matches, top1_matches)
        assert found.kl_per_token == pytest.approx(kl.sum() / (4 * 23), rel=1e-4, abs=1e-5)
        assert found.top1_agreement == top1_matches.sum() / (4 * 23)
        if mask:
            assert found.kl_per_token > 0.01


def test_batches_blocks_and_company_do_not_matter(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_divergence(llama, llama_corpus, MASKS, Store(None), "calibration")
    monkeypatch.setattr(llama.batch_shape, "tokens", 2 * llama_corpus.window)
    monkeypatch.setitem(nll.LOGIT_BYTES, "cpu", 7 * 4 * 300)
    monkeypatch.setitem(divergence._WAITING_BYTES, "cpu", 1)
    for mask, before in zip(MASKS, whole, strict=True):
        (found,) = measure_divergence(llama, llama_corpus, [mask], Store(None), "calibration")
        np.testing.assert_allclose(found.kl, before.kl, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.top1_matches, before.top1_matches)
    (part,) = measure_divergence(llama, llama_corpus, MASKS[:1], Store(None), "calibration", rows=slice(1, 3))
    np.testing.assert_allclose(part.kl, whole[0].kl[1:3], rtol=1e-5)


def test_what_is_stored_is_not_computed_again(llama: LoadedModel, llama_corpus: Corpus, tmp_path) -> None:
    store = Store(tmp_path)
    first = measure_divergence(llama, llama_corpus, MASKS, store)
    handle = llama.model.get_input_embeddings().register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        again = measure_divergence(llama, llama_corpus, MASKS[::-1], store)[::-1]
    finally:
        handle.remove()
        store.close()
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before.kl, after.kl)
        np.testing.assert_array_equal(before.logit_l2, after.logit_l2)


def test_cancelled_work_keeps_what_it_has(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    def cancel(done: int, total: int, what: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_divergence(llama, llama_corpus, MASKS, store, progress=cancel)
    context = llama.numerics_key(llama.batch_shape.rows(llama_corpus.window))
    found = store.divergences_of(context, llama_corpus.held_out.digests, map(str, MASKS))
    stored = [found[str(mask)] for mask in MASKS]
    assert {len(each) for each in stored} == {
        llama.batch_shape.rows(llama_corpus.window)
    }  # a batch, in one transaction
    with pytest.raises(MaskError):
        measure_divergence(llama, llama_corpus, [Mask.parse("9")], store)


def test_properties_are_means_over_tokens() -> None:
    found = Divergence(NONE, np.array([2.0, 4.0]), np.array([10.0, 30.0]), np.array([5.0, 10.0]), 10)
    assert (found.kl_per_token, found.logit_l2_per_token, found.top1_agreement) == (0.3, 2.0, 0.75)
    low, high = found.kl_ci95 or (0, 0)
    assert low + high == pytest.approx(0.6)
    assert high - low == pytest.approx(2 * 12.706 * 0.1, rel=1e-3)


def test_layers_are_counted_by_window(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", llama_corpus.window)  # then no batch is filled up
    with llama.wrappers.counting() as count:
        perplexity.score(llama, llama_corpus, [Mask.parse("2"), Mask.parse("a3")], store)
    assert count.evaluations == 5 * (4 + 1 + 1)  # none; without layer 2: layer 3 again; a3: layer 3 again


def test_nats_come_along_and_are_those_of_score(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    measure_divergence(llama, llama_corpus, MASKS, store)
    with llama.wrappers.counting() as count:
        found = perplexity.score(llama, llama_corpus, MASKS, store)
    assert count.evaluations == 0
    for mine, own in zip(found, perplexity.score(llama, llama_corpus, MASKS, Store(None)), strict=True):
        np.testing.assert_array_equal(mine.nll, own.nll)


def test_turns_of_the_last_token_come_along_and_are_those_of_their_measure(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    measure_divergence(llama, llama_corpus, MASKS, store, "calibration")
    given = llama, llama_corpus, MASKS
    with llama.wrappers.counting() as count:
        found = measure_last_token_cosine(LossRequest(*given, store))
    assert count.evaluations == 0
    own = measure_last_token_cosine(LossRequest(*given, Store(None)))
    np.testing.assert_array_equal(found, own)


def test_turns_from_another_variant_are_not_taken_for_those_from_the_model(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    measure_divergence(llama, llama_corpus, MASKS, store, "calibration", baseline=Mask.parse("1"))
    found = measure_last_token_cosine(LossRequest(llama, llama_corpus, MASKS, store))
    own = measure_last_token_cosine(LossRequest(llama, llama_corpus, MASKS, Store(None)))
    np.testing.assert_array_equal(found, own)


def test_the_states_it_is_compared_with_are_kept_for_the_next_call(llama: LoadedModel, llama_corpus: Corpus) -> None:
    states, asked = HiddenStateCache(2**24), Mask.parse("a1")
    first = measure_divergence(llama, llama_corpus, [asked], Store(None), state_cache=states)
    with llama.wrappers.counting() as count:
        again = measure_divergence(llama, llama_corpus, [asked], Store(None), state_cache=states)
    with llama.wrappers.counting() as own:
        measure_divergence(llama, llama_corpus, [asked], Store(None))
    assert 0 < count.evaluations == own.evaluations / 2
    np.testing.assert_array_equal(first[0].kl, again[0].kl)
