"""The smallest weights of each row become zeros: Han et al., arXiv:1506.02626; by row as Wanda compares them."""

from __future__ import annotations

from explorer.modifiers import Fitted, Modifier, Setting
from explorer.sparsity.sparsity import SPARSITY_OPTIONS
from explorer.sparsity.stream import Stream
from explorer.sparsity.targets import LAYERS, TARGETS, list_targets


def fit_magnitude(setting: Setting) -> Fitted:
    """Zero the smallest |W| of each row, or of each group in it."""
    for target in Stream(setting).prune(list_targets(setting), reads=False):
        for linear in target.maps:
            target.zero(linear, target.choose(linear, target.weight(linear).abs()))
    return setting.fitted


MAGNITUDE = Modifier(
    "magnitude", "Magnitude", "Han et al., arXiv:1506.02626", "weights",
    "The smallest weights of each row become zeros.", "no pass", fit_magnitude, (*SPARSITY_OPTIONS, TARGETS, LAYERS),
    needs_mask=False,
)  # fmt: skip
