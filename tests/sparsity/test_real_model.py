"""Zeros in the default model where the authors' algorithms, transcribed, put them."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.masks.mask import NONE
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.pruning import LINEARS, oracle_wanda, zeros_of


@pytest.mark.parametrize("real", ["float32"], indirect=True)
@pytest.mark.parametrize("spec", ["sparsity=50%", "pattern=2:4", "pattern=4:8"])
def test_wanda_puts_zeros_where_its_authors_do(real: LoadedModel, spec: str) -> None:
    corpus = real.tokenize("python-docs", 128, 64, calibration_tokens=256)
    variant = modify(real, corpus, NONE, [f"wanda;{spec}"], Store(None))
    made = {
        f"{layer}.{name}": real.wrappers.weight(layer, f"{name}.weight", variant.deltas).numpy()
        for layer in range(real.n_layers)
        for name in LINEARS
    }
    expected = oracle_wanda(brute_force.plain(real.checkpoint.folder), corpus.calibration.ids, spec, before=made)
    same = [zeros_of(made[key]) == zeros for key, zeros in expected.items()]
    assert np.mean(np.concatenate([each.ravel() for each in same])) >= 0.999
