"""What was measured of the model and text that are loaded, as the store knows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from explorer.evaluation import Measured, Score
from explorer.execution import ModelSummary, View, ask_points
from explorer.plans import Point, make_measured_point
from ui import session
from ui.compare.variants import Tried
from ui.live import draw_state, get_engine, get_owner, watch
from ui.view import get_view


@dataclass(frozen=True, kw_only=True)
class Points:
    """What was measured, as far as it was read.

    Args:
        looked: how often somebody came to look.
        source: what it was measured of: the view's source, and the model's digest.
        points: what was measured.
    """

    looked: int = 0
    source: tuple[View, str] | None = None
    points: tuple[Point, ...] = ()


def look_again() -> None:
    """Have the store be read anew: other pages, and other people, may have measured meanwhile."""
    session.change(Points, looked=session.read(Points).looked + 1)


def find_points(summary: ModelSummary) -> tuple[Point, ...] | None:
    """Return what was measured of the model as it is loaded; what was known before while it is read anew.

    Returns None, and draws how far the reading is, where nothing was known before.
    """
    known, view = session.read(Points), get_view()
    job = watch(ask_points(get_engine(), get_owner(), view, known.looked))
    source = (view.source.pruned, summary.digest)
    if job.state == "done":
        points = (each for each in job.result if each.score is not None and each.quantize == view.quantize)
        known = session.change(Points, source=source, points=tuple(points))
    elif known.source != source:
        draw_state(job)
        return None
    return known.points


def make_own_point(summary: ModelSummary, tried: Tried, score: Score, added: int, quantize: str) -> Point:
    """Return the point of a variant that was measured just now."""
    measured = Measured(quantize, tried.modify, 0, added, score)
    own = 8 * summary.cost_model.total_bytes / max(summary.cost_model.total, 1)
    return make_measured_point(summary.cost_model, summary.window, measured, own)


def is_finite(point: Point) -> bool:
    """Tell whether a point can be drawn."""
    return point.perplexity is not None and math.isfinite(point.perplexity)
