"""How often the store is asked and written, and windows digested."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from explorer.benchmarks.likelihoods import find_likelihoods
from explorer.benchmarks.request import Request
from explorer.evaluation.divergence import measure_divergence
from explorer.evaluation.perplexity import score
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus


def test_what_a_list_of_masks_costs_in_the_store(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    """One SELECT for all masks, one transaction for all that is known at once."""
    masks, said = [Mask.parse(text) for text in ("0", "1", "a2", "m3", "1-2")], list[str]()

    def count(word: str, work: Callable[[], object]) -> int:
        said.clear()
        store._db.set_trace_callback(said.append)
        work()
        store._db.set_trace_callback(None)
        return sum(statement.startswith(word) for statement in said)

    batches = 2
    assert count("SELECT", lambda: score(llama, llama_corpus, masks, store)) == 1
    assert count("BEGIN", lambda: score(llama, llama_corpus, masks, store, "calibration")) == 6 * batches
    assert count("SELECT", lambda: measure_divergence(llama, llama_corpus, masks, store)) == 1
    assert count("BEGIN", lambda: measure_divergence(llama, llama_corpus, masks, store, "calibration")) == batches
    assert count("", lambda: measure_divergence(llama, llama_corpus, masks, store, "calibration")) == 1
    items = [(Request((1, 2), (token,)), Request((1, 2), (token, 3))) for token in range(4, 10)]
    assert count("BEGIN", lambda: find_likelihoods(llama, items, masks, store)) == 1
    assert count("SELECT", lambda: find_likelihoods(llama, items, masks, store)) == 1


def test_digests_of_windows_are_worked_out_once(llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = llama_corpus.held_out
    expected = windows.digests
    monkeypatch.setattr("explorer.text.windows.hashlib.sha256", None)
    assert windows[1:3].digests == expected[1:3]
    assert windows[[4, 0]][1:].digests == (expected[0],)
