"""Depth against width at equal size: every variant that was measured, by bytes or by multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.charts import SIZES, draw_points
from explorer.deltas import read_modifiers, write_modifiers
from explorer.execution import ask_points
from explorer.masks import Mask
from explorer.plans import Point
from ui import session
from ui.live import draw_state, get_engine, get_owner, watch
from ui.parts import define, draw_plot, escape_markdown, kept
from ui.view import get_view, take_to_explore


@dataclass(frozen=True, kw_only=True)
class EqualSize:
    """How often somebody looked again at what the store knows."""

    looked: int = 0


def draw_equal_size() -> None:
    """Draw what the store knows of this model and text, as far as it did when the user looked last."""
    st.subheader("Depth against width at equal size")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        of = st.segmented_control(
            "Against", list(SIZES), format_func=lambda name: SIZES[name][0], default="bytes", required=True,
            **kept("sparsity size"),
        )  # fmt: skip
        if st.button("Look again"):
            session.change(EqualSize, looked=session.read(EqualSize).looked + 1)
    job = watch(ask_points(get_engine(), get_owner(), get_view(), session.read(EqualSize).looked))
    if job.state != "done":
        draw_state(job)
        return
    clicked = draw_plot(
        draw_points(job.result, of), "equal-size", list_rows(job.result),
        "Held-out perplexity of every measured variant against its size, with the front.", clickable=True,
    )  # fmt: skip
    if clicked:
        mask, modify = Mask.parse(clicked[0]), read_modifiers(clicked[1])
        st.button("Take it to Explore", on_click=take_to_explore, args=(mask, modify))
        st.caption(escape_markdown(" + ".join([str(mask), *map(str, modify)])))
    st.caption(
        "Everything that was scored on these windows, in any session; the line is the front. Sizes are calculated: "
        "zeros take no room and no time, which no program of today makes true, scales of a quantization are left out. "
        "In 8 and 4 bits perplexity is known where the model was loaded so. " + define("mask", "held-out")
    )


def list_rows(points: Sequence[Point]) -> dict[str, list[Any]]:
    """List the points, column by column."""
    return {
        "mask": [str(point.mask) for point in points],
        "modifiers": [write_modifiers(point.modifiers) for point in points],
        "bits": [point.bits for point in points],
        "bytes": [point.bytes for point in points],
        "multiplications": [point.multiplications for point in points],
        "perplexity": [point.perplexity for point in points],
    }
