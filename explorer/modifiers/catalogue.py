"""The modifiers, by name. Knows no torch until one is asked for."""

from __future__ import annotations

from explorer.deltas import ModifierSpec
from explorer.errors import ModifyError
from explorer.lazy_mapping import LazyMapping
from explorer.modifiers.modifier import Modifier

_RECOVERY, _SPARSITY = "explorer.recovery.", "explorer.sparsity."

#: What can make up for what was removed, and what removes more: zeros inside matrices.
MODIFIERS: LazyMapping[Modifier] = LazyMapping(
    {
        "refit": f"{_RECOVERY}refit:REFIT",
        "replaceme": f"{_RECOVERY}replace_me:REPLACE_ME",
        "linear": f"{_RECOVERY}linear:LINEAR",
        "mean": f"{_RECOVERY}mean:MEAN",
        "scale": f"{_RECOVERY}scale:SCALE",
        "channels": f"{_RECOVERY}channels:CHANNELS",
        "magnitude": f"{_SPARSITY}magnitude:MAGNITUDE",
        "wanda": f"{_SPARSITY}wanda:WANDA",
        "sparsegpt": f"{_SPARSITY}sparse_gpt:SPARSE_GPT",
        "wanda++": f"{_SPARSITY}wanda_plus_plus:WANDA_PLUS_PLUS",
    }
)


def find_modifier(spec: ModifierSpec) -> Modifier:
    """Return a spec's modifier. Raises ModifyError: there is none of that name, or it lacks one of the options."""
    if spec.name not in MODIFIERS:
        raise ModifyError("Unknown modifier", repr(spec.name), "Use " + ", ".join(MODIFIERS))
    modifier = MODIFIERS[spec.name]
    modifier.read(spec)
    return modifier
