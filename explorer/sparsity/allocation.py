"""More zeros in some layers, fewer in others: by outliers as OWL, arXiv:2310.05175, or by block influence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from explorer.errors import ModifyError
from explorer.modifiers import Option, Setting
from explorer.sparsity.stream import Stream, find_norms, sum_squares
from explorer.sparsity.targets import Target, list_targets

ALLOCATION = Option(
    "allocation", "the same share in all layers, or more where there are fewer outliers or less influence", "uniform",
    ("uniform", "owl", "influence"),
)  # fmt: skip

_OUTLYING, _SPREAD = 5.0, 0.08  # OWL's M and lambda, as its authors run it


def spread_shares(worth: Sequence[float], share: float, spread: float = _SPREAD) -> list[float]:
    """Return a share of zeros for each layer: the more a layer is worth the fewer.

    1 - s_l = 1 - s + 2 lambda ((D_l - min D) / (max D - min D) - mean of these); all are equal if the D are.
    """
    lowest, width = min(worth), max(worth) - min(worth)
    placed = [2 * spread * (each - lowest) / width if width else 0.0 for each in worth]
    mean = sum(placed) / len(placed)
    return [share - (each - mean) for each in placed]


def find_outliers(scores: Sequence[Float[Tensor, "_ _"]], outlying: float = _OUTLYING) -> float:
    """Return D: the share of a layer's scores that are above M times their mean."""
    mean = sum(float(each.double().sum()) for each in scores) / sum(each.numel() for each in scores)
    return sum(int((each > outlying * mean).sum()) for each in scores) / sum(each.numel() for each in scores)


def allocate(setting: Setting) -> list[Target]:
    """List the layers to prune, each with its share.

    Raises ModifyError: see `list_targets`; a pattern is to differ from layer to layer, or a share would leave 0 to 1.
    """
    targets, how = list_targets(setting), setting.options["allocation"]
    if how == "uniform":
        return targets
    sparsity = targets[0].sparsity
    if sparsity.group:
        raise ModifyError("A pattern has one share for all layers", str(sparsity), "Use sparsity=50%")
    stream, find = Stream(setting), {"owl": _find_outliers, "influence": _find_influence}[how]
    worth = [find(stream, target) for target in stream.visit(targets, "Weighing")]
    shares = spread_shares(worth, float(sparsity.share))
    if not all(0 <= share < 1 for share in shares):
        raise ModifyError(
            "A layer's share is out of range", f"{min(shares):.3f} to {max(shares):.3f}", "Use sparsity=50%"
        )
    return [target.at(share) for target, share in zip(targets, shares, strict=True)]


def _find_outliers(stream: Stream, target: Target) -> float:
    squares = stream.sum_up(target, sum_squares)
    return find_outliers(
        [target.weight(each).abs() * find_norms(squares[each.name]).unsqueeze(-2) for each in target.maps]
    )


def _find_influence(stream: Stream, target: Target) -> float:
    """1 - cos of the stream before and after a layer, its mean over all tokens."""
    turns = [
        1 - F.cosine_similarity(seen.before.float(), seen.after.float(), -1).double()
        for seen in stream.run.look(target.layer, stream.states, target.setting.variant)
    ]
    return float(torch.cat(turns).mean())
