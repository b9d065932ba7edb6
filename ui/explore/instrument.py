"""The instrument's panel: what is known of the plan and the mask, sent down so that the browser need not ask."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.evaluation import Score
from explorer.execution import Job, ModelSummary, View, find_interactions, list_single_sites
from explorer.masks import Mask
from explorer.plans import Plan
from ui.explore.blocks import describe_blocks, describe_influence
from ui.explore.cell_colours import ask_colours, choose_measure, describe_measure, rank_layers
from ui.explore.mask_field import draw_mask_field
from ui.explore.meter import describe_meter
from ui.explore.pairs import describe_pairs
from ui.explore.plan_choice import choose_plan
from ui.explore.recoveries import (
    ask_recovery,
    ask_steps,
    describe_stale,
    get_recoveries,
    list_steps,
    name_modifiers,
)
from ui.explore.score_format import write_live, write_score
from ui.explore.strip import draw_strip, list_changes, write_cells
from ui.live import describe_progress, draw_end, get_engine, get_owner, watch
from ui.parts import describe_speed
from ui.view import change_mask, get_view

_REMEMBERED = 32  # scores of masks that were set before; going back shows them at once


def draw_instrument(summary: ModelSummary) -> None:
    """Draw the choice of plan and measure, and the instrument; ask for all that it shows."""
    with st.container(key="choices", horizontal=True, vertical_alignment="bottom", gap="medium"):
        choose_plan()
        measure = choose_measure()
        draw_mask_field(summary)
    view, engine, owner = get_view(), get_engine(), get_owner()
    score = watch(engine.score(owner, view))
    plan = watch(engine.plan(owner, view))
    plan_scores = watch(engine.plan_scores(owner, view, plan.result)) if plan.state == "done" else None
    if plan_scores is None:
        engine.worker.release(owner, ["plan_scores"])  # that of the plan before
    recovered, steps = ask_recovery(view), ask_steps(view, plan)
    similarity = watch(engine.redundancy(owner, view))
    colours = ask_colours(measure)
    leave_one_out = watch(engine.leave_one_out(owner, view, summary.n_layers))
    scored = leave_one_out.result or leave_one_out.partial or {}
    alone = [scored.get(mask) for mask in list_single_sites(summary.n_layers)]
    known = _remember(view, score)
    blocks = describe_blocks(measure, similarity, rank_layers(measure, colours, alone))
    st.session_state.triangle = blocks
    some = next((s for scores in (known, scored) for s in scores.values()), None)
    whole = None if some is None else some.unpruned
    data = {
        "model": view.model,
        "known": {write_cells(mask, summary.n_layers): write_score(s) for mask, s in known.items()},
        "leaveOneOut": [None if score is None else write_score(score) for score in alone],
        "baseline": None if whole is None else write_score(whole),
        "live": write_live(view.mask, score, summary.n_layers),
        "failed": str(score.error) if score.state == "failed" else "",
        "tokens": some.n_tokens if some else 0,
        "bytes": int(some.text_bytes.sum()) if some else 0,
        "recovery": _describe_recovery(view, recovered, plan, whole, summary.n_layers) if view.modify else None,
        "plan": _describe_plan(plan, plan_scores, summary.n_layers),
        "measure": describe_measure(measure, colours, alone),
        "blocks": blocks,
        "awaitedBlocks": describe_progress(similarity) if similarity.active else "",
        "influence": describe_influence(similarity),
        "pairs": describe_pairs(find_interactions(engine, view), alone),
        "meter": describe_meter(summary.cost_model, summary.window),
        "decodeSpeed": _describe_decode_speed(view),
        "progress": _describe_progress([score, similarity, plan, plan_scores, colours, leave_one_out, steps]),
    }
    draw_strip(summary.n_layers, view.mask, data, change_mask, _ask_decode_speed)
    said = steps if recovered is None or recovered.state != "failed" else None  # what fails for one mask may for all
    for job in (score, similarity, plan, plan_scores, colours, leave_one_out, said):
        if job is not None:
            draw_end(job)


def _remember(view: View, job: Job) -> dict[Mask, Score]:
    """Return the scores of the masks that were set last."""
    state = st.session_state
    source, recent = state.get("recent", (None, {}))
    if source != view.source:
        recent = {}
    if job.state == "done":
        recent = {**{mask: score for mask, score in recent.items() if mask != view.mask}, view.mask: job.result}
        recent = dict(list(recent.items())[-_REMEMBERED:])
    state.recent = view.source, recent
    return recent


def _describe_plan(job: Job, plan_scores: Job | None, n_layers: int) -> dict[str, Any] | None:
    if job.state != "done":
        return None
    plan: Plan = job.result
    scores = {} if plan_scores is None else plan_scores.result or plan_scores.partial or {}
    return {
        "id": job.key,
        "changes": list_changes(plan.masks, n_layers),
        "scores": [write_score(scores[mask]) if mask in scores else None for mask in plan.masks],
    }


def _describe_recovery(
    view: View, job: Job | None, plan: Job, whole: Score | None, n_layers: int
) -> dict[str, Any] | None:
    found = get_recoveries(view)
    masks = plan.result.masks if plan.state == "done" else ()
    made = [
        (mask, [*write_score(each.score), *(each.recovered.interval or (None, None))])
        for mask, each in found.made.items()
    ]
    if job is None:
        why = describe_stale(view) if view.mask else "nothing is off"
    else:
        why = describe_progress(job) if job.active else "stopped" if job.error is None else str(job.error)
    return {
        "by": name_modifiers(view),
        "known": {write_cells(mask, n_layers): score for mask, score in made},
        "steps": [None if score is None else write_score(score) for score in list_steps(view, masks, whole)],
        "last": {"removed": str(made[-1][0]), "score": made[-1][1]} if made else None,
        "live": write_live(view.mask, job, n_layers),
        "why": why,
    }


def _describe_progress(jobs: list[Job | None]) -> str:
    running = sorted((job for job in jobs if job is not None and job.active), key=lambda job: job.state == "queued")
    return describe_progress(running[0]) if running else ""


def _ask_decode_speed() -> None:
    st.session_state.decode_speed_run = st.session_state.get("decode_speed_run", 0) + 1
    st.session_state.decode_speed_view = get_view()


def _describe_decode_speed(view: View) -> dict[str, str] | None:
    if "decode_speed_view" not in st.session_state:
        return None
    timed: View = st.session_state.decode_speed_view
    if timed.source != view.source:
        return None
    job = watch(get_engine().decode_speed(get_owner(), timed, st.session_state.decode_speed_run))
    if job.state != "done":
        return {"before": "–", "after": "–", "note": describe_progress(job) if job.active else str(job.error or "")}
    whole, pruned = job.result
    note = "" if timed.mask == view.mask else f"tokens/s timed without {timed.mask}"
    if whole is None:
        note = "other work came in between: no figure"
    return {"before": describe_speed(whole), "after": describe_speed(pruned), "note": note}
