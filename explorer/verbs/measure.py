"""measure, interactions: where the model would hardly miss a layer, an attention or an MLP."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import Float64

from explorer.masks import Mask, find_units
from explorer.measures import MEASURES, Importance, SimilarityStats
from explorer.plans import MOST_SEED
from explorer.text import Corpus
from explorer.verbs.describe import describe_corpus
from explorer.verbs.options import TEXTS, MaskOption, ModifyOption, PlanOption, StepOption
from explorer.verbs.work import Work

_MEASURES_HELP = "Measures, with commas between them: " + ", ".join(MEASURES) + "; or all."


def measure(
    work: Work,
    mask: MaskOption = "none",
    plan: PlanOption = None,
    step: StepOption = None,
    modify: ModifyOption = [],  # noqa: B006
    measures: Annotated[str, typer.Option(help=_MEASURES_HELP)] = "block-influence",
    bootstrap: Annotated[int, typer.Option(help="Resampled texts behind each interval.", min=2, max=100_000)] = 1000,
    texts: Annotated[
        list[str],
        typer.Option("--texts", metavar="A", help="A text in place of --text; again for more, side by side."),
        TEXTS,
    ] = [],  # noqa: B006
    permutations: Annotated[int, typer.Option(help="Orders drawn for Shapley values.", min=1, max=10_000)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of whatever is drawn.", min=0, max=MOST_SEED)] = 0,
) -> tuple[dict[str, Any], str]:
    """Measure every layer, attention and MLP that is on, on the calibration windows, with intervals."""
    from explorer.measures import check_measures, measure_importance, measure_similarity

    names = list(MEASURES) if measures.strip() == "all" else [name.strip() for name in measures.split(",")]
    check_measures(names)
    variant = work.vary(work.mask(mask, plan, step), modify)
    answers: list[dict[str, Any]] = []
    importances: list[list[Importance]] = []
    for corpus in work.corpora(texts):
        options: dict[str, Any] = {"permutations": permutations, "seed": seed, "variant": variant}
        importances.append(measure_importance(work.loaded, corpus, names, work.store, work.progress, **options))
        found = measure_similarity(work.loaded, corpus, work.store, work.progress, variant).blanked(variant.mask)
        described = {
            "angular_distance_ci95": {token: _describe_rows(found, token, bootstrap, seed) for token in found.angular},
            "measures": _describe(importances[-1], bootstrap, seed),
        }
        answers.append(_describe_redundancy(found, corpus) | described)
    answer = {"model": work.settings.model, "dtype": work.loaded.dtype, "variant": str(variant), **answers[0]}
    tables = [_write_table(each, variant.mask, work.loaded.n_layers, bootstrap, seed) for each in importances]
    if len(answers) == 1:
        return answer, "\n".join(tables[0])
    agreement = _describe_agreement(importances)
    lines = [line for text, table in zip(texts, tables, strict=True) for line in (text, *table, "")]
    return answer | {"texts": answers, "agreement": agreement}, "\n".join([*lines, *_write_agreement(agreement, texts)])


def interactions(
    work: Work,
    mask: MaskOption = "none",
    plan: PlanOption = None,
    step: StepOption = None,
    modify: ModifyOption = [],  # noqa: B006
    unit: Annotated[str, typer.Option(help="layer or site.")] = "layer",
) -> tuple[dict[str, Any], str]:
    """Score all pairs of layers, or of sites, that are on: what two removals cost beyond what each costs alone."""
    from explorer.measures import measure_interactions

    if unit not in ("layer", "site"):
        raise typer.BadParameter(f"{unit!r} is not layer or site", param_hint="--unit")
    corpus, variant = work.corpus, work.vary(work.mask(mask, plan, step), modify)
    found = measure_interactions(work.loaded, corpus, unit, work.store, work.progress, variant=variant)
    units = found.units
    answer: dict[str, Any] = {
        "model": work.settings.model,
        "variant": str(variant),
        "corpus": describe_corpus(corpus),
        "unit": unit,
        "units": [str(mask) for mask in units],
        "leave_one_out": found.leave_one_out,
        "pairs": found.pairs,
    }
    upper = np.where(np.triu(np.ones_like(found.pairs), 1) > 0, found.pairs, np.nan)
    order = np.argsort(upper, axis=None)
    known = order[: np.isfinite(upper).sum()]
    lines = ["pair          interaction, nats a token"]
    for index in dict.fromkeys([*known[:8], *known[-8:]]):
        i, j = np.unravel_index(index, upper.shape)
        lines.append(f"{units[i]!s:<6}{units[j]!s:<8}{upper[i, j]:+.4f}")
    return answer, "\n".join(lines)


def _describe_rows(found: SimilarityStats, token: str, bootstrap: int, seed: int) -> list[Any] | None:
    """Intervals of the angular distances, in rows as the distances are."""
    from explorer.measures import find_intervals

    intervals, n = find_intervals(found, token, bootstrap, seed), found.n_layers
    if intervals is None:
        return None
    return [[intervals[at, at + size] for at in range(n - size + 1)] for size in range(1, n + 1)]


def _describe_redundancy(found: SimilarityStats, corpus: Corpus) -> dict[str, Any]:
    from explorer.measures import TOKEN_CHOICES, UNITS

    return {
        "corpus": describe_corpus(corpus),
        "tokens": found.tokens,
        "angular_distance": {choice: found.angular_distance(choice) for choice in TOKEN_CHOICES},
        "best_start": {choice: found.best_starts(choice) for choice in TOKEN_CHOICES},
        "block_influence": {unit: found.block_influence(unit) for unit in UNITS},
        "block_influence_without_first": {unit: found.block_influence(unit, True) for unit in UNITS},
        "residual_norm": {"mean": found.residual_norms(), "mean_without_first": found.residual_norms(True)},
    }


def _describe(found: list[Importance], bootstrap: int, seed: int) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for each in found:
        among = max(1, len(each.values) // 4)
        described.setdefault(each.measure, {})[each.unit] = {
            "values": each.values,
            "ci95": each.intervals(bootstrap, seed),
            "order": each.order,
            "rank_stability": {"k": among, "share": each.rank_stability(among, bootstrap, seed)},
        }
    return described


def _describe_agreement(importances: list[list[Importance]]) -> dict[str, Any]:
    """Correlate the texts' rankings, measure by measure."""
    from explorer.numerics import correlate

    described: dict[str, Any] = {}
    for rankings in zip(*importances, strict=True):
        known = np.isfinite([each.values for each in rankings]).any(0)  # what is off has no rank
        agreement = correlate([each.ranked[known] for each in rankings])
        described.setdefault(rankings[0].measure, {})[rankings[0].unit] = {
            "spearman": agreement.spearman,
            "kendall": agreement.kendall,
        }
    return described


def _write_agreement(agreement: dict[str, Any], texts: list[str]) -> list[str]:
    """Write how far the rankings of each text agree with those of the first."""
    lines = [f"Spearman's rank correlation with {texts[0]}"]
    for measure, units in agreement.items():
        for unit, found in units.items():
            others = "  ".join(
                f"{text} {value:+.3f}" for text, value in zip(texts[1:], found["spearman"][0, 1:], strict=True)
            )
            lines.append(f"{measure} {unit}: {others}")
    return lines


def _write_table(found: list[Importance], mask: Mask, n_layers: int, bootstrap: int, seed: int) -> list[str]:
    columns = [(f"{each.measure} {each.unit}", each, each.intervals(bootstrap, seed)) for each in found]
    widths = [max(len(title), 10 if intervals is None else 30) for title, _, intervals in columns]
    lines = ["layer  " + "  ".join(title.ljust(width) for (title, *_), width in zip(columns, widths, strict=True))]
    off = {each.unit: [unit <= mask for unit in find_units(n_layers, each.unit)] for each in found}
    for layer in range(n_layers):
        cells = [
            "off" if off[each.unit][layer] else _write_value(each, intervals, layer) for _, each, intervals in columns
        ]
        lines.append(f"{layer:>5}  " + "  ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip())
    return lines


def _write_value(found: Importance, intervals: Float64[np.ndarray, "layers 2"] | None, layer: int) -> str:
    if intervals is None:
        return f"{found.values[layer]:.4g}"
    return f"{found.values[layer]:.4g} [{intervals[layer, 0]:.4g}, {intervals[layer, 1]:.4g}]"
