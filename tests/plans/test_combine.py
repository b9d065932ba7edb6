"""Layers off and layers with zeros within bytes: the cheapest by single damages, against trying all by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import PlanError
from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.plans.budgets import Budget
from explorer.plans.combine import combine
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants

SPEC = "magnitude;pattern=2:4"


def test_no_other_choice_costs_less_by_single_damages(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    corpus, ids = llama_corpus, llama_corpus.calibration.ids
    tokens = ids[:, 1:].size
    found = combine(llama, corpus, Budget.parse("bytes=45%"), ModifierSpec.parse(SPEC), store)
    whole = brute_force.window_nll(brute_force.plain(llama.checkpoint.folder), ids).sum()
    total = sum(each.numel() * 4 for each in llama.model.parameters())
    damages, sizes = np.zeros((4, 3)), np.zeros((4, 3))
    for layer, module in enumerate(llama.wrappers.layers):
        zeroed = modify(llama, corpus, NONE, [f"{SPEC};layers={layer}"], store)
        for way, variant in ((1, modify(llama, corpus, Mask.of_layers({layer}), [], store)), (2, zeroed)):
            model = variants.overwritten(llama.checkpoint.folder, variant)
            damages[layer, way] = (brute_force.window_nll(model, ids).sum() - whole) / tokens
        matrices = sum(each.numel() * 4 for each in module.parameters() if each.ndim == 2)
        size = sum(each.numel() * 4 for each in module.parameters())
        sizes[layer] = size, 0, size - matrices / 2
    rest = total - sizes[:, 0].sum()
    places = np.arange(4)
    fitting = [ways for ways in product(range(3), repeat=4) if rest + sizes[places, ways].sum() <= 0.55 * total]
    best = min(fitting, key=lambda ways: damages[places, ways].sum())
    assert found.variant.mask == Mask.of_layers({layer for layer in range(4) if best[layer] == 1})
    changed = {layer for delta in found.variant.deltas for layer in delta.weights}
    assert changed == {layer for layer in range(4) if best[layer] == 2}
    assert found.bytes == pytest.approx(rest + sizes[places, best].sum())
    assert found.predicted == pytest.approx(damages[places, best].sum(), rel=1e-3)
    (measured,) = score(llama, corpus, [found.variant], store, "calibration")
    assert found.measured == measured.delta_nll_per_token


@pytest.mark.parametrize(
    ("budget", "spec", "words"),
    [
        ("layers=2", SPEC, "within bytes"),
        ("bytes=20%", "refit", "puts zeros"),
        ("bytes=20%", f"{SPEC};layers=1", "puts zeros"),
        ("bytes=1KiB", SPEC, "do not fit"),
    ],
)
def test_what_cannot_be_is_refused(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, budget: str, spec: str, words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        combine(llama, llama_corpus, Budget.parse(budget), ModifierSpec.parse(spec), store)
