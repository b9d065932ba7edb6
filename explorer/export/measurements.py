"""LoadedModel, Mask, Corpus -> what is known of an export: scores, costs, speed, and how the reloaded copy compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.evaluation import DecodeSpeed, Score, measure_decode_speed
from explorer.masks import NONE, Mask
from explorer.model import Costs, LoadedModel, count_parameters
from explorer.numerics import Interval
from explorer.progress import Progress, unreported
from explorer.text import Corpus


@dataclass(frozen=True)
class Verification:
    """How the reloaded checkpoint compares with the masked model on the held-out windows.

    Args:
        loader: what reloaded it, in words.
        llama_cpp: perplexity by llama.cpp, where it is installed and the target is for it.
    """

    max_abs_logit_difference: float
    perplexity_masked: float
    perplexity_reloaded: float
    loader: str
    llama_cpp: float | None = None


@dataclass(frozen=True)
class ExportMeasurements:
    """What was measured around an export.

    Args:
        score: of the mask, on the held-out windows, beside the unpruned model.
        before, after: costs of the whole model, and of what is written.
        speed_before, speed_after: how fast the same decode, by this program; None where other work came in between.
        proof: None for a target without weights.
    """

    score: Score
    before: Costs
    after: Costs
    speed_before: DecodeSpeed | None
    speed_after: DecodeSpeed | None
    proof: Verification | None

    def describe(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        score, speeds = self.score, (self.speed_before, self.speed_after)
        return {
            "perplexity": _pair(score.unpruned.perplexity, score.perplexity),
            "perplexity_ci95": _pair(score.unpruned.perplexity_ci95, score.perplexity_ci95),
            "delta_nll_per_token": score.delta_nll_per_token,
            "delta_ci95": score.delta_ci95,
            "tokens": score.n_tokens,
            "parameters": _pair(self.before.parameters, self.after.parameters),
            "bytes": _pair(self.before.bytes, self.after.bytes),
            "kv_bytes_per_token": _pair(self.before.kv_bytes_per_token, self.after.kv_bytes_per_token),
            "tokens_per_second": _pair(*(None if each is None else each.median for each in speeds)),
            "tokens_per_second_ci95": _pair(*(None if each is None else each.interval for each in speeds)),
            "verify": describe_proof(self.proof),
        }


def describe_proof(proof: Verification | None) -> dict[str, Any] | None:
    """Return a proof's figures, for JSON."""
    if proof is None:
        return None
    return {
        "max_abs_logit_difference": proof.max_abs_logit_difference,
        "perplexity_masked": proof.perplexity_masked,
        "perplexity_reloaded": proof.perplexity_reloaded,
        "loader": proof.loader,
        "perplexity_llama_cpp": proof.llama_cpp,
    }


def _pair(before: float | Interval | None, after: float | Interval | None) -> dict[str, Any]:
    return {"before": before, "after": after}


def gather(
    loaded: LoadedModel,
    corpus: Corpus,
    score: Score,
    written: Mask,
    proof: Verification | None,
    progress: Progress = unreported,
) -> ExportMeasurements:
    """Count costs and time generation, of the whole model and of what is written; a streamed model is not timed."""
    cost_model = count_parameters(loaded.model, loaded.architecture)
    before, after = (cost_model.costs(mask, corpus.window) for mask in (NONE, written))
    slow, fast = (None, None) if loaded.spec.stream else measure_decode_speed(loaded, [NONE, written], progress)
    return ExportMeasurements(score, before, after, slow, fast, proof)
