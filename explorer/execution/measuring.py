"""What the Analyse, Plans and Evaluate pages ask for, beyond what every page does, as kinds of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from explorer.benchmarks import Asking
from explorer.evaluation import TokenRate, measure_decode_speed, score_tokens
from explorer.execution.engine import LASTING, Engine
from explorer.execution.job import IDLE, READOUT, SAMPLE, SWEEP, Job
from explorer.execution.kinds import offered
from explorer.execution.request import Request
from explorer.execution.task import Task
from explorer.execution.view import View
from explorer.masks import NONE, Mask
from explorer.measures import (
    MEASURES,
    Attention,
    Importance,
    Interactions,
    measure_attention,
    measure_importance,
    measure_interactions,
)
from explorer.plans import Abilities, Choices, Curve, Plan, PlanSpec, compare_choices, trace_abilities, trace_plan

_PERMUTATIONS = 4  # drawn for Shapley values


@offered("importance")
def take_importance(task: Task, measure: str) -> list[Importance]:
    """Take a measure of every unit that it is taken of."""
    return measure_importance(
        task.loaded, task.corpus, [measure], task.store, task.progress, permutations=_PERMUTATIONS
    )


def request_importance(view: View, name: str) -> Request:
    """Write the request for a measure by its name."""
    return view.request(take_importance, measure=name)


def ask_importance(engine: Engine, owner: str, view: View, name: str, slot: str) -> Job:
    """Ask for the Importances of one measure, of every unit that it is taken of, on the calibration windows."""
    priority = SAMPLE if MEASURES[name].soon_taken else SWEEP
    request, title = request_importance(view, name), f"Measuring {MEASURES[name].label.lower()}"
    return engine.ask(owner, request, title, priority, slot, LASTING, taken_up=True)


@offered("attention")
def take_attention(task: Task) -> Attention:
    """Measure where each head attends to."""
    return measure_attention(task.loaded, task.corpus, task.store, task.progress)


def ask_attention(engine: Engine, owner: str, view: View) -> Job:
    """Ask where each head attends to."""
    return engine.ask(owner, view.request(take_attention), "Attention of every head", SWEEP, taken_up=True)


@offered("pairs")
def take_pairs(task: Task, unit: str) -> Interactions:
    """Score all pairs of units; what is known so far is the partial result."""
    return measure_interactions(task.loaded, task.corpus, unit, task.store, task.progress, task.show)


def request_interactions(view: View, unit: str) -> Request:
    """Write the request for the map of pairs."""
    return view.request(take_pairs, unit=unit)


def find_interactions(engine: Engine, view: View, unit: str = "layer") -> Interactions | None:
    """Return what is known of the map of pairs, if anybody has asked for it; ask for nothing."""
    job = engine.find(request_interactions(view, unit))
    found = None if job is None else job.latest
    return found if isinstance(found, Interactions) else None


def ask_interactions(engine: Engine, owner: str, view: View, unit: str) -> Job:
    """Ask for the map of pairs; what is known so far is the job's partial result."""
    request = request_interactions(view, unit)
    return engine.ask(owner, request, f"All pairs of {unit}s", IDLE, patience=LASTING, taken_up=True)


@dataclass(frozen=True)
class Passage:
    """A held-out window, token by token.

    Args:
        texts: of the window's tokens, the first included, which is not predicted.
        baseline: nats of each predicted token, in the whole model.
        masked: the same under the mask.
    """

    texts: tuple[str, ...]
    baseline: Float64[np.ndarray, " positions"]
    masked: Float64[np.ndarray, " positions"]


@offered("passage")
def take_passage(task: Task, mask: str, window: int) -> Passage:
    """Score each token of a held-out window, whole and under a mask."""
    loaded, ids = task.loaded, task.corpus.held_out.ids[window]
    baseline, masked = (score_tokens(loaded, ids[None], each)[0] for each in (NONE, Mask.parse(mask)))
    return Passage(tuple(loaded.tokenizer.decode([token]) for token in ids), baseline, masked)


def ask_passage(engine: Engine, owner: str, view: View, window: int) -> Job:
    """Ask what each token of a held-out window costs, whole and under the view's mask."""
    request = view.pruned.request(take_passage, mask=str(view.mask), window=window)
    return engine.ask(owner, request, f"Window {window + 1} token by token", READOUT)


@offered("decode-speeds")
def take_decode_speeds(task: Task, masks: list[str]) -> dict[Mask, TokenRate | None]:
    """Time decoding under each mask, in turns; None where other work came in between."""
    asked = [Mask.parse(each) for each in masks]
    return dict(zip(asked, measure_decode_speed(task.loaded, asked, task.progress), strict=True))


def ask_decode_speeds(engine: Engine, owner: str, view: View, masks: Sequence[Mask]) -> Job:
    """Ask for decoded tokens per second under each mask, measured in turns; None where other work came in between."""
    request = view.pruned.request(take_decode_speeds, masks=list(map(str, masks)))
    return engine.ask(owner, request, f"Decoding under {len(masks)} masks", SWEEP)


@offered("curve")
def take_curve(task: Task, plan: str | dict[str, Any]) -> Curve:
    """Trace a plan, or the one that is made as a text says; a Plan, then the Curve so far, are partial results."""
    of = PlanSpec.parse(plan) if isinstance(plan, str) else Plan.read(plan)
    return trace_plan(task.loaded, task.corpus, of, task.store, task.progress, task.show, divergence=True)


def request_curve(view: View, of: PlanSpec | Plan) -> Request:
    """Write the request for a plan's curve."""
    return view.request(take_curve, plan=of.describe() if isinstance(of, Plan) else str(of))


def ask_curve(engine: Engine, owner: str, view: View, of: PlanSpec | Plan) -> Job:
    """Ask for a plan's held-out curve, and first for the plan; a Plan, then the Curve so far, are partial results."""
    request, spec = request_curve(view, of), of.spec if isinstance(of, Plan) else of
    return engine.ask(owner, request, f"Curve of {spec}", SWEEP, f"curve {request.key}", taken_up=True)


@offered("abilities")
def take_abilities(task: Task, plan: str, tasks: list[str], items: int) -> Abilities:
    """Ask a plan's steps so many items of each task, and first make the plan; what is known is the partial result."""
    spec, asking = PlanSpec.parse(plan), Asking(limit=items)
    return trace_abilities(task.loaded, task.corpus, spec, tuple(tasks), asking, task.store, task.progress, task.show)


def ask_abilities(engine: Engine, owner: str, view: View, spec: PlanSpec, tasks: tuple[str, ...], items: int) -> Job:
    """Ask for what a plan's steps can still do, and first for the plan; what is known so far is the partial result."""
    request = view.request(take_abilities, plan=str(spec), tasks=list(tasks), items=items)
    return engine.ask(owner, request, f"Answers along {spec}", SWEEP, f"abilities {request.key}", taken_up=True)


@offered("first-choices", texts=("texts",))
def take_choices(task: Task, texts: list[str], objectives: list[str], number: int) -> Choices:
    """Find which layers each text and objective would remove first."""
    corpora = [task.cut(text) for text in texts]
    return compare_choices(task.loaded, corpora, tuple(objectives), number, task.store, progress=task.progress)


def ask_choices(
    engine: Engine, owner: str, view: View, texts: tuple[str, ...], objectives: tuple[str, ...], number: int
) -> Job:
    """Ask which layers each text and objective would remove first."""
    request = view.request(take_choices, texts=list(texts), objectives=list(objectives), number=number)
    return engine.ask(owner, request, "What texts and objectives remove first", SWEEP, taken_up=True)
