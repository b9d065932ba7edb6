"""evaluate: what a variant can do, by tasks of lm-evaluation-harness and by probes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.benchmarks import ALL_PROBES, PROBE, PROBES
from explorer.deltas import Variant
from explorer.errors import PlanError
from explorer.masks import NONE, Mask
from explorer.plans import Plan
from explorer.verbs.options import SHELL, ModifyOption, PlanOption
from explorer.verbs.work import Work

if TYPE_CHECKING:
    from explorer.benchmarks import Evaluation

_TASKS_HELP = (
    f"Tasks of lm-evaluation-harness, and {ALL_PROBES}, or "
    + ", ".join(PROBE + name for name in PROBES)
    + "; with commas between."
)


def evaluate(
    work: Work,
    tasks: Annotated[str, typer.Option(help=_TASKS_HELP)] = ALL_PROBES,
    include: Annotated[Path | None, typer.Option(help="A folder with task files of your own."), SHELL] = None,
    mask: Annotated[list[str], typer.Option("--mask", help="Sites to turn off; give it again for more masks.")] = [],  # noqa: B006
    modify: ModifyOption = [],  # noqa: B006
    plan: PlanOption = None,
    steps: Annotated[str, typer.Option(help="Steps of the plan, such as 0,3,6; all if not given."), SHELL] = "",
    limit: Annotated[int | None, typer.Option(help="Items of each task, the first ones.", min=1)] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Solved items before each.", min=0)] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Put items in the model's chat template.")] = False,
    decode_speed: Annotated[
        bool, typer.Option("--decode-speed", help="Say how much faster the model would write, were these its drafts.")
    ] = False,
) -> tuple[dict[str, Any], str]:
    """Ask the whole model and variants the items of tasks: accuracy, differences paired over items, agreement."""
    from explorer.benchmarks import Asking, evaluate as ask

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter(f"{tasks!r} names no task", param_hint="--tasks")
    masks = list(dict.fromkeys([*map(work.mask, mask), *_find_steps(work, plan, steps)]))
    modified = [work.vary(each, modify) for each in [each for each in masks if each] or [NONE]] if modify else []
    asking = Asking(include, limit, num_fewshot, chat)
    found = ask(work.loaded, work.corpus, [*masks, *modified], work.store, names, asking, work.progress)
    costs = _find_costs(work, [answers.variant for answers in found[0].answers]) if decode_speed else None
    answer = {
        "model": work.settings.model,
        "tasks": {each.task: _describe(each, costs) for each in found},
    }
    return answer, "\n".join(line for each in found for line in _write(each))


def _find_steps(work: Work, plan: Path | None, steps: str) -> list[Mask]:
    """Return the masks of a plan file at some of its steps."""
    if plan is None:
        if steps:
            raise PlanError("Steps of no plan", f"--steps {steps}", "Name the plan file with --plan")
        return []
    found = work.check_plan(Plan.load(plan))
    try:
        chosen = [int(step) for step in steps.split(",")] if steps else list(range(len(found.masks)))
    except ValueError:
        raise typer.BadParameter(f"{steps!r} is not steps such as 0,3,6", param_hint="--steps") from None
    return [found.at(step) for step in chosen]


def _find_costs(work: Work, variants: Sequence[Mask | Variant]) -> list[float | None]:
    """Return the seconds a token of each variant over those of the whole model, None where other work came between."""
    from explorer.evaluation import measure_decode_speed

    whole, *speeds = measure_decode_speed(work.loaded, [NONE, *variants], work.progress)
    return [None if whole is None or speed is None else whole.median / speed.median for speed in speeds]


def _describe(found: Evaluation, costs: Sequence[float | None] | None) -> dict[str, Any]:
    return {
        "n": len(found),
        "chance": found.chance,
        "at_chance": found.at_chance,
        "results": [
            {
                "variant": str(answers.variant),
                "metrics": {metric: _describe_metric(found, metric, number) for metric in found.aggregates},
                "flips": found.flips(number),
                "kl": found.kl(number),
                "acceptance": found.acceptance(number),
                **({} if costs is None else {"speed_up": _find_speed_up(found.acceptance(number), costs[number])}),
            }
            for number, answers in enumerate(found.answers)
        ],
    }


def _find_speed_up(acceptance: float | None, cost: float | None) -> float | None:
    from explorer.benchmarks import find_speed_up

    return None if acceptance is None or cost is None else find_speed_up(acceptance, cost)


def _describe_metric(found: Evaluation, metric: str, number: int) -> dict[str, Any]:
    measured, difference = found.measure(metric, number), found.compare(metric, number)
    return {
        "value": measured.value,
        "stderr": measured.error,
        "ci95": measured.interval,
        "delta": difference.value,
        "delta_ci95": difference.interval,
        "verdict": found.tell(metric, number) if number else None,
    }


def _write(found: Evaluation) -> list[str]:
    """Write one task: a line a variant and metric."""
    guessed = "" if found.chance is None else f", chance {found.chance:.3f}"
    lines = [f"{found.task}: {len(found)} items{guessed}"]
    for number, answers in enumerate(found.answers):
        agreement = f"  flips {found.flips(number):.1%}" if number else ""
        for metric in found.aggregates:
            lines.append(f"  {answers.variant!s:<24}{metric:<12}{_write_metric(found, metric, number)}{agreement}")
            agreement = ""
    return lines


def _write_metric(found: Evaluation, metric: str, number: int) -> str:
    measured = found.measure(metric, number)
    value = f"{measured.value:.4g}" + ("" if math.isnan(measured.error) else f" ± {measured.error:.2g}")
    if not number:
        return f"{value:<20}"
    difference = found.compare(metric, number)
    interval = "" if difference.interval is None else "  [{:+.3g}, {:+.3g}]".format(*difference.interval)
    return f"{value:<20}{difference.value:+.4g}{interval}: {found.tell(metric, number)}"
