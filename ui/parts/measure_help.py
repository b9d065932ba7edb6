"""What a measure is, for the (i) beside it: its formula, its source, and which values mean redundant."""

from __future__ import annotations

import re
from collections.abc import Iterable

from explorer.measures import MEASURES

_DIRECTIONS = {
    "low": "Low is redundant.",
    "high": "High is redundant.",
    None: "It explains, and ranks nothing.",
}
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{5})")


def explain_measure(name: str) -> str:
    """Write it as Markdown."""
    measure = MEASURES[name]
    source = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", measure.source)
    unit = f" In {measure.unit_of}." if measure.unit_of else ""
    return f"**{measure.label}**: {measure.formula}.{unit} {_DIRECTIONS[measure.redundant]} Source: {source}."


def explain_measures(names: Iterable[str]) -> str:
    """Write several, a paragraph each."""
    return "\n\n".join(explain_measure(name) for name in names)
