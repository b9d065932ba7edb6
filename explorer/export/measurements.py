"""LoadedModel, Variant, Corpus -> what is known of an export: scores, costs, speed, how the reloaded copy compares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from torch import nn

from explorer.deltas import Delta, Variant
from explorer.evaluation import Recovered, Score, TokenRate, find_recovered, measure_decode_speed
from explorer.export.changes import Changes
from explorer.export.draft import Drafting
from explorer.export.export_plan import ExportPlan
from explorer.export.timings import Benchmark
from explorer.masks import NONE, Mask
from explorer.model import CostModel, Costs, LoadedModel, count_parameters
from explorer.numerics import Interval
from explorer.progress import Progress, unreported
from explorer.sparsity import ZeroCounts
from explorer.text import Corpus


@dataclass(frozen=True)
class Verification:
    """How the reloaded checkpoint compares with the variant in memory on the held-out windows.

    Args:
        loader: what reloaded it, in words.
        same_tokens: how many of ten written on greedily, with a cache, are the same: all but where two are as likely as
            rounding can tell; None where weights are rounded, or the model is streamed.
        llama_cpp: perplexity by llama.cpp, where it is installed and the target is for it.
        zeros: those that modifiers put into matrices, all of them zeros in the file; None if none did.
    """

    max_abs_logit_difference: float
    perplexity_masked: float
    perplexity_reloaded: float
    loader: str
    same_tokens: int | None = None
    llama_cpp: float | None = None
    zeros: ZeroCounts | None = None


@dataclass(frozen=True)
class ExportMeasurements:
    """What was measured around an export.

    Args:
        score: of the variant, on the held-out windows, beside the unpruned model.
        before_each: before each delta: of the mask alone, then of that with one delta more.
        before, after: costs of the whole model, and of what is written.
        speed_before, speed_after: how fast the same decode, by this program; None where other work came in between.
        proof: None for a target without weights.
        draft: what it is worth as a draft; None for another target.
        benchmark: how fast both are when they are reloaded; None where that was not asked for.
    """

    score: Score
    before_each: tuple[Score, ...]
    before: Costs
    after: Costs
    speed_before: TokenRate | None
    speed_after: TokenRate | None
    proof: Verification | None
    draft: Drafting | None = None
    benchmark: Benchmark | None = None

    @property
    def cost(self) -> float | None:
        """Seconds a token of what is written over the whole model's; None where that was not timed."""
        slow, fast = self.speed_before, self.speed_after
        return slow.median / fast.median if slow and fast else None

    @property
    def pruned(self) -> Score | None:
        """Of the mask alone; None where nothing is changed."""
        return self.before_each[0] if self.before_each else None

    @property
    def losses(self) -> list[tuple[float, float]]:
        """Mean nats a held-out token before and after each delta."""
        nats = [each.total_nll / each.n_tokens for each in (*self.before_each, self.score)]
        return list(pairwise(nats))

    @property
    def recovered(self) -> Recovered | None:
        """How much of what the mask alone costs is won back; None where nothing is changed."""
        return None if self.pruned is None else find_recovered(self.pruned, self.score)

    def describe(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        score, speeds, won = self.score, (self.speed_before, self.speed_after), self.recovered
        return {
            "perplexity": _pair(score.unpruned.perplexity, score.perplexity),
            "perplexity_ci95": _pair(score.unpruned.perplexity_ci95, score.perplexity_ci95),
            "perplexity_pruned": None if self.pruned is None else self.pruned.perplexity,
            "losses": self.losses,
            "recovered": won and won.share,
            "recovered_ci95": won and won.interval,
            "delta_nll_per_token": score.delta_nll_per_token,
            "delta_ci95": score.delta_ci95,
            "tokens": score.n_tokens,
            "parameters": _pair(self.before.parameters, self.after.parameters),
            "bytes": _pair(self.before.bytes, self.after.bytes),
            "kv_bytes_per_token": _pair(self.before.kv_bytes_per_token, self.after.kv_bytes_per_token),
            "tokens_per_second": _pair(*(None if each is None else each.median for each in speeds)),
            "tokens_per_second_ci95": _pair(*(None if each is None else each.interval for each in speeds)),
            "verify": describe_proof(self.proof),
            "draft": self.draft and self.draft.describe(),
            "benchmark": self.benchmark and self.benchmark.describe(),
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
        "same_tokens": proof.same_tokens,
        "perplexity_llama_cpp": proof.llama_cpp,
        "zeros": proof.zeros and proof.zeros.describe(),
    }


def tell_text(proof: Verification) -> str:
    """Say, as a further sentence, how much of the text is the same; nothing where none was compared."""
    same = proof.same_tokens
    return "" if same is None else f" Written greedily, with a cache, {same} tokens are the same."


def _pair(before: float | Interval | None, after: float | Interval | None) -> dict[str, Any]:
    return {"before": before, "after": after}


def gather(
    loaded: LoadedModel,
    corpus: Corpus,
    measured: Score,
    before_each: Sequence[Score],
    planned: ExportPlan,
    variant: Mask | Variant,
    proof: Verification | None,
    progress: Progress = unreported,
) -> ExportMeasurements:
    """Count costs and time generation, of the whole model and of what is written; a streamed model is not timed.

    Args:
        loaded: the model.
        corpus: whose windows were scored.
        measured: the score of the variant.
        before_each: those before each of its deltas.
        planned: what is written.
        variant: what is off, and changed.
        proof: how what was written compares.
        progress: told what is timed.
    """
    written = planned.layout.written
    cost_model = count_parameters(loaded.model, loaded.architecture)
    before, after = (cost_model.costs(mask, corpus.window) for mask in (NONE, written))
    after = _adjust(after, cost_model, loaded, planned)
    timed = [NONE, _standing(variant, planned.changes) or written]
    slow, fast = (None, None) if loaded.spec.stream else measure_decode_speed(loaded, timed, progress)
    return ExportMeasurements(measured, tuple(before_each), before, after, slow, fast, proof)


def _adjust(costs: Costs, cost_model: CostModel, loaded: LoadedModel, planned: ExportPlan) -> Costs:
    """Return costs under a mask as they are with what stands in: its numbers, their bytes, two operations a number.

    The norms that it replaces are left out, and of a layer that stays for it alone the norms stay.
    """
    layout, layers = planned.layout, loaded.wrappers.layers
    tensors = [tensor for each in planned.changes.stand_ins.values() for tensor in each.tensors.values()]
    replaced = [
        parameter
        for site, norms in layout.site_norms.items()
        for norm in norms
        for parameter in layers[site.layer].get_submodule(norm).parameters()
    ]
    numbers = planned.changes.parameters_added - sum(parameter.numel() for parameter in replaced)
    nbytes = sum(tensor.nbytes for tensor in tensors) - sum(parameter.nbytes for parameter in replaced)
    for counts, sizes in ((cost_model.layers[layer], cost_model.layer_bytes[layer]) for layer in layout.stays):
        numbers += counts[2] - counts[0] - counts[1]
        nbytes += sizes[2] - sizes[0] - sizes[1]
    heads = planned.changes.own_head.values()  # multiplied before, as the embedding
    cut, cut_bytes, cut_products = _count_cut(loaded, planned)
    return replace(
        costs,
        parameters=costs.parameters + numbers + sum(head.numel() for head in heads) - cut,
        bytes=costs.bytes + nbytes + sum(head.nbytes for head in heads) - cut_bytes,
        flops_per_token=costs.flops_per_token + 2 * (numbers - cut_products),
    )


def _count_cut(loaded: LoadedModel, planned: ExportPlan) -> tuple[int, int, int]:
    """Count what is cut off tensors outside of the layers: numbers, their bytes, and those of them that multiply."""
    numbers = nbytes = products = 0
    for name, cut in planned.layout.cuts.items():
        module = loaded.model.get_submodule(name.rpartition(".")[0])
        gone = math.prod(cut.shape) - math.prod(cut.written)
        numbers += gone
        nbytes += gone * loaded.model.get_parameter(name).itemsize
        products += 0 if isinstance(module, nn.Embedding) else gone
    return numbers, nbytes, products


def _standing(variant: Mask | Variant, changes: Changes) -> Variant | None:
    """Return a variant with nothing but what stands in, for weights that are changed in turns would take time.

    None where nothing stands in.
    """
    if not changes.stand_ins:
        return None
    origin = replace(variant.deltas[-1].origin, below=())
    return Variant(variant.mask, (Delta(origin, {}, changes.stand_ins),))
