"""Every family: pruned where its linear maps are; the nats are those of a plain model with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.evaluation.perplexity import score
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.sparsity.zeros import count_zeros, list_zeros
from explorer.storage.store import Store
from tests.support import brute_force, variants
from tests.support.tiny_models import WINDOW


@pytest.mark.parametrize("spec", ["wanda", "sparsegpt", "wanda++;rounds=1;samples=2;lr=1e-3"])
def test_a_pruned_variant_is_the_plain_model_with_its_weights(
    loaded: LoadedModel, store: Store, family: str, spec: str
) -> None:
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=6 * WINDOW)
    variant = modify(loaded, corpus, Mask.parse("1,m3"), [f"{spec};pattern=2:4"], store)
    (found,) = score(loaded, corpus, [variant], store)
    expected = brute_force.window_nll(variants.overwritten(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    np.testing.assert_allclose(found.nll, expected, rtol=1e-4)
    counts = count_zeros(list_zeros(loaded, variant))
    assert counts is not None
    assert counts.holding == counts.matrices >= 2 * (loaded.n_layers - 1)
    assert counts.share == 0.5
