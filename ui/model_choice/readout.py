"""The key number: perplexity, its interval, and the difference from the unpruned model."""

from __future__ import annotations

import streamlit as st

from explorer.evaluation import Estimate, Score
from explorer.execution import Job
from ui.live import describe_progress, follow, ready
from ui.parts import define, describe_interval, describe_perplexity, describe_score


def draw_readout(job: Job, label: str) -> None:
    """Draw a score job as one large number: an estimate as soon as there is one, then what was measured."""
    follow([job], lambda: _draw(job, label))


def _draw(job: Job, label: str) -> None:
    if job.active and isinstance(job.partial, Estimate):
        _draw_estimate(job.partial, label)
    elif job.active:
        st.metric(label, "…")
        st.caption(describe_progress(job))
    elif ready(job):
        _draw_score(job.result, label)


def _draw_estimate(estimate: Estimate, label: str) -> None:
    st.metric(label, f"≈ {describe_perplexity(estimate.perplexity)}")
    lines = [] if estimate.perplexity_ci95 is None else [describe_interval(estimate.perplexity_ci95)]
    lines.append(f"estimate from {len(estimate.score.nll)} of {estimate.n_windows} windows")
    st.caption("  \n".join(lines))


def _draw_score(score: Score, label: str) -> None:
    st.metric(label, describe_score(score), help=define("perplexity", "interval", "held-out", "bits per byte", "nat"))
    if score.overflow:
        st.caption("Numbers beyond the range of this precision: load the model in bfloat16 or float32.")
        return
    lines = [describe_interval(score.perplexity_ci95)]
    if score.mask and not score.baseline_overflow:
        delta = f"{score.delta_nll_per_token:+.4f} nats a token"
        if paired := score.delta_ci95:
            delta += f" [{paired[0]:+.4f}, {paired[1]:+.4f}]"
        lines.append(f"{delta} against {describe_perplexity(score.unpruned.perplexity)}")
    lines.append(f"{score.bits_per_byte:.4f} bits per byte, measured on {score.n_tokens:,} held-out tokens")
    st.caption("  \n".join(lines))
