"""The figures of pruned blocks show the numbers of their records, in their places."""

from __future__ import annotations

import math

import numpy as np
import pytest

from explorer.charts.sparsity import draw_errors, draw_scores, draw_zeros
from explorer.sparsity.picture import ZerosPicture
from explorer.sparsity.scores import ScoreCounts
from explorer.sparsity.watcher import LayerErrors


@pytest.mark.parametrize("adapted", [0.1, None])
def test_errors_and_perplexities_stand_at_their_layers(adapted: float | None) -> None:
    errors = [LayerErrors(layer, ("mlp.up_proj",), 0.2 + layer, adapted) for layer in (1, 3)]
    figure = draw_errors(errors, 6, [(3, 30.0)], 20.0)
    lines = {trace.name: (trace.x, trace.y) for trace in figure.data}
    assert lines["zeros alone"] == ((1, 3), (1.2, 3.2))
    assert lines.get("survivors adapted") == (((1, 3), (0.1, 0.1)) if adapted else None)
    assert lines["perplexity so far"] == ((3,), (30.0,))
    assert lines["whole"][1] == (20.0, 20.0)
    assert {trace.name for trace in draw_errors(errors, 6, [], None).data} == set(lines) - {
        "perplexity so far",
        "whole",
    }


def test_cells_and_entries_stand_at_their_places() -> None:
    zeros = np.random.default_rng(0).random((600, 300)) < 0.5
    picture = ZerosPicture(0, "mlp.up_proj", 300, np.packbits(zeros, axis=1), "0.5")
    cells, entries = draw_zeros(picture, 590, 3).data
    assert (cells.y[4], cells.x[7]) == (12, 14)
    assert cells.z[4][7] == pytest.approx(zeros[12:15, 14:16].mean())
    assert (list(entries.y[[0, -1]]), list(entries.x[[0, -1]])) == ([590, 599], [3, 66])
    assert (np.array(entries.z) == zeros[590:, 3:67]).all()


def test_scores_are_bars_with_the_cut() -> None:
    counts = ScoreCounts(np.array([0.0, 1.0, 3.0]), np.array([1, 5]), np.array([4, 2]), 0, 10.0)
    figure = draw_scores(counts)
    bars = {trace.name: (list(trace.x), list(trace.width), list(trace.y)) for trace in figure.data}
    assert bars == {"zeroed": ([0.5, 2.0], [1.0, 2.0], [4, 2]), "kept": ([0.5, 2.0], [1.0, 2.0], [1, 5])}
    assert figure.layout.shapes[0].x0 == math.log10(counts.cut)
