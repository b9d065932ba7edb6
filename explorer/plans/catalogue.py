"""The published ways to choose what to remove, as data: their names, sources, and what they can rank."""

from __future__ import annotations

from dataclasses import dataclass

UNITS = ("layer", "attention", "mlp", "site")
CRITERIA = ("perplexity", "kl", "logit-l2")


@dataclass(frozen=True)
class Method:
    """A way to choose what to remove.

    Args:
        label: its name on a figure.
        units: what it can rank; the first is the paper's.
        source: where it was published.
        iterative: whether it can measure again after each removal.
        search: whether it scores masks, one removal after another.
    """

    label: str
    units: tuple[str, ...]
    source: str
    iterative: bool = False
    search: bool = False


_LAYERS_FIRST, _SITES_FIRST = UNITS, ("site", "layer", "attention", "mlp")
_GROMOV, _DROP = "Gromov et al., arXiv:2403.17887", "LLM-Drop, arXiv:2406.15786"
_SHORTENED = "Shortened LLaMA, arXiv:2402.02834"

METHODS: dict[str, Method] = {
    "deepest": Method("Deepest", ("layer",), _GROMOV),
    "similarity-block": Method("Similarity block", ("layer",), _GROMOV),
    "block-influence": Method("Block influence", _LAYERS_FIRST, "ShortGPT, arXiv:2403.03853", True),
    "attention-drop": Method("Attention drop", ("attention",), _DROP, True),
    "mlp-drop": Method("MLP drop", ("mlp",), _DROP, True),
    "joint-drop": Method("Joint drop", ("site",), _DROP, True),
    "leave-one-out": Method("Leave one out", _LAYERS_FIRST, _SHORTENED, True),
    "taylor": Method("Taylor", _LAYERS_FIRST, _SHORTENED),
    "magnitude": Method("Magnitude", _LAYERS_FIRST, _SHORTENED),
    "coalition": Method("Coalition", _LAYERS_FIRST, "Siddiqui et al., arXiv:2407.16286"),
    "shapley": Method("Shapley", _LAYERS_FIRST, "Castro et al. 2009, after Siddiqui et al."),
    "greedy": Method("Greedy", _SITES_FIRST, "BlockPruner, arXiv:2406.10594", search=True),
    "beam": Method("Beam", _SITES_FIRST, "beam search over masks", search=True),
    "evolve": Method("Evolve", _SITES_FIRST, "EvoPress, arXiv:2410.14649", search=True),
    "random": Method("Random", _LAYERS_FIRST, "baseline"),
}
