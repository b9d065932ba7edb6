"""choices: what each text and each objective would remove first, and how far they agree."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from explorer.plans import UNITS
from explorer.verbs.describe import describe_corpus
from explorer.verbs.options import TEXTS
from explorer.verbs.work import Work

_DEFAULT = "perplexity,kl,logit-l2,last-token-cosine,probe:copying"


def choices(
    work: Work,
    number: Annotated[int, typer.Option(help="Units to remove.", min=1)] = 4,
    unit: Annotated[str, typer.Option(help=", ".join(UNITS))] = "layer",
    texts: Annotated[
        list[str], typer.Option("--texts", metavar="T", help="A text to decide by; again for more."), TEXTS
    ] = [],  # noqa: B006
    objectives: Annotated[str, typer.Option(help="Criteria of searches, with commas between.")] = _DEFAULT,
) -> tuple[dict[str, Any], str]:
    """Compare what every text, objective and search would remove first: agreement, and what it depends on."""
    from explorer.plans import FACTORS, check_criterion, compare_choices

    criteria = [check_criterion(name.strip()) for name in objectives.split(",")]
    if unit not in UNITS:
        raise typer.BadParameter(f"{unit!r} is none of {', '.join(UNITS)}", param_hint="--unit")
    corpora = work.corpora(texts)
    found = compare_choices(work.loaded, corpora, criteria, number, work.store, unit, work.progress)
    names = ("text", "objective", "search", "removed")
    cells = [dict(zip(names, map(str, each), strict=True)) for each in found.cells]
    answer = {
        "model": work.settings.model,
        "corpora": [describe_corpus(corpus) for corpus in corpora],
        "unit": unit,
        "number": number,
        "cells": cells,
        "agreement": found.agreement,
        "variance": {
            name: {"share": found.variance[name].share, "ci95": found.variance[name].interval} for name in FACTORS
        },
    }
    lines = [f"{each['text']:<19} {each['objective']:<19} {each['search']:<9} {each['removed']}" for each in cells]
    lines += [f"due to {name}: {found.variance[name].share:.1%}" for name in FACTORS]
    return answer, "\n".join(lines)
