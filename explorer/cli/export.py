"""export: the smaller checkpoint, proven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.cli.verb import verb
from explorer.deltas import Variant
from explorer.masks import Mask
from explorer.plans import Plan
from explorer.verbs import MaskOption, ModifyOption, PlanOption, StepOption, Work

if TYPE_CHECKING:
    from explorer.export import Recipe


@verb
def export(
    work: Work,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    mask: MaskOption = "none",
    plan: PlanOption = None,
    step: StepOption = None,
    modify: ModifyOption = [],  # noqa: B006
    format: Annotated[
        str,
        typer.Option(
            help="auto, transformers, transformers-zeroed, deci, pruned-remote-code, transformers-skip, gguf, "
            "gguf-f16, gguf-bf16, gguf-q8_0, adapter, draft, draft-gguf, mergekit or recipe."
        ),
    ] = "auto",
    export_dtype: Annotated[
        str,
        typer.Option(help="auto (what was measured, never wider than the source), float32, bfloat16 or float16."),
    ] = "auto",
    benchmark: Annotated[
        bool,
        typer.Option("--benchmark", help="Reload the whole model, too, and time reading and decoding of both."),
    ] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="recipe.json of an export, instead of model, text and mask.")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="OWNER/NAME to upload the export to, as a private repository.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see that repository.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")] = False,
) -> tuple[dict[str, Any], str]:
    """Write the pruned checkpoint, reload it, and compare it with what was measured."""
    from explorer.export import Destination, describe_proof, describe_timings, export as export_checkpoint, tell_text

    destination = Destination(push_to_hub, public) if push_to_hub else None
    planned = None if plan is None else Plan.load(plan).describe() | {"step": step}
    made_again = None
    if recipe is not None:
        read, made_again = _follow(work, recipe, mask, plan is not None, bool(modify))
        planned, format = read.plan, read.format if format == "auto" else format
        export_dtype = read.export_dtype if export_dtype == "auto" else export_dtype
    chosen = work.vary(work.mask(mask, plan, step), modify) if made_again is None else made_again
    made = export_checkpoint(
        work.loaded,
        chosen,
        out,
        work.corpus,
        work.store,
        format=format,
        dtype=export_dtype,
        plan=planned,
        overwrite=overwrite,
        benchmark=benchmark,
        progress=work.progress,
    )
    proof = made.evidence.proof
    answer: dict[str, Any] = {
        "out": str(made.out),
        "format": made.format.name,
        "mask": str(chosen.mask),
        "variant": str(chosen),
        "modifiers": [str(delta.modifier) for delta in chosen.deltas],
        "bytes": made.bytes,
        "layers": made.layers,
        "measured": made.evidence.describe(),
        "verify": describe_proof(proof),
        "command": made.command,
        "hub": destination and destination.upload(made.out),
    }
    words = f"Wrote {made.out}: {made.format.name}, {made.layers} layers, {made.bytes:,} bytes of weights"
    if proof is not None:
        words += (
            f"\nReloaded by {proof.loader}: largest logit difference {proof.max_abs_logit_difference:.3g}, "
            f"perplexity {proof.perplexity_reloaded:.4f}, measured {proof.perplexity_masked:.4f}.{tell_text(proof)}"
        )
    if (benchmark_of := made.evidence.benchmark) is not None:
        words += "\n" + "\n".join(describe_timings(benchmark_of))
    if (draft := made.evidence.draft) is not None:
        words += f"\nAs a draft: expected acceptance {draft.acceptance:.1%}, {draft.drafted} tokens at once"
        words += "" if draft.speed_up is None else f", predicted speed-up {draft.speed_up:.2f}"
        if (measured := draft.measured) is None:
            words += f"; assisted generation was not measured: {draft.assisted}"
        else:
            words += "" if measured.speed_up is None else f", measured {measured.speed_up:.2f}"
    return answer, f"{words}\nUploaded to {answer['hub']}" if destination else words


def _follow(work: Work, path: Path, mask: str, planned: bool, modified: bool) -> tuple[Recipe, Mask | Variant]:
    """Take model and text from a recipe; return it, and its variant."""
    from explorer.export import read_recipe

    if mask != "none" or planned:
        raise typer.BadParameter("the recipe has a mask of its own", param_hint="--mask or --plan")
    if modified:
        raise typer.BadParameter("the recipe has modifiers of its own", param_hint="--modify")
    recipe = read_recipe(path)
    names = ("model", "text", "tokens", "window", "bos", "dtype", "quantize", "trust_remote_code", "calibration_tokens")
    if recipe.trust_remote_code and not work.settings.trust_remote_code:
        raise typer.BadParameter("the recipe's model brings code: add --trust-remote-code if you trust it")
    taken = {name: getattr(recipe, name) for name in names} | {"calibration": list(recipe.calibration)}
    work.settings = replace(work.settings, **taken)
    recipe.check_model(work.loaded)
    return recipe, recipe.make(work.loaded, work.corpus, work.store, work.progress)
