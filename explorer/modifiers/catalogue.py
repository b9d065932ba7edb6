"""The modifiers, by name. Knows no torch until one is asked for."""

from __future__ import annotations

from explorer.deltas import ModifierSpec
from explorer.errors import ModifyError
from explorer.lazy_mapping import LazyMapping
from explorer.modifiers.modifier import Modifier

_HERE = "explorer.recovery."
_HEALING = "explorer.healing."

#: What can make up for what was removed, in closed form and by training.
MODIFIERS: LazyMapping[Modifier] = LazyMapping(
    {
        "refit": f"{_HERE}refit:REFIT",
        "replaceme": f"{_HERE}replace_me:REPLACE_ME",
        "linear": f"{_HERE}linear:LINEAR",
        "mean": f"{_HERE}mean:MEAN",
        "scale": f"{_HERE}scale:SCALE",
        "channels": f"{_HERE}channels:CHANNELS",
        "lora": f"{_HEALING}lora:LORA",
        "train": f"{_HEALING}full:TRAIN",
        "distill-local": f"{_HEALING}distill:DISTILL_LOCAL",
    }
)


def find_modifier(spec: ModifierSpec) -> Modifier:
    """Return a spec's modifier. Raises ModifyError: there is none of that name, or it lacks one of the options."""
    if spec.name not in MODIFIERS:
        raise ModifyError("Unknown modifier", repr(spec.name), "Use " + ", ".join(MODIFIERS))
    modifier = MODIFIERS[spec.name]
    modifier.read(spec)
    return modifier
