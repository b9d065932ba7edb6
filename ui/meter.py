"""Inventory -> what the meter adds up: what the whole model needs, and what each kind of layer gives back."""

from __future__ import annotations

from typing import Any

from explorer.costs import Inventory
from explorer.masks import NONE, Mask, Site
from explorer.records import Costs

#: Contexts to choose from beside the text's window.
CONTEXTS = (1024, 4096, 8192, 32768, 131072)

_FAR = 2**20  # two contexts tell the part of a cost that grows with it

Amount = tuple[float, float]  # fixed, for each token of context


def describe_meter(inventory: Inventory, window: int) -> dict[str, Any]:
    """Describe costs so that sums alone give those of every mask at every context.

    A layer's saving depends on that layer alone, and layers of one kind are alike.
    """
    whole = _Rows(inventory, NONE)
    kinds: dict[tuple, int] = {}
    numbers = []
    for layer, counts in enumerate(inventory.layers):
        kind = kinds.setdefault((counts, inventory.layer_bytes[layer]), layer)
        numbers.append(list(kinds.values()).index(kind))
    states = [
        [_Rows(inventory, mask) for mask in (_off(layer, "a"), _off(layer, "m"), _off(layer, "am"))]
        for layer in kinds.values()
    ]
    rows = [
        {
            "label": label,
            "unit": unit,
            "whole": whole.amounts[row],
            "saved": [[_less(whole.amounts[row], state.amounts[row]) for state in kind] for kind in states],
        }
        for row, (label, unit) in enumerate(ROWS)
    ]
    return {"rows": rows, "kinds": numbers, "contexts": [window, *(c for c in CONTEXTS if c > window)]}


ROWS = (
    ("Parameters", "count"),
    ("Weights, 16 bits", "bytes"),
    ("Weights, 8 bits", "bytes"),
    ("Weights, 4 bits", "bytes"),
    ("KV cache per token", "bytes"),
    ("KV cache, whole context", "bytes"),
    ("FLOPs per token", "flops"),
)


class _Rows:
    """A mask's amounts, in the order of ROWS."""

    def __init__(self, inventory: Inventory, mask: Mask) -> None:
        near, far = inventory.costs(mask, 0), inventory.costs(mask, _FAR)
        self.amounts: list[Amount] = [
            (near.parameters, 0),
            *((near.bytes_at(bits), 0) for bits in (16, 8, 4)),
            (near.kv_bytes_per_token, 0),
            (0, near.kv_bytes_per_token),
            (near.flops_per_token, _slope(near, far)),
        ]


def _slope(near: Costs, far: Costs) -> float:
    return (far.flops_per_token - near.flops_per_token) / _FAR


def _less(whole: Amount, left: Amount) -> Amount:
    return whole[0] - left[0], whole[1] - left[1]


def _off(layer: int, parts: str) -> Mask:
    names = {"a": "attention", "m": "mlp"}
    return Mask(frozenset(Site(layer, names[part]) for part in parts))  # type: ignore[arg-type]
