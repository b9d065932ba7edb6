"""What every page asks for, as kinds of requests: the model's facts, scores, plans, samples, exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from explorer.deltas import read_modifiers
from explorer.evaluation import LiveScoring, Sample, Score, TokenRate, generate, measure_decode_speed, score
from explorer.execution.export_preview import ExportPreview, preview_export
from explorer.execution.kinds import offered
from explorer.execution.model_summary import ModelSummary, summarize
from explorer.execution.recovery import Recovery, recover, recover_masks
from explorer.execution.task import Task
from explorer.export import Exported, export
from explorer.masks import NONE, PARTS, Mask, find_units
from explorer.measures import SimilarityStats, measure_similarity
from explorer.plans import Plan, PlanSpec, make_plan, score_plan_masks


@offered("summary")
def take_summary(task: Task) -> ModelSummary:
    """Load the model and the text."""
    return summarize(task.loaded, task.corpus)


@offered("readout")
def read_out(task: Task, mask: str) -> Score:
    """Score a mask on the held-out windows; estimates are the partial result."""
    loaded, corpus = task.loaded, task.corpus
    live = LiveScoring(task.resident.state_cache, lambda estimates: task.show(*estimates))
    return score(loaded, corpus, [Mask.parse(mask)], task.store, progress=task.progress, live=live)[0]


@offered("recovery")
def take_recovery(task: Task, mask: str, modify: str) -> Recovery:
    """Make a variant and score it beside its mask; estimates are the partial result."""
    loaded, corpus = task.loaded, task.corpus
    how = (task.store, task.progress, task.resident.state_cache, task.show)
    return recover(loaded, corpus, Mask.parse(mask), read_modifiers(modify), *how)


@offered("similarity")
def take_similarity(task: Task) -> SimilarityStats:
    """Measure similarity on the calibration windows."""
    return measure_similarity(task.loaded, task.corpus, task.store, task.progress)


@offered("removals")
def take_plan(task: Task, plan: str) -> Plan:
    """Make a plan."""
    return make_plan(task.loaded, task.corpus, PlanSpec.parse(plan), task.store, task.progress)


@offered("scores")
def take_scores(task: Task, masks: list[str]) -> dict[Mask, Score]:
    """Score masks on the held-out windows, the ends and the middle first; those known are the partial result."""
    return _score(task, [Mask.parse(each) for each in masks])


@offered("single-sites")
def take_single_sites(task: Task, layers: int) -> dict[Mask, Score]:
    """Score each site of so many layers alone, likewise."""
    return _score(task, list_single_sites(layers))


def _score(task: Task, masks: Sequence[Mask]) -> dict[Mask, Score]:
    return score_plan_masks(task.loaded, task.corpus, masks, task.store, task.progress, task.show)


@cache
def list_single_sites(n_layers: int) -> tuple[Mask, ...]:
    """List the masks with a single site off, attention first."""
    return tuple(mask for part in PARTS for mask in find_units(n_layers, part))


@offered("recovered-scores")
def take_recovered_scores(task: Task, masks: list[str], modify: str) -> dict[Mask, Score]:
    """Make and score variants of masks; those known are the partial result."""
    asked, specs = [Mask.parse(each) for each in masks], read_modifiers(modify)
    return recover_masks(task.loaded, task.corpus, asked, specs, task.store, task.progress, task.show)


@offered("decode-speed")
def take_decode_speed(task: Task, mask: str, run: int) -> list[TokenRate | None]:
    """Time decoding, of the whole model and under a mask; another run is another measurement."""
    return measure_decode_speed(task.loaded, [NONE, Mask.parse(mask)], task.progress)


@offered("sample")
def take_sample(task: Task, mask: str, modify: str, prompt: str, new_tokens: int, chat: bool) -> Sample:
    """Write on from a prompt; the text so far is the partial result."""
    variant = task.vary(mask, modify)
    found = generate(task.loaded, variant, prompt, new_tokens, chat=chat, listener=task.show)
    return replace(found, variant=Mask.parse(mask))  # what is kept long holds no tensors


@offered("export-preview")
def take_preview(task: Task, mask: str, modify: str, formats: list[str]) -> dict[str, ExportPreview]:
    """Plan an export in each format."""
    variant = task.vary(mask, modify)
    return {format: preview_export(task.loaded, variant, format) for format in formats}


@offered("export", recalled=True)
def take_export(
    task: Task, mask: str, modify: str, format: str, out: str, overwrite: bool, benchmark: bool
) -> Exported:
    """Export a variant; with `benchmark` what was written is timed."""
    variant = task.vary(mask, modify)
    how: dict[str, Any] = {"format": format, "overwrite": overwrite, "benchmark": benchmark}
    return export(task.loaded, variant, Path(out), task.corpus, task.store, progress=task.progress, **how)
