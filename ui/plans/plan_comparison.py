"""Plans compared: their curves, how far predictions move, which sites go first, a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.charts import AXES, Shares, draw_curves, draw_divergences, draw_orders
from explorer.evaluation import TokenRate
from explorer.execution import Job, ModelSummary, View, ask_decode_speeds
from explorer.masks import Mask
from explorer.plans import METHODS, Curve, Effort, Plan, PlanSpec
from ui import session
from ui.live import draw_state, follow, get_engine, get_owner, ready
from ui.parts import (
    define,
    describe_bytes,
    describe_score,
    describe_seconds,
    describe_speed,
    draw_plot,
    kept,
)
from ui.view import take_to_explore

_SHARES = tuple(range(5, 95, 5))  # percent


@dataclass(frozen=True, kw_only=True)
class TimedMasks:
    """The masks under which decoding is timed."""

    masks: tuple[Mask, ...] | None = None


def draw_contest(view: View, summary: ModelSummary, jobs: Mapping[str, Job]) -> None:
    """Draw what is known of the plans, and how far the rest are."""
    shown = _count_steps(jobs)
    if any(job.active for job in jobs.values()):
        follow(jobs.values(), lambda: _draw_progress(jobs, shown))
    else:
        _draw_progress(jobs, shown)
    curves = {name: curve for name, job in jobs.items() if (curve := _find_curve(job)) is not None}
    if not curves:
        st.caption("Curves appear here as soon as the first steps are scored.")
        return
    _draw(view, summary, curves)


def _find_curve(job: Job) -> Curve | None:
    found = job.latest
    return found if isinstance(found, Curve) and found.scores else None


def _count_steps(jobs: Mapping[str, Job]) -> int:
    return sum(len(curve.scores) for job in jobs.values() if (curve := _find_curve(job)) is not None)


def _find_effort(job: Job) -> Effort | None:
    """What making the plan has taken so far."""
    found = job.partial.plan if isinstance(job.partial, Curve) else job.partial
    return found.effort if isinstance(found, Plan) else None


def _draw_progress(jobs: Mapping[str, Job], shown: int) -> None:
    """Draw how far each job is; run the page again when more steps are known than it shows."""
    for job in jobs.values():
        draw_state(job)
        if job.active and (effort := _find_effort(job)) is not None:
            st.caption(f"{effort.layer_evaluations:,} layer evaluations, {describe_seconds(effort.seconds)} so far")
    if _count_steps(jobs) > shown:
        st.rerun()


def _draw(view: View, summary: ModelSummary, curves: Mapping[str, Curve]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        of = st.segmented_control(
            "Against", list(AXES), format_func=AXES.__getitem__, default="layers", required=True, **kept("plans axis")
        )
    names, found = [_name(curve.plan.spec) for curve in curves.values()], list(curves.values())
    shares = Shares(of, summary.n_layers, lambda mask: summary.cost_model.costs(mask, summary.window))
    table = _list_steps(found, names, summary)
    clicked = draw_plot(
        draw_curves(found, names, shares), "plans-perplexity", table,
        "Held-out perplexity of every plan against what it removes; the table has the numbers.", clickable=True,
    )  # fmt: skip
    _offer(clicked)
    st.caption(
        "Decided on calibration windows, drawn on held-out ones. Bands: 95% intervals. A cross marks collapse. Random: "
        "five seeds. Click a point to take its mask to Explore. "
        + define("mask", "window", "calibration", "held-out", "interval", "collapse")
    )
    draw_plot(
        draw_divergences(found, names, shares), "plans-divergence", table,
        "KL divergence and top-1 agreement of every plan against what it removes.",
    )  # fmt: skip
    st.caption(define("KL", "top-1 agreement", "nat"))
    _draw_comparison(view, summary, found, names)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("Plan files")
        for number, (curve, name) in enumerate(zip(found, _tell_apart(names), strict=True)):
            st.download_button(
                name, json.dumps(curve.plan.describe()), f"{name.lower().replace(' ', '-')}.json",
                "application/json", key=f"plan file {number}", on_click="ignore", type="tertiary",
            )  # fmt: skip
    st.subheader("What goes first", anchor=False)
    draw_plot(
        draw_orders(found, names), "plans-orders", _list_overlap(found, names),
        "The step at which each plan removes each attention and MLP; the table has the overlap of plans.",
    )  # fmt: skip


def _name(spec: PlanSpec) -> str:
    options = ";".join(part for part in str(spec).split(";")[1:] if not part.startswith("seed="))
    return METHODS[spec.method].label + (f" ({options})" if options else "")


def _tell_apart(names: Sequence[str]) -> list[str]:
    """Number the names that are there more than once."""
    return [f"{name} {names[:at].count(name) + 1}" if names.count(name) > 1 else name for at, name in enumerate(names)]


def _offer(clicked: Any) -> None:
    if not clicked:
        return
    mask = Mask.parse(clicked if isinstance(clicked, str) else clicked[0])
    with st.container(horizontal=True, vertical_alignment="center", key="offer"):
        st.text(f"Removed: {mask}")
        st.button("Take it to Explore", type="primary", on_click=take_to_explore, args=(mask,))


def _list_steps(curves: Sequence[Curve], names: Sequence[str], summary: ModelSummary) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    for curve, name in zip(curves, names, strict=True):
        for step, found in sorted(curve.scores.items()):
            costs = summary.cost_model.costs(found.mask, summary.window)
            low, high = found.perplexity_ci95 or (None, None)
            divergence = curve.divergences.get(step)
            rows.append(
                {
                    "plan": name,
                    "step": step,
                    "mask": str(found.mask),
                    "perplexity": found.perplexity,
                    "low": low,
                    "high": high,
                    "KL": None if divergence is None else divergence.kl_per_token,
                    "top-1 agreement": None if divergence is None else divergence.top1_agreement,
                    "parameters": costs.parameters,
                    "KV bytes per token": costs.kv_bytes_per_token,
                    "FLOPs per token": costs.flops_per_token,
                    "layer evaluations": curve.plan.effort.layer_evaluations,
                    "seconds": curve.plan.effort.seconds,
                }
            )
    return {column: [row[column] for row in rows] for column in rows[0]}


def _draw_comparison(view: View, summary: ModelSummary, curves: Sequence[Curve], names: Sequence[str]) -> None:
    """Draw the plans at given shares in one table; decoding speed, when asked for."""
    st.subheader("At the same share of layers", anchor=False)
    shares = st.multiselect(
        "Percent of layers",
        _SHARES,
        (10, 20, 30),
        **kept("plans shares"),
        placeholder="Choose shares",
        width=400,
    )
    chosen = _choose_steps(curves, names, shares)
    if not chosen:
        st.caption("Steps at these shares appear here when they are scored.")
        return
    masks = tuple(dict.fromkeys(curve.plan.at(step) for _, _, curve, step in chosen))
    if session.read(TimedMasks).masks != masks and st.button(
        f"Measure decoding speed under {len(masks)} masks", help=define("decode speed")
    ):
        session.change(TimedMasks, masks=masks)
        st.rerun()
    decode_speeds: Mapping[Mask, TokenRate | None] = {}
    if session.read(TimedMasks).masks == masks:
        job = ask_decode_speeds(get_engine(), get_owner(), view, masks)
        decode_speeds = job.result if ready(job) else {}
    st.dataframe([_describe_step(summary, decode_speeds, *entry) for entry in chosen], hide_index=True, width="stretch")
    st.caption(define("KV cache bytes", "FLOPs per token"))


def _choose_steps(
    curves: Sequence[Curve], names: Sequence[str], shares: Sequence[int]
) -> list[tuple[int, str, Curve, int]]:
    """The scored steps nearest to the shares, in percent: (share, name, curve, step)."""
    chosen = []
    for share in sorted(shares):
        for curve, name in zip(curves, names, strict=True):
            step = curve.plan.nearest(share / 100)
            if step is not None and step in curve.divergences:
                chosen.append((share, name, curve, step))
    return chosen


def _describe_step(
    summary: ModelSummary,
    decode_speeds: Mapping[Mask, TokenRate | None],
    share: int,
    name: str,
    curve: Curve,
    step: int,
) -> dict[str, str]:
    mask = curve.plan.at(step)
    costs, divergence = summary.cost_model.costs(mask, summary.window), curve.divergences[step]
    return {
        "removed": f"{share}%",
        "plan": name,
        "perplexity": describe_score(curve.scores[step]),
        "KL": f"{divergence.kl_per_token:.3f}",
        "top-1": f"{divergence.top1_agreement:.1%}",
        "parameters": f"{costs.parameters / 1e6:,.1f} M",
        "KV per token": describe_bytes(costs.kv_bytes_per_token),
        "tokens/s": describe_speed(decode_speeds.get(mask)),
        "mask": str(mask),
    }


def _list_overlap(curves: Sequence[Curve], names: Sequence[str]) -> dict[str, list[Any]]:
    """Share of sites that two plans have in common, of those either removes, with a fifth of the sites removed."""
    steps = [curve.plan.nearest(0.2) for curve in curves]
    taken = [curve.plan.masks[-1 if step is None else step].sites for curve, step in zip(curves, steps, strict=True)]
    apart = _tell_apart(names)
    return {"plan": apart} | {
        name: [round(len(one & other) / max(1, len(one | other)), 3) for one in taken]
        for name, other in zip(apart, taken, strict=True)
    }
