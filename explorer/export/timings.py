"""How fast the whole model and what was written read and decode, side by side: records, and a table of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from explorer.evaluation import TokenRate


@dataclass(frozen=True)
class Timing:
    """How fast the whole model and what was written read a context, and decode after it, in one program.

    Args:
        runtime: the program, with its version.
        batch: texts at once.
        context: tokens of each before what is decoded.
        prefill, decode: of the whole model, and of what was written.
    """

    runtime: str
    batch: int
    context: int
    prefill: tuple[TokenRate, TokenRate]
    decode: tuple[TokenRate, TokenRate]


@dataclass(frozen=True)
class Benchmark:
    """Timings, and the machine that they were taken on."""

    machine: str
    timings: tuple[Timing, ...]

    def describe(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        return asdict(self)


def describe_timings(benchmark: Benchmark) -> list[str]:
    """Return the lines of a table, in Markdown."""
    head = ["program", "texts", "context", "reads, tokens/s", "times", "decodes, tokens/s", "times"]
    rows = [
        [each.runtime, str(each.batch), str(each.context), *_compare(*each.prefill), *_compare(*each.decode)]
        for each in benchmark.timings
    ]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _compare(whole: TokenRate, written: TokenRate) -> tuple[str, str]:
    def tell(rate: TokenRate) -> str:
        return f"{rate.median:.1f} ({rate.interval[0]:.1f} to {rate.interval[1]:.1f})"

    return f"{tell(whole)} -> {tell(written)}", f"{written.median / whole.median:.2f}"
