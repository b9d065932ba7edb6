"""LoadedModel, Corpus -> [Importance]: what is lost, and how far predictions move, without each layer and site."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from explorer.evaluation import Divergence, measure_divergence
from explorer.masks import NONE, find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.importance import Importance
from explorer.measures.measure_type import Measure, MeasureSetting
from explorer.numerics import excess_loss

_Windows = Float64[np.ndarray, " windows"]


def _take_loss(setting: MeasureSetting) -> list[Importance]:
    """Nats a token lost without each unit: the first step of a greedy search, and Shortened LLaMA's perplexity."""
    loaded, corpus = setting.loaded, setting.corpus
    losses = make_loss_function(loaded, corpus, setting.store, progress=setting.progress, base=setting.variant)
    units = {unit: find_units(loaded.n_layers, unit) for unit in setting.units}
    masks = [NONE, *(mask for each in units.values() for mask in each)]
    baseline, *others = losses(masks, slice(0, len(corpus.calibration)))
    lost = dict(zip(masks[1:], excess_loss(np.array(others), baseline) / (corpus.window - 1), strict=True))
    return [_from_windows("loss", unit, np.stack([lost[mask] for mask in each])) for unit, each in units.items()]


def _take_divergence(setting: MeasureSetting) -> list[Importance]:
    """KL divergence, logit distance and disagreement without each unit, from one pass a mask."""
    loaded, progress = setting.loaded, setting.progress
    units = {unit: find_units(loaded.n_layers, unit) for unit in setting.units}
    masks = [mask for each in units.values() for mask in each]
    variants = [setting.variant.without(mask) for mask in masks]
    compared = measure_divergence(
        loaded, setting.corpus, variants, setting.store, "calibration", progress, baseline=setting.variant
    )
    found = dict(zip(masks, compared, strict=True))
    return [
        _from_windows(name, unit, np.stack([read(found[mask]) for mask in each]))
        for name, read in (("kl", _read_kl), ("logit-l2", _read_logit_l2), ("disagreement", _read_disagreement))
        for unit, each in units.items()
    ]


def _read_kl(found: Divergence) -> _Windows:
    return found.kl / found.tokens


def _read_logit_l2(found: Divergence) -> _Windows:
    return found.logit_l2 / found.tokens


def _read_disagreement(found: Divergence) -> _Windows:
    return 1 - found.top1_matches / found.tokens


def _from_windows(name: str, unit: str, rows: Float64[np.ndarray, "layers windows"]) -> Importance:
    """Make an importance of the values of each window."""
    return Importance(name, unit, rows.mean(axis=1), rows.T)


_NATS = "nats a token"


def _define(name: str, label: str, source: str, formula: str, unit_of: str = "") -> Measure:
    function = _take_divergence
    return Measure(name, label, "divergence", source, formula, function, "logits", "a pass a mask", unit_of=unit_of)


LOSS = Measure(
    "loss", "Loss without it", "damage", "Shortened LLaMA, arXiv:2402.02834; BlockPruner, arXiv:2406.10594",
    r"$L_{-i} - L$, L the mean loss of a predicted token, $L_{-i}$ the same without it",
    _take_loss, "logits", "a pass a mask", unit_of=_NATS,
)  # fmt: skip
KL = _define(
    "kl", "KL from the unpruned model", "Kullback and Leibler, Annals of Mathematical Statistics 22, 1951",
    r"$\mathbb{E} \sum p \ln (p / p_{-i})$, p the next-token distribution, $p_{-i}$ the same without it", _NATS,
)  # fmt: skip
LOGIT_L2 = _define(
    "logit-l2", "Logit distance", "Siddiqui et al., arXiv:2407.16286",
    r"$\mathbb{E} \, \lVert z - z_{-i} \rVert_2$, z the logits of a token, $z_{-i}$ the same without it",
)  # fmt: skip
DISAGREEMENT = _define(
    "disagreement", "Top-1 disagreement", "no paper: a share of tokens",
    r"$\mathbb{E} \, [\arg\max p \ne \arg\max p_{-i}]$, p the next-token distribution, $p_{-i}$ the same without it",
)  # fmt: skip
