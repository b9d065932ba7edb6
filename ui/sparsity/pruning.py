"""The pruning that a session has begun: its errors block by block, the perplexity so far, what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.charts import draw_errors
from explorer.deltas import write_modifiers
from explorer.evaluation import Score
from explorer.execution import Job, Pruning, View, ask_pruning, ask_so_far, request_pruning
from ui import session
from ui.live import describe_progress, draw_lasting, draw_state, get_engine, get_owner, name_widget, watch
from ui.parts import define, describe_perplexity, describe_seconds, draw_plot, escape_markdown
from ui.sparsity.matrix import draw_matrix
from ui.view import change_modifiers


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The pruning that was begun last, and of which scores were asked for on the way.

    Args:
        view: the view that was begun.
        scored: the view of which scores were asked for.
        layers: after how many pruned layers each.
    """

    view: View | None = None
    scored: View | None = None
    layers: tuple[int, ...] = ()


def draw_pruning(asked: View | None, n_layers: int) -> None:
    """Draw a button that starts a pruning, and how far the one is that was started for this view, here or elsewhere."""
    if st.button("Prune inside the blocks", type="primary", disabled=asked is None):
        get_engine().worker.forget_failed()
        session.change(Begun, view=asked)
    begun = session.read(Begun).view == asked
    if asked is None or not (begun or get_engine().runs(request_pruning(asked), or_done=True)):
        st.caption(
            "Block after block gets its zeros, each judged on what the pruned ones before it give. "
            + define("sparsity", "calibration", "window")
        )
        return
    job = watch(ask_pruning(get_engine(), get_owner(), asked), partial=True)
    found: Pruning = job.latest or Pruning()
    _draw_state(asked, job, found)
    if not found.errors:
        return
    _draw_errors(asked, job, found, n_layers)
    draw_matrix(asked, found.errors)


def _draw_state(asked: View, job: Job, found: Pruning) -> None:
    """Draw how far a pruning is, and what can be done with it."""

    def draw_done() -> None:
        st.button("Keep it", key=name_widget("keep", job), on_click=change_modifiers, args=(asked.modify,))
        st.caption(escape_markdown(_describe_end(found)))

    def draw_stopped() -> None:
        st.caption("Stopped. What is pruned stays stored.")

    draw_lasting(job, write_modifiers(asked.modify), describe_progress, draw_done, draw_stopped)


def _describe_end(found: Pruning) -> str:
    assert found.score is not None
    return (
        f"Perplexity {describe_perplexity(found.score.perplexity)}, "
        f"{describe_perplexity(found.score.unpruned.perplexity)} whole, in {describe_seconds(found.seconds)}. "
        f"Zeros: {found.counts}."
    )


def _draw_errors(asked: View, job: Job, found: Pruning, n_layers: int) -> None:
    """Draw the errors of the pruned layers, and the perplexities that were asked for on the way."""
    known = _find_perplexities(asked, job, found)
    layers = [each.layer for each in found.errors]
    points = [(layers[count - 1], score.perplexity) for count, score in sorted(known.items())]
    unpruned = next((score.unpruned.perplexity for score in known.values()), None)
    rows: dict[str, list[Any]] = {
        "layer": layers,
        "zeros alone": [each.zeroed for each in found.errors],
        "survivors adapted": [each.adapted for each in found.errors],
        "perplexity up to here": [dict(points).get(layer) for layer in layers],
    }
    draw_plot(
        draw_errors(found.errors, n_layers, points, unpruned), "block-errors", rows,
        "Relative error of each pruned layer's output, before and after its survivors adapted.",
    )  # fmt: skip
    st.caption(
        "The difference of a layer's output over its size, on calibration windows; perplexity is on held-out ones. "
        + define("perplexity", "held-out")
    )


def _find_perplexities(asked: View, job: Job, found: Pruning) -> dict[int, Score]:
    """Ask for the scores that the user wants on the way; return those that are known, by pruned layers."""
    begun = session.read(Begun)
    wanted = begun.layers if begun.scored == asked else ()
    count = len(found.errors)
    if job.state != "done" and st.button("Perplexity so far", key=name_widget("so far", job)):
        wanted = tuple(dict.fromkeys((*wanted, count)))
        session.change(Begun, scored=asked, layers=wanted)
    known: dict[int, Score] = {}
    for layers in wanted:
        asking = watch(ask_so_far(get_engine(), get_owner(), asked, layers))
        if asking.state == "done":
            known[asking.result.layers] = asking.result.score
        else:
            draw_state(asking)
    if found.score is not None:
        known[count] = found.score
    return {layers: score for layers, score in known.items() if layers <= count}
