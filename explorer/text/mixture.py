"""Texts by weight, `wikitext2@2` and `c4`: names with what each counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from explorer.errors import TextError

_WEIGHTED = re.compile(r"(.+)@(\d+(?:\.\d+)?)")


def read_mixture(names: Iterable[str]) -> dict[str, float]:
    """Return what each text counts; one that does not say counts 1. Raises TextError: one counts nothing."""
    found: dict[str, float] = {}
    for name in names:
        match = _WEIGHTED.fullmatch(name)
        text, weight = (match[1], float(match[2])) if match else (name, 1.0)
        if not weight:
            raise TextError("A text counts nothing", name, "Leave it out, or write a weight above 0")
        found[text] = weight
    return found


def write_mixture(weights: Mapping[str, float]) -> tuple[str, ...]:
    """Return the names with what each counts, where they do not all count 1; `read_mixture` reads them again."""
    if set(weights.values()) <= {1.0}:
        return tuple(weights)
    return tuple(f"{name}@{weight:g}" for name, weight in weights.items())
