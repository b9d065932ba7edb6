"""What was measured of the model and text that are loaded, as the store knows it."""

from __future__ import annotations

import math

import streamlit as st

from explorer.evaluation import Measured, Score
from explorer.execution import ModelSummary, ask_points
from explorer.plans import Point, make_measured_point
from ui.compare.variants import Tried
from ui.live import draw_state, get_engine, get_owner, watch
from ui.view import get_view


def look_again() -> None:
    """Have the store be read anew: other pages, and other people, may have measured meanwhile."""
    st.session_state.setdefault("compare_looked", 0)
    st.session_state.compare_looked += 1


def find_points(summary: ModelSummary) -> list[Point] | None:
    """Return what was measured of the model as it is loaded; what was known before while it is read anew.

    Returns None, and draws how far the reading is, where nothing was known before.
    """
    state, view = st.session_state, get_view()
    job = watch(ask_points(get_engine(), get_owner(), view, state.get("compare_looked", 0)))
    source = (view.source.pruned, summary.digest)
    if job.state == "done":
        points = [each for each in job.result if each.score is not None and each.quantize == view.quantize]
        state.compare_points = source, points
    elif state.get("compare_points", (None,))[0] != source:
        draw_state(job)
        return None
    return state.compare_points[1]


def make_own_point(summary: ModelSummary, tried: Tried, score: Score, added: int, quantize: str) -> Point:
    """Return the point of a variant that was measured just now."""
    measured = Measured(quantize, tried.modify, 0, added, score)
    own = 8 * summary.cost_model.total_bytes / max(summary.cost_model.total, 1)
    return make_measured_point(summary.cost_model, summary.window, measured, own)


def is_finite(point: Point) -> bool:
    """Tell whether a point can be drawn."""
    return point.perplexity is not None and math.isfinite(point.perplexity)
