"""The verbs: each calls one function of the library and describes its answer for programs and for people."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.checkpoints import find_checkpoint
from explorer.cli.work import Settings, Work
from explorer.masks import NONE
from explorer.records import Corpus, Score, Split

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Measure which layers, attention and MLPs of a language model could go, and export the smaller checkpoint.",
)


def verb(function: Callable[..., tuple[dict[str, Any], str]]) -> Callable[..., None]:
    """Make a verb of a function (work, own options) -> (JSON answer, answer for people)."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    hints = inspect.get_annotations(Settings, eval_str=True)
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(Settings)
    ]

    def command(**options: Any) -> None:
        settings = Settings(**{f.name: options.pop(f.name) for f in fields(Settings)})
        work = Work(settings)
        try:
            answer, words = function(work, **options)
        finally:
            work.progress.close()
        print(json.dumps(_jsonable(answer), allow_nan=False) if settings.json else words)

    required = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    command.__signature__ = inspect.Signature([*required, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*required, *shared]}
    app.command(function.__name__, help=function.__doc__)(command)
    return command


def _jsonable(value: Any) -> Any:
    """Replace what JSON lacks: arrays by lists, numbers that are not finite by null."""
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_jsonable(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


MaskOption = Annotated[str, typer.Option("--mask", help="Sites to turn off, such as 12-15,a20,m3-4, or none.")]


@verb
def prepare(work: Work) -> tuple[dict[str, Any], str]:
    """Convert or download the model into the cache, without loading it."""
    s = work.settings
    found = find_checkpoint(s.model, work.store, s.cache, trust_remote_code=s.trust_remote_code, progress=work.progress)
    return {"model": s.model, "folder": str(found.folder)}, f"{s.model} is ready in {found.folder}"


@verb
def info(work: Work) -> tuple[dict[str, Any], str]:
    """Describe the model: size, precision, KV cache, and its sites."""
    from explorer.costs import take_inventory

    loaded = work.loaded
    inventory = take_inventory(loaded.model, loaded.family)
    costs = inventory.costs(NONE, work.settings.window)
    answer: dict[str, Any] = {
        "model": loaded.spec.model,
        "architecture": type(loaded.model).__name__,
        "layers": loaded.n_layers,
        "parameters": costs.parameters,
        "bytes": costs.bytes,
        "dtype": loaded.dtype,
        "quantize": loaded.spec.quantize,
        "device": str(loaded.device),
        "kv_bytes_per_token": costs.kv_bytes_per_token,
        "flops_per_token": costs.flops_per_token,
        "digest": loaded.digest,
        "sites": inventory.sites(),
    }
    rows = [(name.replace("_", " "), f"{answer[name]:,}" if isinstance(answer[name], int) else answer[name])
            for name in answer if name != "sites"]  # fmt: skip
    return answer, "\n".join(f"{name:<20}{value}" for name, value in rows)


@verb
def corpus(work: Work) -> tuple[dict[str, Any], str]:
    """Print the token ids of the calibration and the held-out windows."""
    made = work.corpus
    answer: dict[str, Any] = {
        **_describe_corpus(made),
        "calibration": made.calibration.ids,
        "held_out": made.held_out.ids,
    }
    return answer, (
        f"{made.name}: {len(made.calibration)} calibration and {len(made.held_out)} held-out windows, "
        f"{made.protocol}\ndigest {made.digest} (--json prints the ids)"
    )


@verb
def measure(work: Work) -> tuple[dict[str, Any], str]:
    """Measure similarity along the residual stream, on the calibration windows."""
    from explorer.similarity import TOKEN_CHOICES, UNITS
    from explorer.similarity import measure as measure_similarity

    found = measure_similarity(work.loaded, work.corpus, work.store, work.progress)
    answer: dict[str, Any] = {
        "model": found.model,
        "dtype": found.dtype,
        "corpus": _describe_corpus(work.corpus),
        "tokens": found.tokens,
        "angular_distance": {choice: found.angular_distance(choice) for choice in TOKEN_CHOICES},
        "block_influence": {unit: found.block_influence(unit) for unit in UNITS},
        "block_influence_without_first": {unit: found.block_influence(unit, True) for unit in UNITS},
        "residual_norm": {"mean": found.residual_norms(), "mean_without_first": found.residual_norms(True)},
    }
    influence, adjacent = answer["block_influence"], found.angular_distance("last_token")[0]
    lines = ["layer  block influence  attention  MLP      angular distance to the next, last token"]
    lines += [
        f"{i:>5}  {influence['layer'][i]:<15.4f}  {influence['attention'][i]:<9.4f}  {influence['mlp'][i]:<7.4f}  "
        f"{adjacent[i]:.4f}"
        for i in range(found.n_layers)
    ]
    return answer, "\n".join(lines)


@verb
def score(
    work: Work,
    mask: Annotated[list[str], typer.Option("--mask", help="Sites to turn off; give it again for more masks.")] = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="calibration or held-out.")] = "held-out",
) -> tuple[dict[str, Any], str]:
    """Score masks: perplexity and the difference from the unpruned model."""
    from explorer.scoring import score as score_masks

    windows = _split(split)
    masks = list(dict.fromkeys([NONE, *map(work.mask, mask)]))
    scores = score_masks(work.loaded, work.corpus, masks, work.store, windows, work.progress)
    answer: dict[str, Any] = {
        "model": work.settings.model,
        "corpus": {**_describe_corpus(work.corpus), "split": split},
        "scores": [_describe_score(s) for s in scores],
    }
    lines = [f"{'mask':<24}perplexity  difference, nats a token (95% interval)"]
    for s in scores:
        interval = "" if s.delta_ci95 is None else f"  [{s.delta_ci95[0]:+.4f}, {s.delta_ci95[1]:+.4f}]"
        perplexity = f"{s.perplexity:.4f}" if s.perplexity < 1e6 else f"{s.perplexity:.3e}"
        lines.append(f"{s.mask!s:<24}{perplexity:<10}  {s.delta_nats_per_token:+.4f}{interval}")
    return answer, "\n".join(lines)


@verb
def generate(
    work: Work,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")],
    mask: MaskOption = "none",
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to write.", min=1)] = 50,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0.0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.", min=0, max=2**63 - 1)] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
) -> tuple[dict[str, Any], str]:
    """Write on from a prompt, with the whole model and under the mask."""
    from explorer.generation import generate as generate_text

    original, pruned = (
        generate_text(work.loaded, m, prompt, max_new_tokens, temperature=temperature, seed=seed, chat=chat)
        for m in (NONE, work.mask(mask))
    )
    answer: dict[str, Any] = {
        "prompt": prompt,
        "mask": str(pruned.mask),
        "text": pruned.text,
        "original": original.text,
        "tokens_per_second": {"pruned": pruned.tokens_per_second, "original": original.tokens_per_second},
    }
    return answer, f"original | {original.text}\n{pruned.mask} | {pruned.text}"


@verb
def export(
    work: Work,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    mask: MaskOption = "none",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")] = False,
) -> tuple[dict[str, Any], str]:
    """Write the pruned checkpoint, reload it, and compare it with what was measured."""
    from explorer.export import export as export_checkpoint

    made = export_checkpoint(
        work.loaded, work.mask(mask), out, work.corpus, work.store, overwrite=overwrite, progress=work.progress
    )
    proof = made.verification
    answer: dict[str, Any] = {
        "out": str(made.out),
        "mask": str(work.mask(mask)),
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


def _split(text: str) -> Split:
    if text not in ("calibration", "held-out"):
        raise typer.BadParameter(f"{text!r} is not calibration or held-out", param_hint="--split")
    return text  # type: ignore[return-value]


def _describe_corpus(made: Corpus) -> dict[str, Any]:
    return {
        "name": made.name,
        "digest": made.digest,
        "window": made.window,
        "tokens": made.tokens,
        "protocol": made.protocol,
    }


def _describe_score(found: Score) -> dict[str, Any]:
    return {
        "mask": str(found.mask),
        "perplexity": found.perplexity,
        "perplexity_ci95": found.perplexity_ci95,
        "nats": found.total_nats,
        "tokens": found.n_tokens,
        "bits_per_byte": found.bits_per_byte,
        "delta_nats_per_token": found.delta_nats_per_token,
        "delta_ci95": found.delta_ci95,
        "window_nats": found.nats,
    }
