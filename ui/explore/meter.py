"""CostModel -> what the meter adds up: what the whole model needs, and what each kind of layer gives back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from explorer.masks import NONE, Mask, Site
from explorer.model import CostModel
from ui.parts import define

#: Contexts to choose from beside the text's window.
CONTEXTS = (1024, 4096, 8192, 32768, 131072)


@lru_cache(maxsize=4)
def describe_meter(cost_model: CostModel, window: int) -> dict[str, Any]:
    """Describe costs so that sums alone give those of every mask at every context to choose from.

    A layer's saving depends on that layer alone, and layers of one kind are alike. Weights are of 8 bits each.
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
            "meaning": meaning,
            "whole": whole[row],
            "saved": [[_less(whole[row], state[row]) for state in kind] for kind in states],
        }
        for row, (label, unit, meaning) in enumerate(ROWS)
    ]
    return {"rows": rows, "kinds": numbers, "contexts": contexts}


#: What a row is called, what its numbers are, and what they mean.
ROWS = (
    ("Parameters", "count", "Numbers that the model has learnt and that stay."),
    (
        "Weights",
        "weights",
        "What the parameters take with so many bits for each, the scales of a quantization left out.",
    ),
    ("KV cache per token", "bytes", define("KV cache bytes")),
    (
        "KV cache, context",
        "bytes",
        "What the keys and values of the whole context take, in the precision that is loaded.",
    ),
    ("FLOPs per token", "flops", define("FLOPs per token")),
)


def _list_amounts(cost_model: CostModel, mask: Mask, contexts: list[int]) -> list[list[float]]:
    """List a mask's amounts in the order of ROWS, each at every context."""
    at = [cost_model.costs(mask, context) for context in contexts]
    return [
        [costs.parameters for costs in at],
        [costs.bytes_at(8) for costs in at],
        [costs.kv_bytes_per_token for costs in at],
        [cost_model.kv_bytes(mask, context) for context in contexts],
        [costs.flops_per_token for costs in at],
    ]


def _less(whole: list[float], left: list[float]) -> list[float]:
    return [before - after for before, after in zip(whole, left, strict=True)]


def _off(layer: int, parts: str) -> Mask:
    names = {"a": "attention", "m": "mlp"}
    return Mask(frozenset(Site(layer, names[part]) for part in parts))  # type: ignore[arg-type]
