"""Gromov et al.'s figure on the default model: perplexity against what is removed, healed and not, by `make findings`.

Their two strategies: the deepest layers but the last, and the block over which the stream turns least.
"""

from __future__ import annotations

import sys
from math import log10

import plotly.graph_objects as go

from explorer.charts.style import lay_out, mark
from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.modifiers.modify import modify
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.performance.engine import CACHE
from tests.performance.findings import DOCS
from tests.support.browser import write_picture

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
STRATEGIES = {"simple": "deepest/layer", "similarity-informed": "similarity-block/layer"}
HEALING = "lora;preset=gromov;steps=200;warmup=20"
TOKENS, TRAINED = 8192, 262144


def main() -> None:
    """Print the table and write the figure; the text may be named, and what heals."""
    quieten_libraries()
    text, healing = [*sys.argv[1:], *("python-docs", HEALING)[len(sys.argv) - 1 :]]
    store = Store(CACHE)
    loaded = load(ModelSpec(DEFAULT_MODEL), store, CACHE)
    corpus = loaded.tokenize(text, TOKENS, 256, calibration_tokens=TRAINED)
    print(f"| layers removed | {' | '.join(f'{name}: pruned, healed' for name in STRATEGIES)} |")
    print("|---|" + "---|" * len(STRATEGIES))
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in STRATEGIES}
    for fraction in FRACTIONS:
        for name, plan in STRATEGIES.items():
            rows[name].append(_heal(loaded, corpus, store, plan, fraction, healing))
        cells = (f"{found[-1][1]:,.1f}, {found[-1][2]:,.1f}" for found in rows.values())
        print(f"| {rows['simple'][-1][0]:.0%} | {' | '.join(cells)} |", flush=True)
    (whole,) = score(loaded, corpus, [NONE], store)
    _draw(rows, whole.perplexity)


def _heal(
    loaded: LoadedModel, corpus: Corpus, store: Store, plan: str, fraction: float, healing: str
) -> tuple[float, float, float]:
    """Return the share of layers that is removed, and the perplexity without them before and after healing."""
    steps = round(fraction * loaded.n_layers)
    mask = make_plan(loaded, corpus, PlanSpec.parse(f"{plan};steps={steps}"), store).at(steps)
    healed = modify(loaded, corpus, mask, [healing], store)
    pruned, found = score(loaded, corpus, [mask, healed], store)
    return len(mask.whole_layers) / loaded.n_layers, pruned.perplexity, found.perplexity


def _draw(rows: dict[str, list[tuple[float, float, float]]], whole: float) -> None:
    figure = go.Figure()
    for number, (name, found) in enumerate(rows.items()):
        shares, pruned, healed = ([entry[place] for entry in found] for place in range(3))
        style = mark(number)
        figure.add_scatter(x=shares, y=pruned, name=name, mode="lines+markers", opacity=0.5, **style)
        figure.add_scatter(x=shares, y=healed, name=f"{name}, healed", mode="lines+markers", **style)
    figure.add_hline(whole, line_dash="dot")
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": log10(whole), "yanchor": "bottom"}  # of a log axis
    figure.add_annotation(text="whole", showarrow=False, **place)
    figure.update_xaxes(title_text="Share of layers removed", tickformat=".0%")
    figure.update_yaxes(title_text="Held-out perplexity", type="log")
    write_picture(lay_out(figure, 560), DOCS / "healing.png")


if __name__ == "__main__":
    main()
