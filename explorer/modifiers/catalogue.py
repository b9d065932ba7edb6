"""The modifiers, by name. Knows no torch until one is asked for."""

from __future__ import annotations

from explorer.deltas import ModifierSpec
from explorer.errors import ModifyError
from explorer.lazy_mapping import LazyMapping
from explorer.modifiers.modifier import Modifier

_RECOVERY, _HEALING, _SPARSITY = "explorer.recovery.", "explorer.healing.", "explorer.sparsity."

#: What can make up for what was removed, in closed form and by training, and what puts zeros into matrices.
MODIFIERS: LazyMapping[Modifier] = LazyMapping(
    {
        "refit": f"{_RECOVERY}refit:REFIT",
        "replaceme": f"{_RECOVERY}replace_me:REPLACE_ME",
        "linear": f"{_RECOVERY}linear:LINEAR",
        "mean": f"{_RECOVERY}mean:MEAN",
        "scale": f"{_RECOVERY}scale:SCALE",
        "channels": f"{_RECOVERY}channels:CHANNELS",
        "lora": f"{_HEALING}lora:LORA",
        "train": f"{_HEALING}full:TRAIN",
        "distill-local": f"{_HEALING}distill:DISTILL_LOCAL",
        "magnitude": f"{_SPARSITY}magnitude:MAGNITUDE",
        "wanda": f"{_SPARSITY}wanda:WANDA",
        "sparsegpt": f"{_SPARSITY}sparse_gpt:SPARSE_GPT",
        "wanda++": f"{_SPARSITY}wanda_plus_plus:WANDA_PLUS_PLUS",
        "round": f"{_SPARSITY}rounding:ROUND",
    }
)


def find_modifier(spec: ModifierSpec) -> Modifier:
    """Return a spec's modifier. Raises ModifyError: there is none of that name, or it lacks one of the options."""
    if spec.name not in MODIFIERS:
        raise ModifyError("Unknown modifier", repr(spec.name), "Use " + ", ".join(MODIFIERS))
    modifier = MODIFIERS[spec.name]
    modifier.read(spec)
    return modifier
