"""Numbers in words of fixed form."""

from __future__ import annotations

import math

from explorer.evaluation import Score, TokenRate


def describe_bytes(count: float) -> str:
    """Write bytes in decimal units, such as 269.0 MB."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def describe_flops(count: float) -> str:
    """Write operations in decimal units, such as 286.7 MFLOPs."""
    return _scaled(count, ("FLOPs", "kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs"))


def _scaled(count: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == units[0] else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} {units[-1]}"


def describe_perplexity(perplexity: float) -> str:
    """Write a perplexity with two decimals, or in powers of ten where it is beyond reading."""
    if math.isinf(perplexity):
        return "∞"
    return f"{perplexity:,.2f}" if perplexity < 1e5 else f"{perplexity:.2e}"


def describe_score(score: Score) -> str:
    """Write a score's perplexity, or that the model's arithmetic overflowed, and where."""
    return str(score.overflow) if score.overflow else describe_perplexity(score.perplexity)


def describe_speed(speed: TokenRate | None) -> str:
    """Write decoded tokens a second, if they were measured undisturbed."""
    return "–" if speed is None else f"{speed.median:.1f}"


def describe_interval(interval: tuple[float, float] | None) -> str:
    """Write a 95% interval of perplexities."""
    if interval is None:
        return "no interval from a single window"
    return f"95% interval {describe_perplexity(interval[0])} to {describe_perplexity(interval[1])}"


def describe_seconds(seconds: float) -> str:
    """Write a duration as one number that one believes, such as 40 s or 3 min."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
