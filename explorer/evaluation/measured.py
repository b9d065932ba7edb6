"""LoadedModel, Corpus, Store -> what has been measured of this model on these windows, with what decides its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.deltas import ModifierSpec, Variant, read_modifiers, write_modifiers
from explorer.evaluation.scores import Score
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel, count_added, is_packed
from explorer.storage import Store
from explorer.text import Corpus, Split


@dataclass(frozen=True)
class Measured:
    """A variant that has been scored on every window of a split.

    Args:
        quantize: how the model's weights were quantized.
        modifiers: what made its deltas.
        zeros: entries of the matrices that deltas change that are zero.
        added: numbers in what stands in, and in a head that was the embedding.
        score: names the mask alone.
    """

    quantize: str
    modifiers: tuple[ModifierSpec, ...]
    zeros: int
    added: int
    score: Score


def note_variant(loaded: LoadedModel, variant: Variant, store: Store) -> None:
    """Note in the store, once, what a variant is: a key of digests does not tell."""
    if store.knows_variant(variant.key):
        return
    wrappers = loaded.wrappers
    named = {(layer, name) for delta in variant.deltas for layer, named in delta.weights.items() for name in named}
    changed = [place for place in sorted(named) if not is_packed(wrappers.module(place[0]).get_parameter(place[1]))]
    zeros = sum(int((wrappers.weight(*place, variant.deltas) == 0).sum()) for place in changed)
    modifiers = write_modifiers(delta.modifier for delta in variant.deltas)
    store.note_variant(variant.key, modifiers, zeros, count_added(loaded, variant.deltas))


def list_measured(
    loaded: LoadedModel, corpus: Corpus, quantizations: Sequence[str], store: Store, split: Split = "held-out"
) -> list[Measured]:
    """List what the store has scores of on every window; nothing is computed.

    Left out are variants whose deltas were not noted, and numbers with an overflow.

    Args:
        loaded: the model.
        corpus: the text.
        quantizations: in which the model was loaded then.
        store: where nats are kept.
        split: which windows.
    """
    rows = loaded.batch_shape.rows(corpus.window)
    found = (
        _read(store, loaded.numerics_key(rows, quantize), quantize, corpus, split, noted)
        for quantize in quantizations
        for noted in store.list_scored(loaded.numerics_key(rows, quantize), corpus.split(split).digests[0])
    )
    return [each for each in found if each is not None]


def _read(
    store: Store,
    context: str,
    quantize: str,
    corpus: Corpus,
    split: Split,
    noted: tuple[str, str | None, int | None, int | None],
) -> Measured | None:
    """Read one variant's score; None where it is not whole, not finite, or nobody knows what it is."""
    key, modifiers, zeros, added = noted
    mask, *digests = key.split("+")
    windows = corpus.split(split)
    nll, baseline = (store.nll(context, windows.digests, each) for each in (key, str(NONE)))
    own, whole = (np.array([each.get(digest, np.inf) for digest in windows.digests]) for each in (nll, baseline))
    if not np.isfinite([own, whole]).all() or (digests and modifiers is None):
        return None
    score = Score(Mask.parse(mask), own, whole, windows.ids.shape[1] - 1, windows.text_bytes)
    return Measured(quantize, read_modifiers(modifiers or ""), zeros or 0, added or 0, score)
