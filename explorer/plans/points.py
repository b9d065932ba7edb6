"""What was measured of a model -> points of held-out perplexity, bytes and multiplications, and which are the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from explorer.deltas import ModifierSpec
from explorer.evaluation import Measured, Score, list_measured
from explorer.masks import NONE, Mask
from explorer.model import CostModel, Costs, LoadedModel, count_parameters
from explorer.sparsity import read_layers
from explorer.storage import Store
from explorer.text import Corpus

#: Bits of a weight by how it is quantized, scales left out; of one that is not, its dtype's.
_BITS = {"int8": 8, "nf4": 4}


@dataclass(frozen=True)
class Point:
    """A variant of a model in so many bits.

    Args:
        mask: what is off.
        modifiers: what made its deltas, in order.
        bits: of a weight, their mean over the layers that are on.
        bytes: of the weights, were zeros not stored, scales of a quantization left out.
        multiplications: for one more token at the end of a window, were those by zero not made.
        perplexity: on held-out windows; None where it was not measured.
        quantize: how the model was loaded when it was.
        score: that perplexity with all that belongs to it.
        costs: of the variant, numbers that stand in among its parameters, zeros counted as any other.
    """

    mask: Mask
    modifiers: tuple[ModifierSpec, ...]
    bits: float
    bytes: float
    multiplications: float
    perplexity: float | None
    quantize: str = "none"
    score: Score | None = field(default=None, compare=False, repr=False)
    costs: Costs | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        made = [*([str(self.mask)] if self.mask else []), *map(str, self.modifiers)]
        return " + ".join([*(made or ["unpruned"]), f"{self.bits:g} bits"])


def find_half(n_layers: int) -> Mask:
    """Return half of the layers, the deepest but for the last, as Gromov et al., arXiv:2403.17887, remove them."""
    return Mask.of_layers(range(n_layers - 1 - n_layers // 2, n_layers - 1))


def make_point(
    cost_model: CostModel,
    context: int,
    bits: float,
    mask: Mask = NONE,
    modifiers: tuple[ModifierSpec, ...] = (),
    zeros: int = 0,
    added: int = 0,
    perplexity: float | None = None,
) -> Point:
    """Calculate what a variant takes.

    Of experts that a token is not sent to no multiplication is counted; zeros are as frequent in them as in the others.

    Args:
        cost_model: of the model.
        context: tokens before the next one.
        bits: of a weight.
        mask, modifiers: the variant.
        zeros: entries of its matrices that are zero.
        added: numbers in what stands in.
        perplexity: if it was measured.
    """
    costs, alone = cost_model.costs(mask, context), cost_model.costs(mask, 0).flops_per_token / 2
    left = 1 - zeros / max(costs.parameters - cost_model.embedding_parameters, 1)
    multiplications = costs.flops_per_token / 2 - alone * (1 - left) + added
    return Point(mask, modifiers, bits, (costs.parameters + added - zeros) * bits / 8, multiplications, perplexity)


def find_bits(modifiers: Sequence[ModifierSpec], mask: Mask, n_layers: int, own: float) -> float:
    """Return the mean bits of a weight over the layers that are on, some of which a modifier may have rounded."""
    bits = dict.fromkeys(set(range(n_layers)) - mask.whole_layers, own)
    for options in (dict(spec.options) for spec in modifiers if spec.name == "round"):
        layers = read_layers(options.get("layers", "all"), n_layers)
        bits |= dict.fromkeys(bits.keys() & set(layers), float(options.get("bits", "4")))
    return sum(bits.values()) / len(bits) if bits else own


def make_measured_point(cost_model: CostModel, context: int, measured: Measured, own: float) -> Point:
    """Calculate what a variant takes that was measured.

    Args:
        cost_model: of the model.
        context: tokens before the next one.
        measured: the variant, with its score.
        own: bits of a weight that no modifier rounds.
    """
    mask, modifiers, added = measured.score.mask, measured.modifiers, measured.added
    bits = find_bits(modifiers, mask, len(cost_model.layers), own)
    point = make_point(
        cost_model, context, bits, mask, modifiers, measured.zeros, added, measured.score.perplexity
    )  # fmt: skip
    costs = cost_model.costs(mask, context)
    costs = replace(
        costs,
        parameters=costs.parameters + added,
        bytes=costs.bytes + round(added * cost_model.total_bytes / cost_model.total),
        flops_per_token=costs.flops_per_token + 2 * added,
    )
    return replace(point, quantize=measured.quantize, score=measured.score, costs=costs)


def list_points(loaded: LoadedModel, corpus: Corpus, store: Store) -> list[Point]:
    """List every variant that was measured on the held-out windows.

    And, measured or not, the whole model in 8 and 4 bits, and half of its layers in 4: the synthesis of Gromov et al.
    In 8 and 4 bits perplexity is known of what the model was asked when it was loaded so.
    """
    cost_model = count_parameters(loaded.model, loaded.architecture)
    own = 8 * loaded.model.dtype.itemsize
    known = [
        make_measured_point(cost_model, corpus.window, each, _BITS.get(each.quantize, own))
        for each in list_measured(loaded, corpus, ("none", *_BITS), store)
    ]
    named = [(NONE, 8), (NONE, 4), (find_half(loaded.n_layers), 4)]
    have = {(each.mask, each.bits) for each in known if not each.modifiers}
    return known + [
        make_point(cost_model, corpus.window, bits, mask) for mask, bits in named if (mask, bits) not in have
    ]


def find_front(sizes: Sequence[float], perplexities: Sequence[float]) -> list[int]:
    """Return the places of those than which none is both no larger and no worse, by size."""
    order = sorted(range(len(sizes)), key=lambda place: (sizes[place], perplexities[place]))
    front: list[int] = []
    for place in order:
        if not front or perplexities[place] < perplexities[front[-1]]:
            front.append(place)
    return front
