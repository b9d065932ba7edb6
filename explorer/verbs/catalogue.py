"""The verbs, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.verbs.choices import choices
from explorer.verbs.combine import combine
from explorer.verbs.evaluate import evaluate
from explorer.verbs.info import info
from explorer.verbs.measure import interactions, measure
from explorer.verbs.modify import modify
from explorer.verbs.plan import compare, plan
from explorer.verbs.score import generate, score

#: A function (work, own options) -> (JSON answer, answer for people); its signature says what the options are.
Verb = Callable[..., tuple[dict[str, Any], str]]

VERBS: dict[str, Verb] = {
    each.__name__: each
    for each in (
        info, measure, interactions, plan, compare, choices, score, evaluate, modify, combine, generate,
    )
}  # fmt: skip
