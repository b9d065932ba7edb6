"""Trainings as curves: the loss by step, and held-out perplexities at checkpoints, text by text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from explorer.charts import TextCurves, draw_training
from explorer.execution import Healing
from ui.parts import draw_plot


def draw_curves(known: Mapping[str, Healing]) -> None:
    """Draw trainings beside each other, by name."""
    texts = [_gather(text, known) for text in dict.fromkeys(j.text for each in known.values() for j in each.judged)]
    draw_plot(
        draw_training({name: healing.losses for name, healing in known.items()}, texts), "healing", _list(known),
        "Training loss, and held-out perplexity at checkpoints with lines of the whole, the pruned and the recovered "
        "model.",
    )  # fmt: skip
    st.caption("Held-out text decides nothing: which checkpoint is best, windows of the calibration text tell.")


def _gather(text: str, known: Mapping[str, Healing]) -> TextCurves:
    """Return the curves of those trainings that are judged on a text."""
    judged = {name: each for name, healing in known.items() for each in healing.judged if each.text == text}
    lines: dict[str, float] = {}
    for name, each in judged.items():
        lines |= {"whole": each.unpruned, "pruned": each.pruned}
        lines |= {} if each.below is None else {f"recovered by {known[name].start}": each.below}
    return TextCurves(text, {name: sorted(each.perplexities.items()) for name, each in judged.items()}, lines)


def _list(known: Mapping[str, Healing]) -> dict[str, list[Any]]:
    """Return the figure's numbers, a row a step."""
    rows: dict[str, list[Any]] = {"training": [], "step": [], "training loss": []}
    rows |= {f"held-out perplexity, {each.text}": [] for healing in known.values() for each in healing.judged}
    for name, healing in known.items():
        at = {f"held-out perplexity, {each.text}": each.perplexities for each in healing.judged}
        for step, loss in healing.losses:
            own = {"training": name, "step": step, "training loss": loss}
            for column, values in rows.items():
                values.append(own[column] if column in own else at.get(column, {}).get(step))
    return rows
