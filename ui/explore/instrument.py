"""The instrument's panel: what is known of the plan and the mask, told to the browser so that it need not ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import streamlit as st

from explorer.execution import Job, ModelSummary, View, find_interactions
from explorer.masks import Mask
from ui import session
from ui.explore.cell_colours import ask_colours, choose_measure
from ui.explore.knowledge import Knowledge
from ui.explore.mask_field import MaskField, draw_mask_field
from ui.explore.plan_choice import choose_plan
from ui.explore.recoveries import ask_recovery, ask_steps, get_recoveries
from ui.explore.strip import draw_strip
from ui.live import draw_end, get_engine, get_owner, paint, watch
from ui.view import change_mask, get_view

_REMEMBERED = 32  # scores of masks that were set before; going back shows them at once


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """What was asked for the instrument before.

    Args:
        source: the model and the texts.
        scores: of the masks that were set last, by mask.
        timed: the view whose decoding was timed last.
        timings: how often that was asked for.
    """

    source: View | None = None
    scores: Mapping[Mask, Job] = field(default_factory=dict)
    timed: View | None = None
    timings: int = 0


def draw_instrument(summary: ModelSummary) -> None:
    """Draw the choice of plan and measure, and the instrument; ask for all that it shows."""
    with st.container(key="choices", horizontal=True, gap="medium"):
        choose_plan()
        measure = choose_measure()
        draw_mask_field(summary)
    view, engine, owner = get_view(), get_engine(), get_owner()
    score = watch(engine.score(owner, view), result=False)
    plan = watch(engine.plan(owner, view))
    plan_scores = None
    if plan.state == "done":
        plan_scores = watch(engine.plan_scores(owner, view, plan.result), result=False)
    else:
        engine.worker.release(owner, ["scores"])  # that of the plan before
    recovered, steps = ask_recovery(view), ask_steps(view, plan)
    known = Knowledge(
        view=view,
        summary=summary,
        measure=measure,
        score=score,
        recent=_remember(view, score),
        plan=plan,
        plan_scores=plan_scores,
        recoveries=get_recoveries(view),
        recovered=recovered,
        steps=steps,
        similarity=watch(engine.redundancy(owner, view)),
        colours=ask_colours(measure),
        leave_one_out=watch(engine.leave_one_out(owner, view, summary.n_layers)),
        interactions=find_interactions(engine, view),
        decode_speed=_find_decode_speed(view),
    )
    data = paint("strip", known.jobs, known.describe)
    session.change(MaskField, triangle=data["blocks"])
    draw_strip(summary.n_layers, view.mask, data, change_mask, _ask_decode_speed)
    failed = recovered is not None and recovered.state == "failed"  # what fails for one mask may for all of a plan
    for job in known.sweeps:
        if not (failed and job is steps):
            draw_end(job)


def _remember(view: View, job: Job) -> dict[Mask, Job]:
    """Return the scores of the masks that were set last, those on their way too."""
    before = session.read(Instrument)
    recent = dict(before.scores) if before.source == view.source else {}
    recent = {**{mask: known for mask, known in recent.items() if mask != view.mask}, view.mask: job}
    recent = dict(list(recent.items())[-_REMEMBERED:])
    session.change(Instrument, source=view.source, scores=recent)
    return recent


def _ask_decode_speed() -> None:
    session.change(Instrument, timed=get_view(), timings=session.read(Instrument).timings + 1)


def _find_decode_speed(view: View) -> tuple[Mask, Job] | None:
    """Return what times decoding, and the mask that is timed, if that was asked for of the view's model."""
    asked = session.read(Instrument)
    timed = asked.timed
    if timed is None or timed.source != view.source:
        return None
    job = get_engine().decode_speed(get_owner(), timed, asked.timings)
    return timed.mask, job
