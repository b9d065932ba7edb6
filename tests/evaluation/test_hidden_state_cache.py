"""Live scoring: kept prefixes change no number and save layers; estimates become the score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from explorer.errors import Cancelled
from explorer.evaluation import perplexity
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.perplexity import LiveScoring, score
from explorer.evaluation.scores import Estimate
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.model.wrappers import ModelWrappers
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import WINDOW

WALK = ["none", "2", "2,a1", "2,m3", "none", "a0", "0-3", "2"]


def ignore(estimates: list[Estimate]) -> None:
    pass


def test_kept_prefixes_change_no_number(loaded: LoadedModel, corpus: Corpus) -> None:
    state_cache = HiddenStateCache(2**20)
    for text in WALK:
        mask = Mask.parse(text)
        (live,) = score(loaded, corpus, [mask], Store(None), live=LiveScoring(state_cache, ignore))
        (apart,) = score(loaded, corpus, [mask], Store(None), live=LiveScoring(HiddenStateCache(0), ignore))
        np.testing.assert_array_equal(live.nll, apart.nll)


def test_a_toggle_runs_only_the_layers_from_it_on(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", 8 * WINDOW)
    run: list[int] = []
    plain = ModelWrappers.run_layer
    monkeypatch.setattr(
        ModelWrappers, "run_layer", lambda wrappers, layer, *rest: run.append(layer) or plain(wrappers, layer, *rest)
    )
    store, live = Store(None), LiveScoring(HiddenStateCache(2**20), ignore)
    score(llama, llama_corpus, [NONE], store, live=live)
    assert run == [0, 1, 2, 3]
    run.clear()
    score(llama, llama_corpus, [Mask.parse("a2")], store, live=live)
    assert run == [2, 3]
    run.clear()
    score(llama, llama_corpus, [Mask.parse("a2,m3")], store, live=live)
    assert run == [3]


def test_estimates_come_batch_by_batch_and_end_in_the_score(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", WINDOW)
    store, mask = Store(None), Mask.parse("1,m2")
    (baseline,) = score(llama, llama_corpus, [NONE], store)
    seen: list[Estimate] = []
    live = LiveScoring(HiddenStateCache(0), lambda estimates: seen.extend(estimates))
    (final,) = score(llama, llama_corpus, [mask], store, live=live)
    assert [len(estimate.score.nll) for estimate in seen] == [1, 2, 3, 4]
    assert seen[0].perplexity_ci95 is None
    for count, estimate in enumerate(seen, 1):
        delta = (final.nll[:count] - baseline.nll[:count]).sum() / count / (WINDOW - 1)
        assert estimate.perplexity == pytest.approx(baseline.perplexity * math.exp(delta), rel=1e-12)
        assert estimate.n_windows == 5
    low, high = seen[-1].perplexity_ci95 or (math.nan, math.nan)
    assert low < seen[-1].perplexity < high


def test_an_estimate_of_nothing_removed_has_no_interval(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", WINDOW)
    seen: list[Estimate] = []
    score(
        llama,
        llama_corpus,
        [NONE],
        Store(None),
        live=LiveScoring(HiddenStateCache(0), lambda estimates: seen.extend(estimates)),
    )
    assert [estimate.perplexity_ci95 for estimate in seen] == [None] * 4


def test_a_listener_can_stop_the_work_and_what_was_scored_stays(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(estimates: list[Estimate]) -> None:
        raise Cancelled

    monkeypatch.setattr(llama.batch_shape, "tokens", 2 * WINDOW)
    store, mask = Store(None), Mask.parse("1")
    with pytest.raises(Cancelled):
        score(llama, llama_corpus, [mask], store, live=LiveScoring(HiddenStateCache(0), stop))
    assert len(store.nll(llama.numerics_key(llama.batch_shape.rows(WINDOW)), llama_corpus.held_out.digests, "1")) == 2
    windows: list[int] = []
    plain = perplexity.score_batch
    monkeypatch.setattr(
        perplexity,
        "score_batch",
        lambda wrappers, ids, *rest: windows.append(len(ids.unique(dim=0))) or plain(wrappers, ids, *rest),
    )
    score(llama, llama_corpus, [mask], store)
    assert sum(windows) == 3


def test_the_budget_holds_and_the_least_recently_used_goes_first() -> None:
    state = torch.zeros(1, 1, 10)  # 40 bytes
    state_cache = HiddenStateCache(100)
    state_cache.keep("windows", 1, NONE, state)
    state_cache.keep("windows", 2, NONE, state)
    assert state_cache.deepest("windows", Mask.parse("1"), 4) == (1, state)
    state_cache.keep("windows", 3, NONE, state)
    assert state_cache.size == 80
    assert state_cache.deepest("windows", Mask.parse("1"), 4) is not None
    assert state_cache.deepest("windows", Mask.parse("2"), 2) == (1, state)
    assert state_cache.deepest("others", NONE, 4) is None
    state_cache.keep("windows", 4, NONE, torch.zeros(1, 1, 100))
    assert state_cache.size == 80
