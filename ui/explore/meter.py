"""CostModel -> what the meter adds up: what the whole model needs, and what each kind of layer gives back."""

from __future__ import annotations

from typing import Any

from explorer.masks import NONE, Mask, Site
from explorer.model import CostModel

#: Contexts to choose from beside the text's window.
CONTEXTS = (1024, 4096, 8192, 32768, 131072)


def describe_meter(cost_model: CostModel, window: int) -> dict[str, Any]:
    """Describe costs so that sums alone give those of every mask at every context to choose from.

    A layer's saving depends on that layer alone, and layers of one kind are alike.
    """
    contexts = [window, *(context for context in CONTEXTS if context > window)]
    whole = _list_amounts(cost_model, NONE, contexts)
    kinds: dict[tuple, int] = {}
    numbers = []
    for layer in range(len(cost_model.layers)):
        kind = kinds.setdefault(cost_model.kind(layer), layer)
        numbers.append(list(kinds.values()).index(kind))
    states = [
        [_list_amounts(cost_model, _off(layer, parts), contexts) for parts in ("a", "m", "am")]
        for layer in kinds.values()
    ]
    rows = [
        {
            "label": label,
            "unit": unit,
            "whole": whole[row],
            "saved": [[_less(whole[row], state[row]) for state in kind] for kind in states],
        }
        for row, (label, unit) in enumerate(ROWS)
    ]
    return {"rows": rows, "kinds": numbers, "contexts": contexts}


ROWS = (
    ("Parameters", "count"),
    ("Weights, 16 bits", "bytes"),
    ("Weights, 8 bits", "bytes"),
    ("Weights, 4 bits", "bytes"),
    ("KV cache per token", "bytes"),
    ("KV cache, whole context", "bytes"),
    ("FLOPs per token", "flops"),
)


def _list_amounts(cost_model: CostModel, mask: Mask, contexts: list[int]) -> list[list[float]]:
    """List a mask's amounts in the order of ROWS, each at every context."""
    at = [cost_model.costs(mask, context) for context in contexts]
    return [
        [costs.parameters for costs in at],
        *([costs.bytes_at(bits) for costs in at] for bits in (16, 8, 4)),
        [costs.kv_bytes_per_token for costs in at],
        [cost_model.kv_bytes(mask, context) for context in contexts],
        [costs.flops_per_token for costs in at],
    ]


def _less(whole: list[float], left: list[float]) -> list[float]:
    return [before - after for before, after in zip(whole, left, strict=True)]


def _off(layer: int, parts: str) -> Mask:
    names = {"a": "attention", "m": "mlp"}
    return Mask(frozenset(Site(layer, names[part]) for part in parts))  # type: ignore[arg-type]
