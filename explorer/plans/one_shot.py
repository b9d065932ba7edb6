"""Methods that rank once by a measure, and remove in that order; some can measure again after each removal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from explorer.masks import NONE, Mask
from explorer.plans.cumulative_masks import accumulate_masks
from explorer.plans.method import ITERATIVE, SEED, UNITS, Method, Option, Planner

_Choose = Callable[[Planner], tuple[Mask, ...]]


def rank_by(measure: str) -> _Choose:
    """Return what removes the most redundant first, by a name in `MEASURES`."""
    return lambda planner: planner.follow(accumulate_masks(planner.rank(measure)))


def _choose_by_influence(planner: Planner) -> tuple[Mask, ...]:
    if planner.iterative:
        return planner.follow(_measure_again(planner))
    return rank_by("block-influence")(planner)


def _measure_again(planner: Planner) -> Iterator[Mask]:
    """Remove the unit of least block influence, and measure the rest again under what is off (LLM-Drop)."""
    mask, left = NONE, list(planner.units)
    yield mask
    while left:
        left.remove(least := planner.find_least_influence(left, mask))
        yield (mask := mask | least)


def _choose_by_loss(planner: Planner) -> tuple[Mask, ...]:
    """Rank by the loss without each; measured again after each removal this is a greedy search without races."""
    return planner.search(confidence=1.0).greedy().masks if planner.iterative else rank_by("loss")(planner)


def _by_influence(name: str, label: str, source: str, units: tuple[str, ...]) -> Method:
    return Method(name, label, source, units, _choose_by_influence, "hidden states", "one pass", (ITERATIVE,))


_DROP, _SHORTENED = "LLM-Drop, arXiv:2406.15786", "Shortened LLaMA, arXiv:2402.02834"

BLOCK_INFLUENCE = _by_influence("block-influence", "Block influence", "ShortGPT, arXiv:2403.03853", UNITS)
ATTENTION_DROP = _by_influence("attention-drop", "Attention drop", _DROP, ("attention",))
MLP_DROP = _by_influence("mlp-drop", "MLP drop", _DROP, ("mlp",))
JOINT_DROP = _by_influence("joint-drop", "Joint drop", _DROP, ("site",))
LEAVE_ONE_OUT = Method(
    "leave-one-out", "Leave one out", _SHORTENED, UNITS, _choose_by_loss, "logits", "a pass a mask", (ITERATIVE,)
)
TAYLOR = Method("taylor", "Taylor", _SHORTENED, UNITS, rank_by("taylor"), "gradients", "two passes")
MAGNITUDE = Method("magnitude", "Magnitude", _SHORTENED, UNITS, rank_by("magnitude"), "weights", "no pass")
ENTROPY = Method(
    "entropy", "Entropy", "EntroDrop, arXiv:2504.03794", UNITS, rank_by("entropy"), "hidden states", "one pass"
)
COALITION = Method(
    "coalition", "Coalition", "Siddiqui et al., arXiv:2407.16286", UNITS,
    rank_by("coalition"), "logits", "a pass a mask", (SEED,),
)  # fmt: skip
SHAPLEY = Method(
    "shapley", "Shapley", "Castro et al. 2009, after Siddiqui et al.", UNITS,
    rank_by("shapley"), "logits", "a pass a mask", (SEED, Option("width", "permutations drawn")),
)  # fmt: skip
