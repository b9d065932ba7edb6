"""What is written below a figure."""

from __future__ import annotations

from dataclasses import replace

from explorer.deltas import read_modifiers
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from ui.parts.captions import find_commit, write_caption


def test_a_caption_says_what_a_figure_was_made_of() -> None:
    view = View("llama", "c4", 2048, 256, "float32", "cpu", "nf4", Mask.parse("3"), modify=read_modifiers("refit"))
    view = replace(view, calibration="wikitext2")
    said = write_caption("Loss by layer; the table has them.", view)
    assert said.startswith("Loss by layer (model llama; text c4; 2,048 tokens in windows of 256; quantized to nf4; ")
    assert "; calibrated on wikitext2; without 3; recovered by refit; Layer Redundancy Explorer " in said
    assert said.endswith(f", commit {commit})." if (commit := find_commit()) else ").")
    plain = write_caption("Loss.", replace(view, mask=NONE, quantize="none", calibration=""))
    assert "without" not in plain
    assert "recovered" not in plain
    assert write_caption("Loss.", None).startswith("Loss (Layer Redundancy Explorer ")
