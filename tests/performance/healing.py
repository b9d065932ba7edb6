"""What healing takes: a LoRA step against a plain one, the teacher's extra, a local step against a forward, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.variant import Variant
from explorer.healing.watcher import TrainingRecord, watching
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.performance.engine import CACHE, Row, peak_beyond_weights

MASK = Mask.parse("12-17")
BATCH, STEPS = 2, 5  # windows that go through at once; steps, of which the first is not counted


class _Pace:
    """Keeps when each step ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def record(self, record: TrainingRecord) -> None:
        if record.loss is not None:
            self.ended.append(record.seconds)

    def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
        pass


def _time_steps(loaded: LoadedModel, corpus: Corpus, spec: str) -> float:
    """Seconds of the fastest step."""
    pace = _Pace()
    with watching(pace):
        modify(loaded, corpus, MASK, [f"{spec};steps={STEPS};check={STEPS};batch={BATCH}"], Store(None))
    return min(later - before for before, later in zip(pace.ended, pace.ended[1:], strict=False))


def _time(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs, the first not counted."""
    found = []
    for _ in range(STEPS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    quieten_libraries()
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    corpus = loaded.tokenize("python-docs", 2048, 256, calibration_tokens=8192)
    ids = torch.from_numpy(corpus.calibration.ids[:BATCH])
    weights = list(loaded.model.parameters())

    def forward() -> None:
        with torch.no_grad():
            loaded.model(ids, use_cache=False)

    def step() -> None:
        logits = loaded.model(ids, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        for weight in weights:
            weight.grad = None

    forwards = _time(forward)
    try:
        loaded.model.requires_grad_(True)
        plain = _time(step)
    finally:
        loaded.model.requires_grad_(False)
    lora, taught, local = (_time_steps(loaded, corpus, spec) for spec in ("lora", "lora;loss=kl", "distill-local"))
    left = 1 - len(MASK.whole_layers) / loaded.n_layers
    tokens = f"{ids.numel()} tokens, layers {MASK} off"
    yield f"a LoRA step of {tokens}, over a plain forward and backward", f"{lora / plain:.2f}", f"{1.05 * left:.2f}"
    yield "the teacher of `loss=kl` beside, over a forward", f"{(taught - lora) / forwards:.2f}", "1"
    yield "a step of `distill-local`, over a forward", f"{local / forwards:.2f}", "0.10"
    training = f"""from explorer.modifiers.modify import modify
modify(loaded, corpus, Mask.parse("{MASK}"), ["lora;steps=3;check=3"], Store(None))"""
    yield "peak memory of LoRA beyond the weights, libraries included", peak_beyond_weights(training), "1.5 GiB"


if __name__ == "__main__":
    for row in run():
        print("| " + " | ".join(row) + " |", flush=True)
