"""A field for those who know what is to go: a mask as text, how much the plan has to remove, or the size of a block."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.errors import ExplorerError, PlanError
from explorer.execution import ModelSummary, View
from explorer.masks import Mask
from explorer.plans import Budget, Plan
from ui import session
from ui.browser import read
from ui.explore.blocks import find_best_block
from ui.live import get_engine, get_owner
from ui.view import change_mask, get_view

_HELP = (
    "Layers, attention (a) and MLPs (m): `12-15,a20,m3-4`, or `none`. Or how much has to go: `6 layers`, `12 sites`, "
    "`20% of parameters`, `30% of kv`, `25% of flops`, `4 GiB` to fit in. Then the first step of the plan that removes "
    "so much is taken. `best block of 6` is the one outlined in the triangle."
)
_BLOCK = re.compile(r"(?:the +)?best +block +of +(\d{1,4})(?: +layers?)?", re.IGNORECASE)


_field = st.components.v2.component(
    "mask_field",
    html="""<input type="text" aria-label="Removed, or how much" autocomplete="off" spellcheck="false">
<p role="alert"></p>""",
    css=read("mask_field.css"),
    js=read("mask_field.js"),
)


@dataclass(frozen=True, kw_only=True)
class MaskField:
    """The field.

    Args:
        mask: the mask of which it says something; None where that is another one now.
        text: what it says.
        refusal: why that was refused; empty if it was not.
        triangle: the triangle beside it; None where it is not measured yet.
    """

    mask: Mask | None = None
    text: str = ""
    refusal: str = ""
    triangle: dict[str, Any] | None = None


def draw_mask_field(summary: ModelSummary) -> None:
    """Draw the field with what is off, or with what was refused, as long as the mask does not move.

    It is no widget of Streamlit's: of such a one the browser goes on telling the text that a gesture has replaced.
    """
    field, mask = session.read(MaskField), get_view().mask
    if field.mask != mask:
        field = session.change(MaskField, mask=mask, text=str(mask), refusal="")
    with st.container(key="mask_field", width=220, gap="xxsmall"):
        st.caption("Removed, or how much", help=_HELP)
        _field(
            key="mask_text",
            data={"text": field.text, "refusal": field.refusal},
            on_asked_change=lambda: _take(st.session_state["mask_text"]["asked"], summary),
        )


def _take(text: str, summary: ModelSummary) -> None:
    field, view = session.read(MaskField), get_view()
    try:
        mask = find_mask(text, view, summary, field.triangle)
    except ExplorerError as error:
        session.change(MaskField, mask=view.mask, text=text, refusal=str(error))
        return
    session.change(MaskField, mask=None)
    change_mask(mask)


def find_mask(text: str, view: View, summary: ModelSummary, triangle: dict[str, Any] | None) -> Mask:
    """Return the mask that a text means, beside a triangle as `describe_blocks` describes it.

    Raises:
        MaskError: it is neither an amount nor a mask of this model.
        PlanError: it is an amount that no step of the view's plan removes, a block that there is not, or what it asks
            for is not measured yet.
    """
    if match := _BLOCK.fullmatch(text.strip()):
        return _find_block(int(match[1]), triangle)
    try:
        budget = Budget.parse(text)
    except PlanError:
        return Mask.parse(text.strip() or "none").checked(summary.n_layers)
    if budget.of == "decode":
        raise PlanError("Time is not known here", repr(text), "Plan with --budget decode=80% in the shell")
    job = get_engine().plan(get_owner(), view)
    if job.state != "done":
        raise PlanError("The plan is not made yet", str(view.plan), "Enter it again when the curve is there")
    plan: Plan = job.result
    found = next((mask for mask in plan.masks if budget.met(mask, summary.cost_model, summary.window)), None)
    if found is None:
        raise PlanError("No step of the plan removes so much", repr(text), "Ask for less, or choose another plan")
    return found


def _find_block(size: int, triangle: dict[str, Any] | None) -> Mask:
    if triangle is None:
        raise PlanError(
            "Blocks are not measured yet", f"a block of {size}", "Enter it again when the triangle is there"
        )
    start = find_best_block(triangle, size)
    if start is None:
        raise PlanError("There is no such block", f"{size} layers", f"Use 1 to {len(triangle['values'])}")
    return Mask.parse(f"{start}-{start + size - 1}")
