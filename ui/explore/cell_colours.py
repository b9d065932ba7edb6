"""What colours the triangle and the cells of the strip: bright is redundant, by the measure that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float64

from explorer.charts import TOKEN_LABELS, shade
from explorer.evaluation import Score
from explorer.execution import Job, ask_importance
from explorer.masks import PARTS
from explorer.measures import MEASURES, Importance
from ui.live import get_engine, get_owner, watch
from ui.parts import explain_measure
from ui.view import get_view, linked, one_of

#: What scores of single sites say, on held-out text, where every other measure is taken on calibration text.
_ALONE = "Damage alone, held-out"

#: What colours the cells where blocks are coloured by their angular distance, which is of layers only.
_OF_SITES = "block-influence"

_LABELS = (
    {token: f"Angular distance, {label.lower()}" for token, label in TOKEN_LABELS.items()}
    | {name: measure.label for name, measure in MEASURES.items() if set(measure.units) & set(PARTS)}
    | {_ALONE: _ALONE}
)

_HELP = (
    "Bright is redundant: blocks in the triangle, cells in the strip. Angular distance is of blocks; cells then have "
    "their block influence. By any other measure a block is the sum of its layers. Measured on calibration text when "
    "chosen, but for what says held-out."
)


def choose_measure() -> str:
    """Draw the choice; return the measure's name."""
    chosen = st.session_state.get("measure", "block-influence")
    return st.selectbox(
        "Colour by",
        list(_LABELS),
        format_func=_LABELS.__getitem__,
        **linked("colour", "measure", next(iter(_LABELS)), one_of(_LABELS)),
        width=240,
        help=_HELP + (f"\n\n{explain_measure(chosen)}" if chosen in MEASURES else ""),
    )


def ask_colours(name: str) -> Job | None:
    """Ask for what the choice needs beyond the damages of single sites, if it needs anything."""
    if name == _ALONE:
        get_engine().worker.release(get_owner(), ["colours"])
        return None
    of_sites = _OF_SITES if name in TOKEN_LABELS else name
    return watch(ask_importance(get_engine(), get_owner(), get_view(), of_sites, "colours"))


def describe_measure(name: str, job: Job | None, leave_one_out: Sequence[Score | None]) -> dict[str, Any] | None:
    """Describe a measure as colours and notes of the cells; None where it is not measured yet.

    Args:
        name: as chosen.
        job: what was asked for it.
        leave_one_out: the Scores with one cell's site off, as far as they are known.
    """
    if job is None:
        scores = [score for score in leave_one_out if score is not None]
        if len(scores) < len(leave_one_out):
            return None
        values = np.array([score.delta_nll_per_token for score in scores])
    elif job.state != "done":
        return None
    else:
        values = _join(job.result)
    of_sites = _OF_SITES if name in TOKEN_LABELS else name
    redundant = "low" if name == _ALONE else MEASURES[of_sites].redundant
    notes = [_LABELS[of_sites].lower() + f" {value:.4f}" if np.isfinite(value) else "" for value in values]
    return {"colours": shade(-values if redundant == "high" else values), "notes": notes}


def rank_layers(
    name: str, job: Job | None, leave_one_out: Sequence[Score | None]
) -> Float64[np.ndarray, " layers"] | None:
    """What a measure says of each layer, the lower the more redundant; the sum of its sites where it is of these only.

    Args:
        name, job, leave_one_out: as of `describe_measure`.

    Returns:
        One number a layer; None where it is not measured yet.
    """
    if job is None:
        damages = [score.delta_nll_per_token for score in leave_one_out if score is not None]
        return np.array(damages).reshape(len(PARTS), -1).sum(axis=0) if len(damages) == len(leave_one_out) else None
    if job.state != "done":
        return None
    ranked = {each.unit: each.ranked for each in job.result}
    return ranked["layer"] if "layer" in ranked else np.sum([ranked[part] for part in PARTS if part in ranked], axis=0)


def _join(found: Sequence[Importance]) -> Float64[np.ndarray, " units"]:
    """Values of the cells, attention first; NaN for a part of which the measure is not taken."""
    by_part = {each.unit: each.values for each in found}
    nothing = np.full(len(next(iter(by_part.values()))), np.nan)
    return np.concatenate([by_part.get(part, nothing) for part in PARTS])
