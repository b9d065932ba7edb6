"""The trainings of this session: started, followed, stopped, kept, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from explorer.deltas import ModifierSpec, write_modifiers
from explorer.execution import Healing, Job, View, Watched, ask_healing, list_healings
from explorer.plans import PlanSpec
from ui import session
from ui.explore import draw_texts
from ui.heal.curves import draw_curves
from ui.live import describe_progress, draw_lasting, get_engine, get_owner, name_widget, watch
from ui.parts import define, describe_perplexity, describe_seconds, escape_markdown
from ui.view import change_modifiers

_MOST = 4  # trainings beside each other


@dataclass(frozen=True)
class Run:
    """A training that was started.

    Args:
        view: its model, text and mask, and what trains.
        watched: what it is watched by, as it was when it was started.
    """

    view: View
    watched: Watched

    @property
    def name(self) -> str:
        """What trains, in words."""
        return write_modifiers(self.view.modify)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The trainings that are shown beside each other, and those of other masks until one is started."""

    started: tuple[Run, ...] = ()


def draw_runs(asked: View | None, watched: Watched) -> None:
    """Draw a button that starts a training, and those that were started for the view's model, text and mask.

    Those of other sessions are among them: this one may be that of a browser that was reloaded.
    """
    runs = session.read(Runs).started
    asked = asked and replace(asked, plan=PlanSpec())
    if st.button("Heal this", type="primary", disabled=asked is None) and asked is not None:
        get_engine().worker.forget_failed()
        runs = _let_go((*(run for run in runs if run.view != asked), Run(asked, watched))[-_MOST:])
    if asked is not None:
        runs = _take_up(runs, asked)
    session.change(Runs, started=runs)
    shown = [run for run in runs if asked is not None and _without(run.view) == _without(asked)]
    jobs = [_ask(run, number) for number, run in enumerate(shown)]
    found = {run.name: job.latest for run, job in zip(shown, jobs, strict=True)}
    known = {name: healing for name, healing in found.items() if healing is not None and healing.losses}
    if known:
        draw_curves(known)
    for run, job in zip(shown, jobs, strict=True):
        _draw_run(run, job)
    if not shown:
        st.caption("Trainings appear here, beside each other. " + define("window", "calibration", "held-out"))


def _ask(run: Run, number: int) -> Job:
    return watch(ask_healing(get_engine(), get_owner(), run.view, f"healing {number}", run.watched), partial=True)


def _without(view: View) -> View:
    return replace(view, modify=())


def _take_up(runs: tuple[Run, ...], asked: View) -> tuple[Run, ...]:
    """Add what was started elsewhere, the latest first, as far as there is room."""
    known = {run.view for run in runs}
    found = [Run(*each) for each in list_healings(get_engine(), asked) if each[0] not in known]
    room = _MOST - sum(_without(run.view) == _without(asked) for run in runs)
    return (*(found[max(0, len(found) - room) :] if room > 0 else ()), *runs)


def _let_go(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Forget the curves of another mask or model."""
    return tuple(run for run in runs if _without(run.view) == _without(runs[-1].view))


def _draw_run(run: Run, job: Job) -> None:
    """Draw how far a training is, what can be done with it, and what its checkpoints write."""
    healing: Healing | None = job.latest

    def draw_keep(words: str, modifiers: tuple[ModifierSpec, ...]) -> None:
        st.button(words, key=name_widget("keep", job), on_click=change_modifiers, args=(modifiers,))

    def draw_done() -> None:
        draw_keep("Keep it", run.view.modify)
        st.caption(escape_markdown(_describe_end(healing)))

    def draw_stopped() -> None:
        if healing is not None and (last := healing.last_checkpoint) is not None:
            *below, trained = run.view.modify
            draw_keep(f"Keep step {last}", (*below, trained.having(until=str(last))))
        st.caption("Stopped.")

    draw_lasting(job, run.name, _describe, draw_done, draw_stopped)
    if healing is not None and healing.written and run.watched.prompts:
        draw_texts(name_widget("texts", job), run.watched.prompts, _list_sides(healing))


def _list_sides(healing: Healing) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return what stands beside each other: the whole and the pruned model, the best and the last checkpoint."""
    last, best = max(healing.written), healing.best_checkpoint
    chosen = {"Best checkpoint": best if best in healing.written else last, "Last checkpoint": last}
    return {"Original": ("", healing.whole), "Pruned": ("", healing.pruned)} | {
        title: (f"step {step}", healing.written[step]) for title, step in chosen.items()
    }


def _describe(job: Job) -> str:
    words, healing = describe_progress(job), job.latest
    if healing is None or not healing.records:
        return words
    pace = healing.records[-1].tokens_a_second
    return words if pace is None else f"{words}, {pace:,.0f} tokens a second"


def _describe_end(healing: Healing | None) -> str:
    assert healing is not None
    assert healing.recovery is not None
    found, judged = healing.recovery, healing.judged[0]
    return (
        f"Perplexity {describe_perplexity(found.score.perplexity)}, {describe_perplexity(judged.pruned)} pruned, "
        f"{describe_perplexity(judged.unpruned)} whole: {found.recovered.share:.0%} won back in "
        f"{describe_seconds(found.seconds)}."
    )
