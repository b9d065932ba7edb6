"""Every family and modifier: a variant's nats are those of a plain model with its weights and hooks."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import ModifyError
from explorer.evaluation.perplexity import score
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.tiny_models import WINDOW

#: Families in which a norm stands behind the projection, or experts write.
WITHOUT_ONE_PROJECTION = {"gemma2", "gemma3_text", "olmo2"}
EXPERTS = {"mixtral", "gpt_oss", "qwen3_moe"}


@pytest.mark.parametrize(
    ("spec", "mask"),
    [
        ("refit", "1,m3"),
        ("refit;where=all", "a2"),
        ("replaceme", "2"),
        ("replaceme;loss=cosine", "2"),
        ("linear", "1,m3"),
        ("linear;rank=3", "a1,2"),
        ("mean", "0,a2,m3"),
        ("scale", "1"),
        ("channels", "1-2"),
    ],
)
def test_a_variant_is_the_plain_model_with_its_deltas(
    loaded: LoadedModel, store: Store, family: str, spec: str, mask: str
) -> None:
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=40 * WINDOW)
    cannot = family in WITHOUT_ONE_PROJECTION | (EXPERTS if spec.startswith("replaceme") else set())
    if spec.startswith(("refit", "replaceme")) and cannot:
        with pytest.raises(ModifyError, match="linear"):
            modify(loaded, corpus, Mask.parse(mask), [ModifierSpec.parse(spec)], store)
        return
    variant = modify(loaded, corpus, Mask.parse(mask), [ModifierSpec.parse(spec)], store)
    (found,) = score(loaded, corpus, [variant], store)
    expected = brute_force.window_nll(brute_force.modified(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    np.testing.assert_allclose(found.nll, expected, rtol=1e-4)
    (plain,) = score(loaded, corpus, [variant.mask], store)
    assert bool(variant.deltas[0].tensors) != np.allclose(found.nll, plain.nll, rtol=1e-6)
