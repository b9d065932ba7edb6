"""What a figure was made of, in a sentence: model, text, tokens, version of the program."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from explorer import __version__
from explorer.deltas import write_modifiers
from explorer.execution import View


def write_caption(shows: str, view: View | None) -> str:
    """Write the caption of a figure.

    Args:
        shows: what it shows, in words.
        view: what it was made of, if that is known.
    """
    shown = shows.partition("; the table has")[0].rstrip(" .,;")
    made = [] if view is None else _list_sources(view)
    program = f"Layer Redundancy Explorer {__version__}" + (f", commit {commit}" if (commit := find_commit()) else "")
    return f"{shown} ({'; '.join([*made, program])})."


def _list_sources(view: View) -> list[str]:
    kept = [f"model {view.model}", f"text {view.text}", f"{view.tokens:,} tokens in windows of {view.window}"]
    kept += [f"quantized to {view.quantize}"] if view.quantize != "none" else []
    kept += [f"calibrated on {view.calibration}"] if view.calibration else []
    kept += [f"without {view.mask}"] if view.mask else []
    kept += [f"recovered by {write_modifiers(view.modify)}"] if view.recovers else []
    return kept


@cache
def find_commit() -> str:
    """Return the commit of the program, shortened; empty where it is not a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=10", "HEAD"],
            capture_output=True, text=True, check=True, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
