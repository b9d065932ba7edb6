"""[Point] -> the lines of the table that compares them, in words and as numbers. Imports no Streamlit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from explorer.charts import COSTS
from explorer.evaluation import Score
from explorer.plans import Point
from ui.compare.tables import Line
from ui.parts import describe_bytes, describe_flops, describe_perplexity, describe_score

#: By name in `COSTS`: what a line is called, and how its numbers are written.
_COST_LINES: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("Parameters", lambda count: f"{count:,.0f}"),
    "bytes": ("Weights", describe_bytes),
    "kv_bytes": ("KV cache per token", describe_bytes),
    "flops": ("FLOPs per token", describe_flops),
}


def list_lines(points: Sequence[Point | None], states: Sequence[str]) -> list[Line]:
    """List the lines of a table; the first point is the unpruned model.

    Args:
        points: what was measured; None where nothing was.
        states: what to say there in the place of a perplexity.
    """
    scores = [point.score if point is not None else None for point in points]
    costs = [point.costs if point is not None else None for point in points]
    said = [state if score is None else describe_score(score) for score, state in zip(scores, states, strict=True)]
    values = [None if score is None or score.overflow else score.perplexity for score in scores]
    lines = [
        Line("Perplexity", tuple(said), tuple(values), True),
        Line("95% interval", tuple(map(_describe_interval, scores))),
        Line(
            "Nats a token more", ("–", *map(_describe_difference, scores[1:])),
            (None, *(None if score is None else score.delta_nll_per_token for score in scores[1:])), True,
        ),
    ]  # fmt: skip
    for name, (label, describe) in _COST_LINES.items():
        counts = [None if each is None else float(COSTS[name][1](each)) for each in costs]
        cells = tuple("" if count is None else describe(count) for count in counts)
        lines.append(Line(label, cells, tuple(counts), True))
    whole = costs[0]
    shares = [None if each is None or whole is None else each.parameters / whole.parameters for each in costs]
    lines.append(
        Line("Parameters left", tuple("" if each is None else f"{each:.1%}" for each in shares), tuple(shares))
    )
    return lines


def _describe_interval(score: Score | None) -> str:
    interval = None if score is None else score.perplexity_ci95
    if interval is None:
        return "" if score is None else "–"
    return f"{describe_perplexity(interval[0])} to {describe_perplexity(interval[1])}"


def _describe_difference(score: Score | None) -> str:
    if score is None:
        return ""
    if not math.isfinite(score.delta_nll_per_token):
        return "–"
    interval = score.delta_ci95
    ends = f" [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else ""
    return f"{score.delta_nll_per_token:+.4f}{ends}"
