"""Whether a model will fit into memory, in words."""

from __future__ import annotations

from explorer.model import MemoryOutlook
from ui.parts import describe_bytes

#: States, logits and the KV cache want memory beside the weights: free over weights from which on that is no question.
_ROOMY = 1.25


def describe_outlook(found: MemoryOutlook) -> tuple[str, bool]:
    """Say what a model's weights take and whether they fit; and whether anything is to be heeded."""
    words = [f"{found.parameters:,} parameters"]
    if found.n_layers:
        words.append(f"{found.n_layers} layers ({found.architecture})")
    weights, free = describe_bytes(found.bytes), describe_bytes(found.free)
    words.append(f"{weights} of weights in {found.precision}; {free} of memory free on {found.device}")
    said = ", ".join(words) + ": "
    if found.bytes * _ROOMY <= found.free:
        return f"{said}fits.", False
    if found.bytes <= found.free:
        return f"{said}the weights fit, with little room for what is computed.", True
    ways = ["the device map spreads it over GPUs, memory and disk"]
    if found.nf4_bytes < found.bytes:
        ways.insert(0, f"nf4 takes {describe_bytes(found.nf4_bytes)}")
    return f"{said}does not fit; {', '.join(ways)}.", True
