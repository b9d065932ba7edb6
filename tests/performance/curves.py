"""What a score costs against depth, tokens and number of masks: a figure for docs/performance.md."""

from __future__ import annotations

from pathlib import Path

import torch
from plotly.subplots import make_subplots

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.evaluation.perplexity import score, score_batch
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.storage.store import Store
from tests.performance.engine import CACHE, seconds
from tests.support.browser import write_picture

Curve = list[tuple[int, float]]

FIGURE = Path(__file__).parent.parent.parent / "docs" / "cost.png"


@torch.inference_mode()
def draw() -> None:
    """Measure the three curves and write the figure."""
    quieten_libraries()
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    curves = {"layers kept": _by_depth(loaded), "tokens": _by_tokens(loaded), "masks": _by_masks(loaded)}
    figure = make_subplots(1, 3)
    for column, (name, curve) in enumerate(curves.items(), 1):
        x, y = zip(*curve, strict=True)
        figure.add_scatter(x=x, y=y, mode="lines+markers", line_color="#0072B2", row=1, col=column)
        figure.add_scatter(x=(0, x[-1]), y=(0, y[-1]), line={"color": "#999999", "dash": "dot"}, row=1, col=column)
        figure.update_xaxes(title=name, rangemode="tozero", row=1, col=column)
        figure.update_yaxes(title="seconds" if column == 1 else None, rangemode="tozero", row=1, col=column)
        print(f"{name}: " + ", ".join(f"{count} {time:.2f} s" for count, time in curve))
    write_picture(figure.update_layout(showlegend=False, height=320, margin={"t": 20, "b": 50}), FIGURE)


def _time(loaded: LoadedModel, masks: list[Mask], tokens: int, repeats: int = 3) -> float:
    corpus = loaded.tokenize("python-docs", tokens, 256)
    return seconds(lambda: score(loaded, corpus, masks, Store(None)), repeats)


def _by_depth(loaded: LoadedModel) -> Curve:
    """Only the masked model is timed: what the whole one costs on the same windows is known before."""
    ids = torch.from_numpy(loaded.tokenize("python-docs", 2048, 256).held_out.ids)
    curve = []
    for kept in (1, 10, 20, 30):
        mask = Mask.parse(f"{kept}-29") if kept < 30 else NONE

        curve.append((kept, seconds(lambda mask=mask: list(score_batch(loaded.wrappers, ids, [mask])), 3)))
    return curve


def _by_tokens(loaded: LoadedModel) -> Curve:
    return [(tokens, _time(loaded, [NONE], tokens, 1)) for tokens in (1024, 2048, 4096, 8192, 16384)]


def _by_masks(loaded: LoadedModel) -> Curve:
    """Single sites, spread over the layers; the whole model's own score is one of them."""
    found = []
    for count in (1, 5, 15, 30, 60):
        masks = [Mask(frozenset({site})) for site in loaded.sites[:: 60 // count][:count]]
        found.append((count, _time(loaded, masks, 1024, 1)))
    return found
