"""score, generate: what a mask costs, and what the model then writes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from explorer.masks import NONE
from explorer.plans import MOST_SEED
from explorer.text import Split
from explorer.verbs.describe import describe_corpus, describe_score
from explorer.verbs.options import MaskOption, ModifyOption, PlanOption, StepOption
from explorer.verbs.work import Work


def score(
    work: Work,
    mask: Annotated[list[str], typer.Option("--mask", help="Sites to turn off; give it again for more masks.")] = [],  # noqa: B006
    plan: PlanOption = None,
    step: StepOption = None,
    modify: ModifyOption = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="calibration or held-out.")] = "held-out",
) -> tuple[dict[str, Any], str]:
    """Score masks, and the same with what makes up for them: perplexity and the difference from the unpruned model."""
    from explorer.evaluation import score as score_masks

    windows = _split(split)
    planned = [work.mask("none", plan, step)] if plan or step is not None else []
    masks = list(dict.fromkeys([NONE, *map(work.mask, mask), *planned]))
    modified = [work.vary(mask, modify) for mask in [each for each in masks if each] or masks] if modify else []
    scores = score_masks(work.loaded, work.corpus, [*masks, *modified], work.store, windows, work.progress)
    answer: dict[str, Any] = {
        "model": work.settings.model,
        "corpus": {**describe_corpus(work.corpus), "split": split},
        "scores": [describe_score(s) for s in scores],
    }
    lines = [f"{'variant':<24}perplexity  difference, nats a token (95% interval)"]
    for s in scores:
        interval = "" if s.delta_ci95 is None else f"  [{s.delta_ci95[0]:+.4f}, {s.delta_ci95[1]:+.4f}]"
        if s.overflow:
            lines.append(f"{s.variant!s:<24}{s.overflow}")
            continue
        perplexity = f"{s.perplexity:.4f}" if s.perplexity < 1e6 else f"{s.perplexity:.3e}"
        difference = "" if s.baseline_overflow else f"  {s.delta_nll_per_token:+.4f}{interval}"
        lines.append(f"{s.variant!s:<24}{perplexity:<10}{difference}")
    return answer, "\n".join(lines)


def generate(
    work: Work,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")],
    mask: MaskOption = "none",
    plan: PlanOption = None,
    step: StepOption = None,
    modify: ModifyOption = [],  # noqa: B006
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to write.", min=1, max=100_000)] = 50,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0.0, max=1000.0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.", min=0, max=MOST_SEED)] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
) -> tuple[dict[str, Any], str]:
    """Write on from a prompt, with the whole model and with what is off, and modified."""
    from explorer.evaluation import generate as generate_text

    original, pruned = (
        generate_text(work.loaded, m, prompt, max_new_tokens, temperature=temperature, seed=seed, chat=chat)
        for m in (NONE, work.vary(work.mask(mask, plan, step), modify))
    )
    answer: dict[str, Any] = {
        "prompt": prompt,
        "mask": str(pruned.mask),
        "variant": str(pruned.variant),
        "text": pruned.text,
        "original": original.text,
        "overflow": {"pruned": pruned.overflow, "original": original.overflow},
        "tokens_per_second": {"pruned": pruned.tokens_per_second, "original": original.tokens_per_second},
    }
    ends = [" (overflow)" * sample.overflow for sample in (original, pruned)]
    return answer, f"original | {original.text}{ends[0]}\n{pruned.variant} | {pruned.text}{ends[1]}"


def _split(text: str) -> Split:
    if text not in ("calibration", "held-out"):
        raise typer.BadParameter(f"{text!r} is not calibration or held-out", param_hint="--split")
    return text  # type: ignore[return-value]
