"""What an export would write, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.export.changes import Changes
from explorer.export.formats import Format
from explorer.export.tensor_layout import Layout
from explorer.model import LoadedModel

#: Reloads a written folder as a transformers model, in the dtype and on the device of the loaded one.
Reload = Callable[[LoadedModel, Path], Any]

#: Writes into a folder; tells the bytes of weights just written.
Write = Callable[[Path, Callable[[int], None]], None]


@dataclass(frozen=True)
class ExportPlan:
    """What an export would write, before anything is written.

    Args:
        changes: what deltas put into it.
        bytes: of weights to be written.
        reload: loads what was written; None where no weights are.
        loader: who that is, in words.
        lossy: relative change of the perplexity that the target's rounding may make.
        notes: what there is to know of it, a line each: what becomes of changed weights, who does not load it.
        second: another runtime's perplexity of windows of ids, from the folder; None where it is not installed.
        units: in the last place of the largest logit, by which logits may differ.
    """

    format: Format
    layout: Layout
    changes: Changes
    bytes: int
    write: Write
    reload: Reload | None = None
    loader: str = ""
    lossy: float = 0.0
    notes: tuple[str, ...] = ()
    second: Callable[[Path, list[list[int]]], float | None] | None = None
    units: int = 16
