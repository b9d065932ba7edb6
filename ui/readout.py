"""The key number: perplexity, its interval, and the difference from the unpruned model."""

from __future__ import annotations

import streamlit as st

from explorer.records import Score
from ui.figures import describe_perplexity
from ui.jobs import Job
from ui.waiting import ready


def draw_readout(job: Job, label: str) -> None:
    """Draw a score job as one large number, or how far it is."""
    if not ready(job):
        return
    score: Score = job.result
    st.metric(label, describe_perplexity(score.perplexity), border=False)
    st.caption("  \n".join(_describe(score)))


def _describe(score: Score) -> list[str]:
    lines = []
    if interval := score.perplexity_ci95:
        lines.append(f"95% interval {describe_perplexity(interval[0])} to {describe_perplexity(interval[1])}")
    if score.mask:
        delta = (
            f"{score.delta_nats_per_token:+.4f} nats a token against {describe_perplexity(score.unpruned.perplexity)}"
        )
        if paired := score.delta_ci95:
            delta += f" [{paired[0]:+.4f}, {paired[1]:+.4f}]"
        lines.append(delta)
    lines.append(f"{score.bits_per_byte:.4f} bits per byte, measured on {score.n_tokens:,} held-out tokens")
    return lines
