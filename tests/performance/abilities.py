"""Gromov et al.'s other figure on the default model: accuracy against layers removed, by `make findings`.

Without arguments the probes are asked; else the tasks that are named, of a folder: FOLDER TASK...
"""

from __future__ import annotations

import sys
from pathlib import Path

from explorer.benchmarks.evaluate import Asking, evaluate
from explorer.benchmarks.evaluation import Evaluation
from explorer.charts.abilities import draw_abilities, find_metric
from explorer.charts.curves import Shares
from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE
from explorer.model.loading import load, quieten_libraries
from explorer.model.parameter_counts import count_parameters
from explorer.plans.abilities import Abilities
from explorer.plans.curve import Curve
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from tests.performance.engine import CACHE
from tests.performance.findings import DOCS
from tests.support.browser import write_picture

ITEMS = 200
METHODS = ("deepest", "similarity-block", "greedy")
STEPS = (0, 2, 4, 6, 8, 10, 12)  # of 30 layers


def main() -> None:
    """Print a table for each method and write the figure."""
    quieten_libraries()
    folder, *tasks = sys.argv[1:] or ["", "probes"]
    asking = Asking(Path(folder) if folder else None, ITEMS)
    store = Store(CACHE)
    loaded = load(ModelSpec(DEFAULT_MODEL), store, CACHE)
    corpus = loaded.tokenize("python-docs", 2048, 256)
    found = []
    for method in METHODS:
        plan = make_plan(loaded, corpus, PlanSpec(method, "layer", steps=max(STEPS)), store)
        masks = [plan.at(step) for step in STEPS]
        scores = dict(zip(STEPS, score(loaded, corpus, masks, store), strict=True))
        evaluations = evaluate(loaded, corpus, masks[1:], store, tasks, asking)
        found.append(Abilities(Curve(plan, scores, {}), tuple(evaluations)))
        print(f"\n{method}: {masks[-1]}\n\n| layers off | perplexity | {' | '.join(map(_head, evaluations))} |")
        print("|---|---|" + "---|" * len(evaluations))
        for step in STEPS:
            cells = [_spell(each, found[-1].find(each, step)) for each in evaluations]
            print(f"| {step} | {scores[step].perplexity:,.1f} | {' | '.join(cells)} |", flush=True)
    cost_model = count_parameters(loaded.model, loaded.architecture)
    shares = Shares("layers", loaded.n_layers, lambda mask: cost_model.costs(mask, corpus.window))
    write_picture(draw_abilities(found, METHODS, shares), DOCS / "abilities.png")


def _head(evaluation: Evaluation) -> str:
    chance = "" if evaluation.chance is None else f", chance {evaluation.chance:.0%}"
    return f"{evaluation.task}{chance}"


def _spell(evaluation: Evaluation, number: int) -> str:
    """The metric that the figure shows, with a star if it is seen to differ from the unpruned model's."""
    metric = find_metric(evaluation)
    value = evaluation.measure(metric, number).value
    if evaluation.answers[number].variant == NONE:
        return f"{value:.0%}"
    return f"{value:.0%}" + ("*" if evaluation.compare(metric, number).seen else "")


if __name__ == "__main__":
    main()
