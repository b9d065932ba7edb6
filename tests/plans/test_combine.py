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


def test_bits_are_chosen_beside_depth_and_zeros(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    """Of all choices for each layer: it goes, or has zeros or not, in 32, 8 or 4 bits."""
    corpus, ids = llama_corpus, llama_corpus.calibration.ids
    found = combine(llama, corpus, Budget.parse("bytes=50%"), ModifierSpec.parse(SPEC), store, bits=(8, 4))
    whole = brute_force.window_nll(brute_force.plain(llama.checkpoint.folder), ids).sum()
    total = sum(each.numel() * 4 for each in llama.model.parameters())
    ways = [None, *product((False, True), (32, 8, 4))]
    damages, sizes = np.zeros((4, len(ways))), np.zeros((4, len(ways)))
    for layer, module in enumerate(llama.wrappers.layers):
        matrices = sum(each.numel() for each in module.parameters() if each.ndim == 2)
        rest = sum(each.numel() for each in module.parameters()) - matrices
        for column, way in enumerate(ways):
            zeros, bits = way or (False, 32)
            specs = [SPEC] * zeros + [f"round;bits={bits}"] * (bits < 32)
            off = NONE if way else Mask.of_layers({layer})
            variant = modify(llama, corpus, off, [f"{each};layers={layer}" for each in specs], store)
            nll = brute_force.window_nll(variants.overwritten(llama.checkpoint.folder, variant), ids).sum()
            damages[layer, column] = (nll - whole) / ids[:, 1:].size
            sizes[layer, column] = 0 if way is None else 4 * rest + matrices * bits / 8 / (2 if zeros else 1)
    outside = total - sizes[:, 1].sum()
    chosen = np.array(list(product(range(len(ways)), repeat=4)))
    fits = outside + sizes[range(4), chosen].sum(1) <= 0.5 * total
    best = chosen[fits][damages[range(4), chosen[fits]].sum(1).argmin()]
    assert found.predicted == pytest.approx(damages[range(4), best].sum(), rel=1e-3)
    assert found.bytes == pytest.approx(outside + sizes[range(4), best].sum())
    made = {
        (each.modifier.name, dict(each.modifier.options).get("bits")): set(each.weights)
        for each in found.variant.deltas
    }
    picked = [ways[column] for column in best]
    assert made.get(("magnitude", None), set()) == {layer for layer, way in enumerate(picked) if way and way[0]}
    for bits in (8, 4):
        rounded = {layer for layer, way in enumerate(picked) if way and way[1] == bits}
        assert made.get(("round", str(bits)), set()) == rounded
    assert len(made) > 1
    assert found.variant.mask == Mask.of_layers({layer for layer, way in enumerate(picked) if way is None})


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
