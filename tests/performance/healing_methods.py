"""What trains, at equal minutes: lost nats won back on the text's own kind and on others, by `make findings`.

Run it on a quiet machine: how many steps a minute holds is timed at the beginning, a few steps of each method; what is
learnt in them does not depend on what else runs. Texts may be named: the one trained on, then others to judge by.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import exp, log
from statistics import median
from time import perf_counter

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.variant import Variant
from explorer.evaluation.perplexity import score
from explorer.healing.watcher import TrainingRecord, Watcher, watching
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.performance.engine import CACHE

MASK = Mask.parse("12-17")
WINDOW, HELD_OUT, FITTED, TRAINED = 256, 8192, 32768, 393216
MINUTES = (2, 5, 10)
CHECKS = 10  # of a training: at MINUTES of the longest there is one
TIMED = 4
#: Ids that the model writes in the ten minutes, and for the timing.
OWN, OWN_TIMED = 65536, 8192


@dataclass(frozen=True)
class Method:
    """What trains, over what was fitted before, on the text or on windows that the model writes."""

    spec: str
    below: tuple[str, ...] = ()
    own: bool = False

    def spell(self, steps: int, check: int, until: int = 0) -> str:
        """Its spec for a training of so many steps."""
        return f"{self.spec};steps={steps};check={check};until={until}"

    def __str__(self) -> str:
        return " + ".join((*self.below, self.spec))


METHODS = (
    Method("lora"),
    Method("lora", ("refit",)),
    Method("lora;loss=kl"),
    Method("lora;loss=kl", ("refit",)),
    Method("train"),
    Method("distill-local"),
    Method("lora;text=self", own=True),
)


class _Times(Watcher):
    """Keeps when each step ended, and when the checkpoint behind them did."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.checked = 0.0

    def record(self, record: TrainingRecord) -> None:
        if record.loss is None:
            self.checked = perf_counter()
        else:
            self.ended.append(perf_counter())


def _count_steps(loaded: LoadedModel, text: str, method: Method, below: float) -> int:
    """Return how many steps the longest training has, which is begun after so many seconds."""
    corpus = loaded.tokenize(text, HELD_OUT, WINDOW, calibration_tokens=OWN_TIMED if method.own else TRAINED)
    times, start = _Times(), perf_counter()
    with watching(times):
        modify(loaded, corpus, MASK, [method.spell(TIMED, TIMED)], Store(None))
    step = median(later - before for before, later in zip(times.ended, times.ended[1:], strict=False))
    setup = (times.ended[0] - start - step) * (OWN / OWN_TIMED if method.own else 1)
    left = 60 * max(MINUTES) - below - setup - CHECKS * (times.checked - times.ended[-1])
    return int(left / step) // CHECKS * CHECKS


def main() -> None:
    """Print the table."""
    quieten_libraries()
    text, *others = sys.argv[1:] or ["python-docs"]
    store = Store(CACHE)
    loaded = load(ModelSpec(DEFAULT_MODEL), store, CACHE)
    corpus, fitted, own = (
        loaded.tokenize(text, HELD_OUT, WINDOW, calibration_tokens=tokens) for tokens in (TRAINED, FITTED, OWN)
    )
    judges = [corpus, *(loaded.tokenize(other, HELD_OUT, WINDOW) for other in others)]
    started = perf_counter()
    modify(loaded, fitted, MASK, ["refit"], Store(None))
    below = perf_counter() - started
    print(f"`refit` to {FITTED:,} tokens: {below:.0f} s")
    steps = {method: _count_steps(loaded, text, method, below if method.below else 0.0) for method in METHODS}
    for method, count in steps.items():
        print(f"`{method}`: {count} steps in {max(MINUTES)} minutes", flush=True)
    whole, pruned = (_judge(loaded, judges, mask, store) for mask in (NONE, MASK))
    print(f"Perplexity whole {_spell(whole)}, pruned {_spell(pruned)}\n")
    print(f"| modifier | after | {' | '.join([text, *others])} |\n|---|---|{'---|' * len(judges)}")
    for method, count in steps.items():
        variant = modify(loaded, fitted, MASK, method.below, store)
        for minutes in MINUTES:
            until = count * minutes // max(MINUTES)
            spec = method.spell(count, count // CHECKS, until)
            healed = modify(loaded, own if method.own else corpus, variant, [spec], store)
            cells = [
                f"{exp(nll):.2f}, {(before - nll) / (before - best):.0%}"
                for nll, before, best in zip(_judge(loaded, judges, healed, store), pruned, whole, strict=True)
            ]
            print(f"| `{method}` | {minutes} min, {until} steps | {' | '.join(cells)} |", flush=True)


def _judge(loaded: LoadedModel, judges: list[Corpus], variant: Mask | Variant, store: Store) -> list[float]:
    """Return nats a token on the held-out windows of each text."""
    return [log(score(loaded, judge, [variant], store)[0].perplexity) for judge in judges]


def _spell(nats: list[float]) -> str:
    return ", ".join(f"{exp(each):.2f}" for each in nats)


if __name__ == "__main__":
    main()
