"""A table of what is compared -> Markdown, LaTeX, CSV; the best of each row is bold. Imports no Streamlit."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "–": "--", "−": "$-$", "∞": r"$\infty$",
}  # fmt: skip
_MARKDOWN = frozenset("\\`*_{}[]<>()#+!|~$&")


@dataclass(frozen=True)
class Line:
    """A row of a table: one quantity of every variant.

    Args:
        label: what it is.
        cells: in words, a variant each.
        values: the same as numbers, None where there is none; empty for what is no number.
        lowest: whether the lowest value is the best; None where none is.
    """

    label: str
    cells: tuple[str, ...]
    values: tuple[float | None, ...] = ()
    lowest: bool | None = None

    @property
    def best(self) -> tuple[bool, ...]:
        """Which of the cells are the best, but for the first, which is what they are held against.

        None is where all are equal.
        """
        known = [value for value in self.values[1:] if value is not None and math.isfinite(value)]
        if self.lowest is None or len(set(known)) < 2:
            return (False,) * len(self.cells)
        wanted = min(known) if self.lowest else max(known)
        return False, *(value == wanted for value in self.values[1:])


def write_markdown(names: Sequence[str], lines: Sequence[Line]) -> str:
    """Write the table as Markdown."""
    rows = [["", *map(escape_markdown, names)], ["---", *["---:"] * len(names)]]
    for line in lines:
        cells = [
            f"**{escape_markdown(cell)}**" if best else escape_markdown(cell)
            for cell, best in zip(line.cells, line.best, strict=True)
        ]
        rows.append([escape_markdown(line.label), *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_latex(names: Sequence[str], lines: Sequence[Line]) -> str:
    """Write the table as LaTeX, with the rules of the package booktabs."""
    head = " & ".join(["", *map(escape_latex, names)])
    written = [rf"\begin{{tabular}}{{l{'r' * len(names)}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    for line in lines:
        cells = [
            rf"\textbf{{{escape_latex(cell)}}}" if best else escape_latex(cell)
            for cell, best in zip(line.cells, line.best, strict=True)
        ]
        written.append(rf"{' & '.join([escape_latex(line.label), *cells])} \\")
    return "\n".join([*written, r"\bottomrule", r"\end{tabular}", ""])


def write_comparison_csv(names: Sequence[str], lines: Sequence[Line]) -> str:
    """Write the table as CSV, a variant a row; numbers in full."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["variant", *(line.label for line in lines)])
    for place, name in enumerate(names):
        writer.writerow([name, *((line.values or line.cells)[place] for line in lines)])
    return file.getvalue()


def escape_latex(text: str) -> str:
    """Write text so that LaTeX sets it as it is, in one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Write text so that Markdown shows it as it is, in one cell of a table."""
    return "".join(f"\\{letter}" if letter in _MARKDOWN else letter for letter in " ".join(text.split()))
