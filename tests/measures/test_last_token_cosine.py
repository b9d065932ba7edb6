"""The last token's turn: equal to plain transformers with weights zeroed; greedy by it is greedy by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from explorer.errors import Cancelled
from explorer.evaluation.last_token_turn import find_turn
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.catalogue import CRITERIA
from explorer.model.loading import LoadedModel
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force

NAME = "last-token-cosine"


def last_states(loaded: LoadedModel, ids: np.ndarray, mask: Mask) -> np.ndarray:
    """The last token's state after the final norm, window by window, (windows, width)."""
    plain = brute_force.zeroed(loaded.checkpoint.folder, mask).base_model
    with torch.no_grad():
        rows = [plain(torch.from_numpy(row[None]), use_cache=False).last_hidden_state[0, -1] for row in ids]
    return torch.stack(rows).double().numpy()


def turns(loaded: LoadedModel, ids: np.ndarray, mask: Mask) -> np.ndarray:
    pairs = zip(last_states(loaded, ids, NONE), last_states(loaded, ids, mask), strict=True)
    return np.array([1 - a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in pairs])


def test_losses_equal_the_oracle(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    masks = [Mask.parse("1"), NONE, Mask.parse("a1,m2"), Mask.parse("1")]
    found = make_loss_function(loaded, corpus, store, NAME)(masks, slice(1, 4))
    assert found.shape == (4, 3)
    for mask, row in zip(masks, found, strict=True):
        np.testing.assert_allclose(row, turns(loaded, corpus.calibration.ids[1:4], mask), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(found[1], 0)
    assert found[0].max() > 0.01


@pytest.mark.parametrize("unit", ["layer", "site"])
def test_greedy_is_greedy_by_hand(llama: LoadedModel, llama_corpus: Corpus, store: Store, unit: str) -> None:
    left, expected = find_units(4, unit), [NONE]
    for _ in range(2):
        costs = {u: turns(llama, llama_corpus.calibration.ids, expected[-1] | u).sum() for u in left}
        left.remove(least := min(left, key=costs.__getitem__))
        expected.append(expected[-1] | least)
    plan = make_plan(
        llama, llama_corpus, PlanSpec.parse(f"greedy/{unit};criterion={NAME};confidence=1.0;steps=2"), store
    )
    assert list(plan.masks) == expected
    assert str(plan.spec) == f"greedy/{unit};criterion={NAME};confidence=1.0;steps=2"


def test_what_is_stored_needs_no_forward_and_is_not_taken_for_nats(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, rows = find_units(4, "layer"), slice(0, 5)
    turned, nats = (make_loss_function(llama, llama_corpus, store, name)(masks, rows) for name in (NAME, "perplexity"))
    assert turned.max() < 2 < nats.min()
    monkeypatch.setattr(llama.wrappers, "layer_inputs", lambda *_: 1 / 0)
    np.testing.assert_array_equal(make_loss_function(llama, llama_corpus, store, NAME)(masks, rows), turned)
    np.testing.assert_array_equal(make_loss_function(llama, llama_corpus, store)(masks, rows), nats)


def test_a_cancelled_search_keeps_what_it_has(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    def cancel(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        make_loss_function(llama, llama_corpus, store, NAME, cancel)([NONE], slice(0, 5))
    assert make_loss_function(llama, llama_corpus, store, NAME)([NONE], slice(0, 5)).tolist() == [[0] * 5]


def test_turns_that_are_known() -> None:
    before = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [1, 0]]).double()
    after = torch.tensor([[2.0, 0], [0, 3], [-1, 0], [math.inf, 0], [1, 1e-9]]).double()
    found = find_turn(before, after).tolist()
    assert found[:4] == pytest.approx([0, 1, 2, math.inf])
    assert found[4] == pytest.approx(5e-19)


def test_it_says_what_it_is() -> None:
    assert CRITERIA[NAME].name == NAME
    assert "1 - cos" in CRITERIA[NAME].unit_of
