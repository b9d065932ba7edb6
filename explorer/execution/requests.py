"""What the Analyse, Plans and Evaluate pages ask the worker for, beyond what every page does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float64

from explorer.benchmarks import Asking
from explorer.evaluation import TokenRate, measure_decode_speed, score_tokens
from explorer.execution.engine import LASTING, Engine
from explorer.execution.job import IDLE, READOUT, SAMPLE, SWEEP, Job
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
from explorer.model import LoadedModel
from explorer.plans import Abilities, Choices, Curve, Plan, PlanSpec, compare_choices, trace_abilities, trace_plan
from explorer.text import Corpus

_PERMUTATIONS = 4  # drawn for Shapley values


def ask_importance(engine: Engine, owner: str, view: View, name: str, slot: str) -> Job:
    """Ask for the Importances of one measure, of every unit that it is taken of, on the calibration windows."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> list[Importance]:
        return measure_importance(loaded, corpus, [name], engine.store, job.progress, permutations=_PERMUTATIONS)

    priority = SAMPLE if MEASURES[name].soon_taken else SWEEP
    title = f"Measuring {MEASURES[name].label.lower()}"
    job = engine.ask(owner, "importance", view.source, title, priority, work, (name,), slot, LASTING)
    return engine.note_page(job, view, "measure", {"measures": name, "permutations": _PERMUTATIONS})


def ask_attention(engine: Engine, owner: str, view: View) -> Job:
    """Ask where each head attends to."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Attention:
        return measure_attention(loaded, corpus, engine.store, job.progress)

    return engine.ask(owner, "attention", view.source, "Attention of every head", SWEEP, work)


def find_interactions(engine: Engine, view: View, unit: str = "layer") -> Interactions | None:
    """Return what is known of the map of pairs, if anybody has asked for it; ask for nothing."""
    job = engine.find("interactions", view.source, (unit,))
    found = None if job is None else job.latest
    return found if isinstance(found, Interactions) else None


def ask_interactions(engine: Engine, owner: str, view: View, unit: str) -> Job:
    """Ask for the map of pairs; what is known so far is the job's partial result."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Interactions:
        return measure_interactions(loaded, corpus, unit, engine.store, job.progress, job.show)

    title = f"All pairs of {unit}s"
    job = engine.ask(owner, "interactions", view.source, title, IDLE, work, (unit,), patience=LASTING)
    return engine.note_page(job, view, "interactions", {"unit": unit})


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


def ask_passage(engine: Engine, owner: str, view: View, window: int) -> Job:
    """Ask what each token of a held-out window costs, whole and under the view's mask."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Passage:
        ids = corpus.held_out.ids[window]
        baseline, masked = (score_tokens(loaded, ids[None], mask)[0] for mask in (NONE, view.mask))
        return Passage(tuple(loaded.tokenizer.decode([token]) for token in ids), baseline, masked)

    return engine.ask(owner, "passage", view.pruned, f"Window {window + 1} token by token", READOUT, work, (window,))


def ask_decode_speeds(engine: Engine, owner: str, view: View, masks: Sequence[Mask]) -> Job:
    """Ask for decoded tokens per second under each mask, measured in turns; None where other work came in between."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> dict[Mask, TokenRate | None]:
        return dict(zip(masks, measure_decode_speed(loaded, masks, job.progress), strict=True))

    names = tuple(map(str, masks))
    return engine.ask(
        owner, "decode_speeds", view.source.pruned, f"Decoding under {len(names)} masks", SWEEP, work, names
    )


def ask_curve(engine: Engine, owner: str, view: View, of: PlanSpec | Plan) -> Job:
    """Ask for a plan's held-out curve, and first for the plan; a Plan, then the Curve so far, are partial results."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Curve:
        return trace_plan(loaded, corpus, of, engine.store, job.progress, job.show, divergence=True)

    spec, more = (of.spec, (str(of.spec), *map(str, of.masks))) if isinstance(of, Plan) else (of, (str(of),))
    job = engine.ask(owner, "curve", view.source, f"Curve of {spec}", SWEEP, work, more, f"curve {more}")
    return job if isinstance(of, Plan) else engine.note_page(job, view, "plan", asdict(spec))


def ask_abilities(engine: Engine, owner: str, view: View, spec: PlanSpec, tasks: tuple[str, ...], items: int) -> Job:
    """Ask for what a plan's steps can still do, and first for the plan; what is known so far is the partial result."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Abilities:
        asking = Asking(limit=items)
        return trace_abilities(loaded, corpus, spec, tasks, asking, engine.store, job.progress, job.show)

    more: tuple[str, ...] = (str(spec), *tasks, str(items))
    return engine.ask(owner, "abilities", view.source, f"Answers along {spec}", SWEEP, work, more, f"abilities {more}")


def ask_choices(
    engine: Engine, owner: str, view: View, texts: tuple[str, ...], objectives: tuple[str, ...], number: int
) -> Job:
    """Ask which layers each text and objective would remove first."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Choices:
        corpora = [engine.resident.cut(loaded, text, view.tokens, view.window) for text in texts]
        return compare_choices(loaded, corpora, objectives, number, engine.store, progress=job.progress)

    more = (texts, objectives, number)
    title = "What texts and objectives remove first"
    job = engine.ask(owner, "choices", view.source, title, SWEEP, work, more)
    options = {"texts": texts, "objectives": ",".join(objectives), "number": number}
    return engine.note_page(job, view, "choices", options)
