"""A variant as a draft for the model that it was made of: in which format it is written, and what its help is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.benchmarks import Request, find_acceptance, find_best_draft, find_likelihoods
from explorer.deltas import Variant
from explorer.errors import ExportError, UnsupportedModel
from explorer.evaluation import AssistedSpeed, measure_assisted
from explorer.export.export_plan import ExportPlan
from explorer.export.formats import FORMATS
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus

#: Formats for a draft, the one that most programs load first; none that runs what is off.
_WRITTEN_IN = {"draft": ("transformers", "deci", "pruned-remote-code"), "draft-gguf": ("gguf",)}

#: Plans a variant in a format by name.
Planner = Callable[[LoadedModel, Mask | Variant, str], ExportPlan]

_PROMPT = 16  # tokens, of as many held-out windows as there are runs


@dataclass(frozen=True)
class Drafting:
    """What a variant is worth as a draft.

    Args:
        acceptance: expected share of drafted tokens that the original takes when it samples, on the held-out windows.
        drafted: tokens at once with which it helps most.
        speed_up: how many times faster the original then writes, by acceptance and measured speeds; None without those.
        assisted: what transformers' assisted generation measured, or in words why it did not.
    """

    acceptance: float
    drafted: int
    speed_up: float | None
    assisted: AssistedSpeed | str

    @property
    def measured(self) -> AssistedSpeed | None:
        """What was measured, if anything."""
        return None if isinstance(self.assisted, str) else self.assisted

    def describe(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        measured = self.measured
        return {
            "acceptance": self.acceptance,
            "drafted": self.drafted,
            "speed_up": self.speed_up,
            "assisted": measured
            and {
                "speed_up": measured.speed_up,
                "tokens_per_second": measured.assisted and measured.assisted.median,
                "tokens_per_second_ci95": measured.assisted and measured.assisted.interval,
                "tokens_per_pass": measured.per_pass,
                "tokens": measured.tokens,
                "same": measured.same,
            },
        }


def plan_draft(loaded: LoadedModel, variant: Mask | Variant, name: str, plan: Planner) -> ExportPlan:
    """Decide what is written: the variant in the first format that takes it without running what is off.

    Args:
        loaded: the model.
        variant: what is off, and changed.
        name: `draft`, or `draft-gguf`.
        plan: plans the variant in a format.

    Raises ExportError: no format takes it, or the model is streamed.
    """
    if loaded.spec.stream:
        raise ExportError("A streamed model has no draft", "it does not write", "Load it without --stream")
    *others, last = _WRITTEN_IN[name]
    for each in others:
        try:
            return _name(plan(loaded, variant, each), name)
        except ExportError:
            continue
    return _name(plan(loaded, variant, last), name)


def _name(planned: ExportPlan, name: str) -> ExportPlan:
    target = replace(planned.format, name=name, written_in=planned.format.name, loads=FORMATS[name].loads)
    return replace(planned, format=target)


def measure_draft(
    loaded: LoadedModel,
    corpus: Corpus,
    variant: Mask | Variant,
    planned: ExportPlan,
    folder: Path,
    cost: float | None,
    store: Store,
    progress: Progress = unreported,
) -> Drafting:
    """Find what a variant is worth as a draft, on held-out windows.

    Args:
        loaded: the model.
        corpus: whose windows are predicted.
        variant: what drafts.
        planned: how it was written.
        folder: where.
        cost: its seconds a token over the original's; None if that is not known, which is then taken for a half.
        store: of what is known.
        progress: told what is measured.
    """
    windows = corpus.held_out.ids.tolist()
    items = [(Request((first,), tuple(rest)),) for first, *rest in windows]
    before, after = find_likelihoods(loaded, items, [NONE, variant], store, progress)
    acceptance = find_acceptance(before, after) or 0.0
    drafted, speed_up = find_best_draft(acceptance, 0.5 if cost is None else cost)
    assisted: AssistedSpeed | str = "transformers does not read the file"
    if planned.reload is not None and planned.format.written_in != "gguf":
        prompts = [window[:_PROMPT] for window in windows]
        try:
            assisted = measure_assisted(loaded, planned.reload(loaded, folder), prompts, drafted, progress)
        except UnsupportedModel as error:
            assisted = f"{error.what}: {error.found}"
    return Drafting(acceptance, drafted, None if cost is None else speed_up, assisted)
