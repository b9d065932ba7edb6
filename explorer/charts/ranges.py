"""What an axis or a colour bar shows: where it ends, what its ticks are, and what lies beyond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

#: Percentiles at which colours end. Low is redundant and looked for: of it hardly anything is left out. The first and
#: the last layers are the other end, and would take most of the colours.
LOWEST, HIGHEST = 1, 95

#: Perplexities beyond this many times the lowest are told apart by the pointer only: they would take most of the axis.
MOST = 1e3

_MOST_TICKS = 6


@dataclass(frozen=True)
class ColourRange:
    """Where colours end.

    Args:
        low, high: values of the first and the last colour.
        below, above: whether there are values beyond them.
    """

    low: float
    high: float
    below: bool = False
    above: bool = False


def find_colours(values: Float[np.ndarray, " *values"]) -> ColourRange:
    """Return the robust range of values: percentiles `LOWEST` and `HIGHEST` of the finite, each a value there is."""
    known = values[np.isfinite(values)]
    if not known.size:
        return ColourRange(0.0, 1.0)
    low = float(np.percentile(known, LOWEST, method="lower"))
    high = float(np.percentile(known, HIGHEST, method="higher"))
    return ColourRange(low, high, bool(known.min() < low), bool(known.max() > high))


def make_colour_bar(found: ColourRange, log: bool = False, apart: float = 0.1) -> dict:
    """Ticks of a colour bar, with "≤" or "≥" at an end beyond which there are values.

    Args:
        found: where the colours end; of common logarithms, if `log`.
        log: write the numbers, not their logarithms.
        apart: how far two ticks have to be from each other, as a share of the bar.
    """
    inner = (
        [math.log10(t) for t in find_log_ticks(10**found.low, 10**found.high)]
        if log
        else _step_through(found.low, found.high)
    )
    spread = (found.high - found.low) or 1.0
    marked = [(found.low, "≤ ")] * found.below + [(found.high, "≥ ")] * found.above
    ticks = list(marked)
    for tick in inner:
        if all(abs(tick - other) > apart * spread for other, _ in ticks):
            ticks.append((tick, ""))
    ticks.sort()
    return {
        "tickvals": [t for t, _ in ticks],
        "ticktext": [sign + (f"{10**t:.2g}" if log else f"{t:.3g}") for t, sign in ticks],
    }


def _step_through(low: float, high: float) -> list[float]:
    """Round numbers from low to high, a few."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(s for s in (step / 5, step / 2, step, 2 * step, 5 * step) if (high - low) / s <= _MOST_TICKS)
    return [round(n * step, 12) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def find_log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a log axis: decades; 1, 2 and 5 where there is less than one; round steps where these are too few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(decades) > 1:
        return decades[:: -(-len(decades) // (_MOST_TICKS + 2))]
    fine = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    fine = [tick for tick in fine if low <= tick <= high]
    return fine if len(fine) > 2 else _step_through(low, high)


def make_log_axis(low: float, high: float) -> dict:
    """A log axis from low to high, with few ticks."""
    ticks = find_log_ticks(low, high)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [_write(tick) for tick in ticks],
    }


def fit_log_axis(values: Sequence[float | None], most: float = math.inf) -> dict:
    """A log axis that values fit on, with a little room; what is not positive and finite is left out.

    Args:
        values: what is shown.
        most: the axis ends at this many times the lowest at the most.
    """
    known = [value for value in values if value is not None and math.isfinite(value) and value > 0]
    low, high = min(known, default=1.0), max(known, default=10.0)
    high = min(high, most * low)
    room = max((high / low) ** 0.05, 1.02)
    return make_log_axis(low / room, high * room)


def clip_to_axis(values: Sequence[float], symbol: str, axis: dict) -> dict:
    """Where dots stand on an axis of `make_log_axis`, and how: what is beyond it is hollow at its upper edge.

    Args:
        values: of the dots.
        symbol: what each is drawn as.
        axis: the axis.

    Returns:
        What a scatter takes: `y`, `hovertext` with the true values, symbols of its `marker`.
    """
    edge = 10.0 ** axis["range"][1]
    beyond = [not value <= edge for value in values]
    return {
        "y": [min(value, edge) for value in values],
        "hovertext": [
            f"perplexity {value:,.2f}" if not out else f"beyond the axis: perplexity {value:,.4g}"
            for value, out in zip(values, beyond, strict=True)
        ],
        "marker": {"symbol": [f"{symbol}-open" if out else symbol for out in beyond]},
        "cliponaxis": not any(beyond),
    }


def _write(value: float) -> str:
    if 1e-4 < value < 1e6:
        return f"{value:,.6g}"
    power = math.floor(math.log10(value) + 1e-9)
    digit = value / 10.0**power
    return (f"{digit:.3g} × " if abs(digit - 1) > 1e-6 else "") + f"10<sup>{power}</sup>".replace("-", "−")
