"""What recovery takes: all modifiers together, one on a click, and moving the slider with it on."""

from __future__ import annotations

import time
from collections.abc import Iterator

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.perplexity import LiveScoring, score
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import load, quieten_libraries
from explorer.modifiers.catalogue import MODIFIERS
from explorer.modifiers.delta_maker import DeltaMaker
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.performance.engine import CACHE, Row

MASK = Mask.parse("12-17")


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    quieten_libraries()
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    corpus = loaded.tokenize("python-docs", 2048, 256, calibration_tokens=8192)
    rows = loaded.batch_shape.rows(corpus.window)
    maker = DeltaMaker(loaded, corpus, Store(None), lambda done, total, what: None, rows)
    names = [name for name, modifier in MODIFIERS.items() if modifier.recovers]
    for name in names:
        maker.make(modify(loaded, corpus, MASK, [], Store(None)), [ModifierSpec.parse(name)])
    passes = f"{maker.forwards:.2f}"
    yield (
        f"the {len(names)} that make up for it in closed form, layers 12-17 off: passes of the tokens, beside solves",
        passes,
        "3",
    )
    start = time.perf_counter()
    variant = modify(loaded, corpus, MASK, [ModifierSpec.parse("refit")], Store(None))
    live = LiveScoring(HiddenStateCache(2**30), lambda estimates: None)
    score(loaded, corpus, [MASK, variant], Store(None), live=live)
    yield "`refit` fitted to 8,192 tokens and scored on 2,048", f"{time.perf_counter() - start:.1f} s", "15 s"
    live = LiveScoring(HiddenStateCache(2**30), lambda estimates: None)
    store = Store(None)
    score(loaded, corpus, [NONE], store, live=live)
    with loaded.wrappers.counting() as count:
        score(loaded, corpus, [variant], store, live=live)
    share = count.evaluations / (loaded.n_layers * len(corpus.held_out))
    kept = (loaded.n_layers - len(MASK.whole_layers) - min(variant.deltas[0].layers)) / loaded.n_layers
    yield "the variant after the whole model was scored: layers run / all", f"{share:.2f}", f"{kept:.2f}"
