"""The README.md of an export: what it is, what it costs, how to load it, and the command that made it."""

from __future__ import annotations

import json
import math
import shlex

from huggingface_hub import EvalResult, ModelCardData

from explorer.deltas import Delta, Variant
from explorer.evaluation import Score, TokenRate
from explorer.export.describe.commands import describe_loading
from explorer.export.describe.provenance import Provenance
from explorer.export.describe.recipe import Recipe
from explorer.export.draft import Drafting
from explorer.export.export_plan import ExportPlan
from explorer.export.measurements import ExportMeasurements, Verification, tell_text
from explorer.export.timings import Benchmark, describe_timings
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.numerics import Interval
from explorer.text import Corpus


def make_command(recipe: Recipe, out: str) -> str:
    """Write the shell command that makes the same export; modifiers are made again from the recipe."""
    if recipe.modifiers:
        words = ["python", "-m", "explorer", "export", "--recipe", f"{out}/recipe.json", "--out", f"{out}-again"]
        return shlex.join(words + ["--trust-remote-code"] * recipe.trust_remote_code)
    words = ["python", "-m", "explorer", "export", "--model", recipe.model, "--mask", recipe.mask, "--out", out]
    words += ["--format", recipe.format, "--text", recipe.text, "--tokens", str(recipe.tokens)]
    words += ["--window", str(recipe.window), "--bos", recipe.bos, "--dtype", recipe.dtype]
    words += ["--export-dtype", recipe.export_dtype] * (recipe.export_dtype != "auto")
    words += ["--quantize", recipe.quantize] * (recipe.quantize != "none")
    return shlex.join(words + ["--trust-remote-code"] * recipe.trust_remote_code)


def describe_mask(mask: Mask) -> str:
    """Say in words what a mask turns off."""
    whole = mask.whole_layers
    parts = [
        ("whole layers", sorted(whole)),
        ("attention of layers", sorted(s.layer for s in mask.sites if s.part == "attention" and s.layer not in whole)),
        ("MLP of layers", sorted(s.layer for s in mask.sites if s.part == "mlp" and s.layer not in whole)),
    ]
    return "; ".join(f"{name} {', '.join(map(str, layers))}" for name, layers in parts if layers) or "nothing"


def draw_strip(mask: Mask, n_layers: int) -> list[str]:
    """Draw attention over MLP along the layers: a block is kept, a dot is removed; the first line counts tens."""
    rows = [[mask.off(layer)[part] for layer in range(n_layers)] for part in (0, 1)]
    ruler = "".join(f"{layer:<10}" for layer in range(0, n_layers, 10)).rstrip()
    return [f"layer     {ruler}"] + [
        f"{name:<10}" + "".join("·" if off else "█" for off in row)
        for name, row in zip(("attention", "MLP"), rows, strict=True)
    ]


def make_card(
    loaded: LoadedModel,
    corpus: Corpus,
    planned: ExportPlan,
    variant: Mask | Variant,
    found: ExportMeasurements,
    origin: Provenance,
    recipe: Recipe,
    command: str,
) -> str:
    """Write the card, in Markdown with the hub's metadata in front."""
    target, mask, plan = planned.format, planned.layout.mask, recipe.plan
    name = loaded.spec.model.rstrip("/").rpartition("/")[2]
    zeroed = describe_mask(Mask(frozenset(planned.layout.zero_sites)))
    revision = f", revision `{origin.revision}`" if origin.revision else ""
    sections = [
        _front(origin, target.kind, name, corpus, found.score),
        [f"# {_code(name)}, pruned"],
        [
            f"Base model {_code(origin.base or name)}{revision}, weights {_origin(loaded)}, licence "
            f"{origin.license or 'not stated by the source'}.",
        ],
        [f"Mask `{mask}`: {describe_mask(mask)} removed. Layers count from 0."],
        _indented(draw_strip(mask, loaded.n_layers)),
        [
            f"Format `{target.name}`. Not written: {target.dropped}. Written as zeros: {target.zeroed}.",
            *([f"No keys and values are kept for {target.cache}."] if target.cache else []),
        ],
        [f"Here written as zeros, saving neither memory nor compute: {zeroed}."] if planned.layout.zero_sites else [],
        _describe_changes(planned, variant, found),
        _describe_zeros(found.proof),
        [f"The mask is a step of this plan: {_code(json.dumps(plan))}."] if plan else [],
        _table(loaded.precision, found),
        [
            f"Perplexity on {_code(corpus.name)}, {found.score.n_tokens:,} held-out tokens, {corpus.protocol}, "
            f"{loaded.precision} on {loaded.device.type}; intervals are 95% over windows. Tokens a second: greedy, one "
            "sequence, by Layer Redundancy Explorer on the machine that made this.",
        ],
        [_describe_proof(found.proof, bool(variant.deltas))],
        _describe_benchmark(found.benchmark),
        _describe_draft(found.draft),
        ["## Loading it"],
        *describe_loading(target, origin.base or name, found.draft.drafted if found.draft else 1),
        ["## Limits"],
        _limits(planned, found, variant),
        ["## Made by"],
        _indented(command.splitlines()),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _describe_changes(planned: ExportPlan, variant: Mask | Variant, found: ExportMeasurements) -> list[str]:
    """Say what is changed, what that was fitted on, and how much of the loss it won back."""
    if found.pruned is None or found.recovered is None:
        return []
    changes, won = planned.changes, found.recovered
    lines = [_describe_delta(*each) for each in zip(variant.deltas, found.losses, strict=True)]
    share = (
        ""
        if math.isnan(won.share)
        else f": {won.share:.0%} of the loss is won back"
        + (f" (95% interval {won.interval[0]:.0%} to {won.interval[1]:.0%})" if won.interval else "")
    )
    changed = len(changes.weights) + len(changes.beside)
    return [
        "What is changed, in this order:",
        "",
        *lines,
        "",
        f"Tensors changed: {changed}; parameters that stand in: {changes.parameters_added:,}"
        f"{_list_places(planned)}. Perplexity with the mask alone is {found.pruned.perplexity:.3f}, with these "
        f"{found.score.perplexity:.3f}{share}.",
    ]


def _describe_delta(delta: Delta, losses: tuple[float, float]) -> str:
    """Say what made a delta, on what, how long, and what the held-out loss was before and after."""
    made = delta.origin
    words = f"- `{made.modifier}`, fitted on {made.tokens:,} tokens of {_code(made.text)} in {made.seconds:,.1f} s"
    if trained := made.trained:
        words += f", {trained.steps:,} steps over {trained.tokens:,} tokens, the checkpoint at {trained.kept:,} kept"
    return f"{words}: held-out loss {losses[0]:.4f} before, {losses[1]:.4f} after, nats a token."


def _describe_benchmark(benchmark: Benchmark | None) -> list[str]:
    """Show how fast the whole model and what was written are, as reloaded."""
    if benchmark is None:
        return []
    return [
        f"Reloaded and timed in turns with the whole model on {benchmark.machine}:",
        "",
        *describe_timings(benchmark),
    ]


def _describe_draft(draft: Drafting | None) -> list[str]:
    """Say what it is worth as a draft for the original, expected and measured."""
    if draft is None:
        return []
    words = (
        f"As a draft for the original: {draft.acceptance:.0%} of its tokens are expected to be taken on the held-out "
        f"windows, when the original samples; {draft.drafted} at once is best"
    )
    words += "." if draft.speed_up is None else f", predicted to write {draft.speed_up:.2f} times as fast."
    if (measured := draft.measured) is None:
        return [f"{words} transformers' assisted generation was not measured: {draft.assisted}."]
    same = "the same as" if measured.same == measured.tokens else f"for {measured.same} tokens the same as"
    fast = "" if measured.speed_up is None else f"{measured.speed_up:.2f} times as fast as the original alone, "
    return [
        f"{words} Measured by transformers' assisted generation, greedy: {fast}{measured.per_pass:.2f} tokens for each "
        f"pass of the original. The {measured.tokens} tokens written so are {same} the original's own."
    ]


def _describe_zeros(proof: Verification | None) -> list[str]:
    """Say how many zeros there are inside matrices."""
    if proof is None or proof.zeros is None:
        return []
    return [
        f"Zeros inside matrices: {proof.zeros}. They are zeros in the file, too, as a check of it has shown, and save "
        "neither memory nor time there."
    ]


def _list_places(planned: ExportPlan) -> str:
    places = ", ".join(map(str, planned.changes.stand_ins))
    return f", for {places}" if places else ""


def _origin(loaded: LoadedModel) -> str:
    source = loaded.checkpoint.dequantized_from
    return f"of {_code(source.name)}" if source else "as published"


def _front(origin: Provenance, kind: str, name: str, corpus: Corpus, score: Score) -> list[str]:
    """Write the hub's metadata, with the perplexities that are numbers as its results."""
    data = ModelCardData(
        library_name={"gguf": "gguf", "mergekit": "mergekit"}.get(kind, "transformers"),
        tags=["pruned"],
        base_model=origin.base,
        license=origin.license,
        model_name=f"{name}, pruned",
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=corpus.name,
                dataset_name=corpus.name,
                metric_type="perplexity",
                metric_name=f"Perplexity {when} pruning",
                metric_value=value,
                metric_args={"tokens": score.n_tokens, "window": corpus.window},
            )
            for when, value in (("after", score.perplexity), ("before", score.unpruned.perplexity))
            if math.isfinite(value)
        ],
    )
    return ["---", *data.to_yaml().splitlines(), "---"]


def _table(precision: str, found: ExportMeasurements) -> list[str]:
    score, baseline, before, after = found.score, found.score.unpruned, found.before, found.after
    rows = [
        ("", "before", "after"),
        ("---", "---", "---"),
        (
            "perplexity",
            _with_interval(baseline.perplexity, baseline.perplexity_ci95),
            _with_interval(score.perplexity, score.perplexity_ci95),
        ),
        ("parameters", f"{before.parameters:,}", f"{after.parameters:,}"),
        (f"bytes of weights in {precision}", f"{before.bytes:,}", f"{after.bytes:,}"),
        ("KV cache, bytes per token", f"{before.kv_bytes_per_token:,}", f"{after.kv_bytes_per_token:,}"),
        ("tokens a second", _describe_speed(found.speed_before), _describe_speed(found.speed_after)),
    ]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _describe_speed(speed: TokenRate | None) -> str:
    return (
        "not measured" if speed is None else f"{speed.median:.1f} ({speed.interval[0]:.1f} to {speed.interval[1]:.1f})"
    )


def _describe_proof(proof: Verification | None, changed: bool) -> str:
    if proof is None:
        return "No weights are written, so nothing was reloaded."
    measured = "variant in memory" if changed else "masked model"
    words = (
        f"Reloaded after writing by {proof.loader} and compared with the {measured} on those windows: largest logit "
        f"difference {proof.max_abs_logit_difference:.3g}, perplexity {proof.perplexity_reloaded:.4f} against "
        f"{proof.perplexity_masked:.4f}.{tell_text(proof)}"
    )
    return words if proof.llama_cpp is None else f"{words} llama.cpp gives {proof.llama_cpp:.4f}."


def _limits(planned: ExportPlan, found: ExportMeasurements, variant: Mask | Variant) -> list[str]:
    windows, target = len(found.score.nll), planned.format
    return [
        f"- Perplexity was measured on {windows} window{'s' * (windows != 1)} of one text; nothing else was.",
        "- Nothing was trained after the removal" + (" but what is named above." if variant.deltas else "."),
        *(f"- {note}" for note in planned.notes),
        *_tell_left_out(planned),
        *(["- Weights are rounded to the type of the file's blocks."] if planned.lossy else []),
        *(
            ["- The code in this folder runs when it is loaded with trust_remote_code=True; read it first."]
            if target.brings_code
            else []
        ),
    ]


def _tell_left_out(planned: ExportPlan) -> list[str]:
    """Say whether tensors after the last layer went with the layers that are off."""
    beyond = planned.layout.beyond
    if not beyond:
        return []
    became = "are left out" if planned.layout.move(beyond[0]) is None else "stay as they were"
    return [
        f"- {len(beyond)} tensors after the last layer, such as {_code(beyond[0])}, {became}: they predict further "
        "tokens from the whole model's last state."
    ]


def _code(text: str) -> str:
    """Write a name as a code span, whatever is in it."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _with_interval(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
