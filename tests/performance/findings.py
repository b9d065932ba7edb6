"""Every method on the default model: the tables and figures of docs/findings.md, by `make findings`. Takes minutes.

With `EXECUTOR=ray` workers run the masks; see docs/cluster.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from explorer.charts.curves import Shares, draw_curves
from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.execution.executors import spreading
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.model.parameter_counts import count_parameters
from explorer.plans.catalogue import METHODS
from explorer.plans.curve import Curve, trace_curve
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.performance.engine import CACHE
from tests.support.browser import write_picture

DOCS = Path(__file__).parent.parent.parent / "docs"
SHARES = (0.1, 0.2, 0.3)
TOKENS = 1024
STEPS = {"layer": 9, "site": 18}  # 30%
VARIANTS = {
    "layer": (
        "block-influence/layer;iterative=yes",
        "leave-one-out/layer;iterative=yes",
        "leave-one-out/layer;protect=first,last",
        "taylor/layer;protect=first,last",
    ),
    "site": (
        "attention-drop/attention",
        "mlp-drop/mlp",
        "joint-drop/site;iterative=yes",
        "leave-one-out/site;iterative=yes",
    ),
}


def main() -> None:
    """Print the tables, write the figures."""
    quieten_libraries()
    store = Store(CACHE)
    loaded = load(ModelSpec(DEFAULT_MODEL), store, CACHE)
    corpus = loaded.tokenize("python-docs", TOKENS, 128)
    with spreading(loaded, os.environ.get("EXECUTOR", "local"), CACHE):
        _find_all(loaded, corpus, store)


def _find_all(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    for unit in sys.argv[1:] or STEPS:
        steps = STEPS[unit]
        specs = [
            PlanSpec(name, unit, steps=steps, width=2 if name == "beam" else 4)
            for name, method in METHODS.items()
            if unit in method.units
        ]
        specs += [PlanSpec.parse(f"{text};steps={steps}") for text in VARIANTS[unit]]
        specs += [PlanSpec("random", unit, seed=seed, steps=steps) for seed in range(1, 5)]
        _print_row("plan", [f"{share:.0%}: perplexity, KL, top-1" for share in SHARES], "layer evaluations")
        _print_row("---", ["---"] * len(SHARES), "---")
        curves = [_trace(loaded, corpus, store, spec) for spec in specs]
        _draw(loaded, corpus, curves, DOCS / f"curves-{unit}.png")


def _trace(loaded: LoadedModel, corpus: Corpus, store: Store, spec: PlanSpec) -> Curve:
    """Trace a plan and print its row. What one plan has scored the next need not score again."""
    plan = make_plan(loaded, corpus, spec, store)
    curve = trace_curve(loaded, corpus, plan, store, divergence=True)
    cells = []
    for step in map(plan.nearest, SHARES):
        if step is None:
            cells.append("–")
            continue
        found, divergence = curve.scores[step], curve.divergences[step]
        cells.append(f"{found.perplexity:,.1f}, {divergence.kl_per_token:.2f}, {divergence.top1_agreement:.0%}")
    _print_row(_name(spec), cells, f"{plan.effort.layer_evaluations:,}")
    return curve


def _name(spec: PlanSpec) -> str:
    return ";".join(part for part in str(spec).split(";") if not part.startswith(("steps=", "width=")))


def _print_row(name: str, cells: list[str], last: str) -> None:
    print("| " + " | ".join([name, *cells, last]) + " |", flush=True)


def _draw(loaded: LoadedModel, corpus: Corpus, curves: list[Curve], path: Path) -> None:
    cost_model = count_parameters(loaded.model, loaded.architecture)
    shares = Shares("layers", loaded.n_layers, lambda mask: cost_model.costs(mask, corpus.window))
    shown = [curve for curve in curves if curve.plan.spec.seed == 0]
    figure = draw_curves(shown, [_name(curve.plan.spec) for curve in shown], shares, most=300)
    write_picture(figure.update_layout(height=560), path)


if __name__ == "__main__":
    main()
