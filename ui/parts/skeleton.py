"""The outline of a page whose model is still on its way: what will be where."""

from __future__ import annotations

import streamlit as st

#: Page -> its rows: height in pixels, and what will be beside each other in it.
OUTLINES: dict[str, tuple[tuple[int, tuple[str, ...]], ...]] = {
    "analyse": ((420, ("Angular distance over every block of layers",)), (110, ("Block influence",))),
    "explore": (
        (300, ("Blocks of layers, attention and MLPs, layer by layer", "Perplexity, and what is saved")),
        (140, ("Perplexity along the plan, and the slider",)),
        (160, ("Original text", "Pruned text")),
    ),
    "plans": (
        (360, ("Perplexity against what each plan removes",)),
        (240, ("KL divergence and top-1 agreement",)),
        (160, ("What goes first",)),
    ),
    "heal": ((120, ("How to train, on which text, for how long",)), (320, ("Loss and perplexity, step by step",))),
    "sparsity": ((120, ("Which zeros",)), (320, ("Perplexity against bytes",))),
    "compare": ((320, ("Perplexity against a cost, of all that was tried",)), (240, ("Variants",))),
    "evaluate": ((320, ("Accuracy against what each plan removes",)), (300, ("Perplexity on the same axis",))),
    "export": ((420, ("What for: targets, and what each saves",)), (110, ("Size, free disk, the proof",))),
}


def draw_skeleton(page: str) -> None:
    """Draw the outline of a page."""
    rows = (
        f'<div style="height: {height}px">' + "".join(f"<span>{title}</span>" for title in titles) + "</div>"
        for height, titles in OUTLINES.get(page, ())
    )
    st.html(f'<div class="skeleton" aria-hidden="true">{"".join(rows)}</div>')
