"""export: the smaller checkpoint, proven."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.verb import MaskOption, PlanOption, StepOption, verb
from explorer.cli.work import Work


@verb
def export(
    work: Work,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    mask: MaskOption = "none",
    plan: PlanOption = None,
    step: StepOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")] = False,
) -> tuple[dict[str, Any], str]:
    """Write the pruned checkpoint, reload it, and compare it with what was measured."""
    from explorer.export import export as export_checkpoint

    chosen = work.mask(mask, plan, step)
    made = export_checkpoint(
        work.loaded, chosen, out, work.corpus, work.store, overwrite=overwrite, progress=work.progress
    )
    proof = made.verification
    answer: dict[str, Any] = {
        "out": str(made.out),
        "mask": str(chosen),
        "bytes": made.bytes,
        "layers": made.layers,
        "verify": {
            "max_abs_logit_difference": proof.max_abs_logit_difference,
            "perplexity_masked": proof.perplexity_masked,
            "perplexity_reloaded": proof.perplexity_reloaded,
        },
    }
    return answer, (
        f"Wrote {made.out}: {made.layers} layers, {made.bytes:,} bytes of weights\n"
        f"Reloaded: largest logit difference {proof.max_abs_logit_difference:.3g}, "
        f"perplexity {proof.perplexity_reloaded:.4f}, measured {proof.perplexity_masked:.4f}"
    )
