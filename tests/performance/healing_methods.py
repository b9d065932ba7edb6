"""What trains, at equal minutes: lost nats won back on the text's own kind and on others, by `make findings`.

Run it on a quiet machine: how many steps a minute holds is timed at the beginning, a few steps of each method; what is
learnt in them does not depend on what else runs. Texts may be named: the one trained on, then others to judge by.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from math import exp, log
from time import perf_counter

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.variant import Variant
from explorer.evaluation.perplexity import score
from explorer.healing.pace import measure_pace
from explorer.healing.recipe import CHECKPOINTS
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.performance.engine import CACHE

MASK = Mask.parse("12-17")
WINDOW, HELD_OUT, FITTED, TRAINED = 256, 8192, 32768, 393216
MINUTES = (2, 5, 10)
#: Ids that the model writes in the ten minutes, and for the timing.
OWN, OWN_TIMED = 65536, 8192


@dataclass(frozen=True)
class Method:
    """What trains, over what was fitted before, on the text or on windows that the model writes."""

    spec: str
    below: tuple[str, ...] = ()
    own: bool = False

    def spell(self, steps: int, until: int) -> str:
        """Its spec for a training of so many steps, as far as one of them."""
        return f"{self.spec};steps={steps};check={steps // CHECKPOINTS};until={until}"

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


def _count_steps(loaded: LoadedModel, text: str, method: Method, below: float) -> int:
    """Return the steps of the longest training, which is begun after so many seconds: a multiple of its checks."""
    corpus = loaded.tokenize(text, HELD_OUT, WINDOW, calibration_tokens=OWN_TIMED if method.own else TRAINED)
    pace = measure_pace(loaded, corpus, MASK, ModifierSpec.parse(method.spec))
    setup = pace.setup * (OWN / OWN_TIMED if method.own else 1)
    return replace(pace, setup=setup + below).count_steps(60 * max(MINUTES)) // CHECKPOINTS * CHECKPOINTS


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
            healed = modify(loaded, own if method.own else corpus, variant, [method.spell(count, until)], store)
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
