"""plan, compare: what to remove, by any published method, and what that costs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.deltas import read_modifiers, write_modifiers
from explorer.errors import PlanError
from explorer.evaluation import Score
from explorer.jsonable import to_json
from explorer.masks import NONE, Mask
from explorer.measures import CRITERIA
from explorer.model import Costs
from explorer.plans import BUDGET_EXAMPLES, METHODS, UNITS, Plan, PlanSpec
from explorer.verbs.describe import describe_corpus, describe_score
from explorer.verbs.options import SHELL, ModifyOption
from explorer.verbs.work import Work

if TYPE_CHECKING:
    from explorer.evaluation import Divergence

_DEFAULT = PlanSpec()
_MOST_FRACTIONS = 100
_CRITERION_HELP = f"What a search lowers: {', '.join(CRITERIA)}, task:NAME or probe:NAME."
_WIDTH_HELP = "; ".join(
    f"{name}: {option.label}" for name, method in METHODS.items() for option in method.options if option.name == "width"
)


def plan(
    work: Work,
    method: Annotated[str, typer.Option(help=", ".join(METHODS))] = _DEFAULT.method,
    unit: Annotated[str, typer.Option(help=", ".join(UNITS) + "; the method's own if not given.")] = "",
    steps: Annotated[int, typer.Option(help="Removals at the most; 0: as far as something is left.")] = 0,
    budget: Annotated[str, typer.Option(help=f"{', '.join(BUDGET_EXAMPLES)}: ends the plan.")] = "",
    iterative: Annotated[bool, typer.Option("--iterative", help="Measure again after each removal.")] = False,
    protect: Annotated[str, typer.Option(help="Layers that stay: 0-3,28, or first,last, or first4,last2.")] = "none",
    criterion: Annotated[str, typer.Option(help=_CRITERION_HELP)] = "perplexity",
    modify: Annotated[
        str, typer.Option(help="What makes up for each mask that a search tries, such as refit, before it is judged.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of what is drawn at random.")] = 0,
    width: Annotated[int, typer.Option(help=_WIDTH_HELP)] = _DEFAULT.width,
    confidence: Annotated[float, typer.Option(help="Of the races in searches; 1 is exact.")] = _DEFAULT.confidence,
    out: Annotated[Path | None, typer.Option(help="Write the plan to a file, for --plan."), SHELL] = None,
) -> tuple[dict[str, Any], str]:
    """Make a plan on the calibration windows, and score its steps on the held-out ones."""
    from explorer.plans import trace_plan

    chosen = METHODS[method].units[0] if method in METHODS and not unit else unit
    spec = PlanSpec(
        method, chosen, iterative, protect.replace(" ", ""), criterion, seed, width, confidence, steps, budget,
        write_modifiers(read_modifiers(modify)),
    )  # fmt: skip
    if out is not None and not os.path.isdir(out.absolute().parent):
        raise PlanError("Cannot write the plan", f"no folder {out.parent}", "Name a file in a folder that is there")
    curve = trace_plan(work.loaded, work.corpus, spec, work.store, work.progress)
    made = curve.plan
    answer = made.describe() | {"corpus": describe_corpus(work.corpus), "collapse": curve.collapse}
    answer["steps"] = [_describe_step(curve.scores[k], work.costs(mask), None) for k, mask in enumerate(made.masks)]
    if modify:
        _add_modified(work, [modify], answer["steps"])
    checked = _check_decoding(work, made) if budget.startswith("decode=") else None
    answer |= {} if checked is None else {"decode": checked}
    if out is not None:
        _write(out, answer)
    return answer, "\n".join(
        [
            *([] if checked is None else [_write_decoding(checked)]),
            f"{spec}: {made.effort.layer_evaluations:,} layer evaluations, {made.effort.seconds:.1f} s",
            f"{'step':<6}{'removed':<10}{'perplexity':<12}{'parameters':<12}mask",
            *(_write_step(k, made, curve.scores[k], work.costs(mask)) for k, mask in enumerate(made.masks)),
        ]
    )


def _check_decoding(work: Work, made: Plan) -> dict[str, Any]:
    """Time the last step's mask beside the whole model: the share of its seconds a token that is left."""
    from explorer.evaluation import measure_decode_speed

    whole, pruned = measure_decode_speed(work.loaded, [NONE, made.masks[-1]], work.progress)
    if whole is None or pruned is None:
        return {"share": None, "share_ci95": None}
    slowest, fastest = (whole.interval[0] / pruned.interval[1], whole.interval[1] / pruned.interval[0])
    return {"share": whole.median / pruned.median, "share_ci95": (slowest, fastest)}


def _write_decoding(checked: dict[str, Any]) -> str:
    if checked["share"] is None:
        return "decoding was not timed: other work came in between"
    least, most = checked["share_ci95"]
    return f"a token takes {checked['share']:.1%} ({least:.1%} to {most:.1%}) of the whole model's time, measured"


def compare(
    work: Work,
    plans: Annotated[
        list[str],
        typer.Option("--plans", metavar="P", help="METHOD/UNIT[;option=value] or a plan file; again for more."),
    ] = [],  # noqa: B006
    fractions: Annotated[str, typer.Option(help="Shares of layers removed, in percent.")] = "10,20,30",
    modify: ModifyOption = [],  # noqa: B006
    decode_speed: Annotated[
        bool, typer.Option("--decode-speed", help="Measure decoded tokens per second as well.")
    ] = False,
) -> tuple[dict[str, Any], str]:
    """Compare plans on the held-out windows: perplexity, KL divergence and top-1 agreement at given fractions."""
    from explorer.evaluation import measure_decode_speed
    from explorer.plans import make_plan, trace_curve

    shares = _read_fractions(fractions)
    rows: list[dict[str, Any]] = []
    lines = [f"{'plan':<36}" + "".join(f"{share:>8.0%} ppl    KL  top-1" for share in shares)]
    given = [
        Plan.load(Path(text)) if work.names_file(text) else PlanSpec.parse(text)
        for text in plans or ["deepest", "similarity-block", "block-influence", "leave-one-out", "greedy"]
    ]
    for made in [work.check_plan(each) if isinstance(each, Plan) else each for each in given]:
        if isinstance(made, PlanSpec):
            made = make_plan(work.loaded, work.corpus, made, work.store, work.progress)
        steps = [made.nearest(share) for share in shares]
        wanted = [0, *(k for k in steps if k is not None)]
        curve = trace_curve(work.loaded, work.corpus, made, work.store, work.progress, steps=wanted, divergence=True)
        described = [
            None
            if k is None
            else {"step": k, **_describe_step(curve.scores[k], work.costs(made.at(k)), curve.divergences[k])}
            for k in steps
        ]
        timed = [entry for entry in described if entry is not None] if decode_speed else []
        masks = [Mask.parse(entry["mask"]) for entry in timed]
        for entry, speed in zip(timed, measure_decode_speed(work.loaded, masks, work.progress), strict=True):
            entry["tokens_per_second"] = speed and speed.median
            entry["tokens_per_second_ci95"] = speed and speed.interval
        if made.spec.method == "random":
            _add_spread(work, made.spec, shares, described)
        if modify:
            _add_modified(work, modify, described)
        cost = made.describe()["cost"]
        rows.append({"plan": str(made.spec), "cost": cost, "fractions": shares, "steps": described})
        cells = [
            f"{'–':>12}{'–':>7}{'–':>6}"
            if s is None
            else f"{s['perplexity']:>12.5g}{s['kl']:>7.3f}{s['top1_agreement']:>6.0%}"
            for s in described
        ]
        lines.append(f"{made.spec!s:<36}" + " ".join(cells))
        if modify:
            again = [f"{'–':>25}" if s is None else f"{s['modified']['perplexity']:>12.5g}{'':13}" for s in described]
            lines.append(f"{'  + ' + ' + '.join(modify):<36}" + " ".join(again))
    return {"corpus": describe_corpus(work.corpus), "fractions": shares, "plans": rows}, "\n".join(lines)


def _add_modified(work: Work, modify: Sequence[str], steps: Sequence[dict[str, Any] | None]) -> None:
    """Add to each step what it costs on the held-out windows when it is made up for."""
    from explorer.evaluation import find_recovered, score

    for step in steps:
        if step is None or step["mask"] == "none":
            continue
        mask = Mask.parse(step["mask"])
        pruned, found = score(
            work.loaded, work.corpus, [mask, work.vary(mask, modify)], work.store, progress=work.progress
        )
        recovered = find_recovered(pruned, found)
        step["modified"] = {
            "variant": str(found.variant),
            "perplexity": found.perplexity,
            "delta_nll_per_token": found.delta_nll_per_token,
            "recovered": recovered.share,
            "recovered_ci95": recovered.interval,
        }


def _add_spread(work: Work, spec: PlanSpec, shares: list[float], described: list[dict[str, Any] | None]) -> None:
    """Add the least and the largest perplexity of some random orders to each step."""
    from explorer.plans import SEEDS, make_plan, trace_curve

    found: list[list[float]] = [[] for _ in shares]
    for seed in range(spec.seed, spec.seed + SEEDS):
        plan = make_plan(work.loaded, work.corpus, replace(spec, seed=seed), work.store, work.progress)
        steps = [plan.nearest(share) for share in shares]
        wanted = [step for step in steps if step is not None]
        curve = trace_curve(work.loaded, work.corpus, plan, work.store, work.progress, steps=wanted)
        for values, step in zip(found, steps, strict=True):
            values += [] if step is None else [curve.scores[step].perplexity]
    for entry, values in zip(described, found, strict=True):
        if entry is not None:
            entry["perplexity_spread"] = [min(values), max(values)]


def _read_fractions(text: str) -> list[float]:
    try:
        shares = [float(part.strip().rstrip("%")) / 100 for part in text.split(",")]
    except ValueError:
        shares = []
    if not 0 < len(shares) <= _MOST_FRACTIONS or not all(0 < share <= 1 for share in shares):
        raise typer.BadParameter(f"{text!r} is not 1 to {_MOST_FRACTIONS} percentages", param_hint="--fractions")
    return shares


def _write(path: Path, answer: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(to_json(answer), allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlanError("Cannot write the plan", f"{path} ({error.strerror})", "Name another file") from None


def _describe_step(found: Score, costs: Costs, divergence: Divergence | None) -> dict[str, Any]:
    described = describe_score(found)
    del described["window_nll"]
    described |= {
        "parameters": costs.parameters,
        "bytes": costs.bytes,
        "kv_bytes_per_token": costs.kv_bytes_per_token,
        "state_bytes_per_sequence": costs.state_bytes_per_sequence,
        "flops_per_token": costs.flops_per_token,
    }
    if divergence is not None:
        described |= {
            "kl": divergence.kl_per_token,
            "kl_ci95": divergence.kl_ci95,
            "logit_l2": divergence.logit_l2_per_token,
            "top1_agreement": divergence.top1_agreement,
        }
    return described


def _write_step(step: int, made: Plan, found: Score, costs: Costs) -> str:
    order = made.order
    removed = "" if step == 0 or order is None else order[step - 1]
    perplexity = f"{found.perplexity:.2f}" if found.perplexity < 1e6 else f"{found.perplexity:.2e}"
    perplexity = str(found.overflow) if found.overflow else perplexity
    return f"{step:<6}{removed:<10}{perplexity:<12}{costs.parameters / 1e6:<12,.1f}{found.mask}"
