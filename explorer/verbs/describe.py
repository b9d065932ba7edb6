"""What several verbs answer with: a text as it was cut, a score with its intervals."""

from __future__ import annotations

from typing import Any

from explorer.evaluation import Score
from explorer.text import Corpus


def describe_corpus(made: Corpus) -> dict[str, Any]:
    """Describe a text and how it was cut."""
    return {
        "name": made.name,
        "digest": made.digest,
        "window": made.window,
        "tokens": made.tokens,
        "protocol": made.protocol,
        "calibration": {"name": made.calibration_name, "digest": made.calibration.digest},
    }


def describe_score(found: Score) -> dict[str, Any]:
    """Describe a score with its intervals."""
    return {
        "mask": str(found.mask),
        "variant": str(found.variant),
        "perplexity": found.perplexity,
        "perplexity_ci95": found.perplexity_ci95,
        "overflow": found.overflow and {"dtype": found.overflow.dtype, "layer": found.overflow.layer},
        "nll": found.total_nll,
        "tokens": found.n_tokens,
        "bits_per_byte": found.bits_per_byte,
        "delta_nll_per_token": found.delta_nll_per_token,
        "delta_ci95": found.delta_ci95,
        "window_nll": found.nll,
    }
