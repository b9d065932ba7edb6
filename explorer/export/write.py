"""The whole export: refuse early, write beside the target, verify, rename."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.deltas import Variant
from explorer.evaluation import Score, score
from explorer.export.benchmark import check_benchmark, run_benchmark
from explorer.export.describe.card import make_card, make_command
from explorer.export.describe.provenance import find_provenance
from explorer.export.describe.recipe import RECIPE, Recipe, write_recipe
from explorer.export.draft import measure_draft
from explorer.export.export_plan import ExportPlan
from explorer.export.formats import Format
from explorer.export.measurements import ExportMeasurements, Verification, gather
from explorer.export.planners import plan_export
from explorer.export.staging import check_target, remove_leftovers, staged
from explorer.export.verify import verify
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.paths import expand_user
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus


@dataclass(frozen=True)
class Exported:
    """An export that was written and, where it has weights, found equal to what was measured.

    `original` is the name of the model that it was made of.
    """

    out: Path
    original: str
    format: Format
    bytes: int
    layers: int
    command: str
    evidence: ExportMeasurements

    @property
    def verification(self) -> Verification:
        """The proof of a target that has weights."""
        assert self.evidence.proof is not None
        return self.evidence.proof


def export(
    loaded: LoadedModel,
    variant: Mask | Variant,
    out: Path,
    corpus: Corpus,
    store: Store,
    *,
    format: str = "auto",
    dtype: str = "auto",
    plan: dict[str, Any] | None = None,
    overwrite: bool = False,
    benchmark: bool = False,
    progress: Progress = unreported,
) -> Exported:
    """Write what is left in a variant and prove it equal to what was measured.

    Weights come from the checkpoint's files, never from the loaded copy; what deltas changed is written from them.
    The target appears only when the reloaded copy has been compared with the variant in memory.

    Args:
        format: a name of `formats.FORMATS`, or `auto`.
        dtype: that weights are written in; `auto` is what was measured, and never wider than the files.
        plan: the plan that the mask is a step of, for recipe and card.
        benchmark: reload the whole model, too, and time both.

    Raises:
        MaskError, ExportError: refused before anything is written, or written and found different (then removed).
        Cancelled: `progress` raised it; nothing is left behind.
    """
    planned = plan_export(loaded, variant, format, dtype)
    if benchmark:
        check_benchmark(loaded, planned)
    recipe = Recipe.of(loaded, corpus, variant, planned.format, plan)
    command = make_command(recipe, str(out))
    remove_leftovers(expand_user(out).absolute().parent)
    files = loaded.checkpoint
    sources = [files.folder, *([files.dequantized_from] if files.dequantized_from else [])]
    out = check_target(out, sources, planned.bytes, overwrite)
    with staged(out) as folder:
        _write(planned, folder, progress)
        measured, *before_each = _score(loaded, corpus, variant, store, progress)
        proof = verify(loaded, folder, planned, variant, corpus, measured, progress) if planned.reload else None
        found = gather(loaded, corpus, measured, before_each, planned, variant, proof, progress)
        if planned.format.written_in:
            draft = measure_draft(loaded, corpus, variant, planned, folder, found.cost, store, progress)
            found = replace(found, draft=draft)
        if benchmark:
            found = replace(found, benchmark=run_benchmark(loaded, planned, folder, progress))
        origin = find_provenance(loaded.checkpoint)
        (folder / RECIPE).write_text(write_recipe(recipe, origin.revision, found), encoding="utf-8")
        card = make_card(loaded, corpus, planned, variant, found, origin, recipe, command)
        (folder / "README.md").write_text(card, encoding="utf-8")
    base, layers = origin.base or loaded.spec.model, len(planned.layout.kept)
    return Exported(out, base, planned.format, planned.bytes, layers, command, found)


def _score(
    loaded: LoadedModel, corpus: Corpus, variant: Mask | Variant, store: Store, progress: Progress
) -> list[Score]:
    """Return the score of a variant, and those before each of its deltas, the first of its mask alone."""
    before: list[Mask | Variant] = []
    if isinstance(variant, Variant):
        parts = (variant.deltas[:count] for count in range(len(variant.deltas)))
        before = [Variant(variant.mask, part, variant.removed).plain for part in parts]
    return score(loaded, corpus, [variant, *before], store, progress=progress)


def _write(plan: ExportPlan, folder: Path, progress: Progress) -> None:
    written = 0

    def report(size: int) -> None:
        nonlocal written
        written += size
        progress(written, plan.bytes, "Writing weights")

    plan.write(folder, report)
