"""Keys and factors of a GGUF file's rotary positions -> transformers' rope parameters that turn every angle alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from explorer.checkpoints.gguf.file import refuse
from explorer.checkpoints.gguf.keys import Keys

#: Factors that every rotary frequency is divided by; and Phi-3's, for texts longer than its original context, or not.
FACTORS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"

_Factors = Float32[np.ndarray, " frequencies"]

#: Relative difference that two roundings to float32 may make.
_CLOSE = 2e-6

#: Llama 3.1's own low and high number of turns; others give the same factors with another original context.
_TURNS = (1.0, 4.0)


def read_rope(keys: Keys, width: int) -> dict[str, Any]:
    """Return the rope parameters of a file whose heads have `width` rotary dimensions.

    Raises ModelError: the file scales its rotary frequencies as no rope parameters do.
    """
    theta = keys.real("rope.freq_base", 10000.0)
    long, short, factors = (_factors(keys, name, width) for name in (LONG, SHORT, FACTORS))
    if long is not None or short is not None:
        if factors is not None or long is None or short is None:
            refuse(keys.file.path, f"{LONG} and {SHORT} are not there together")
        return {"rope_theta": theta, **_longrope(keys, long, short)}
    given = _read_scaling(keys)
    if factors is None or (factors == 1).all():
        return {"rope_theta": theta, **given}
    if given["rope_type"] != "default":
        refuse(keys.file.path, f"its rope is scaled by {given['rope_type']} and by {FACTORS} at once")
    return {"rope_theta": theta, **_express(keys, factors, theta)}


def _factors(keys: Keys, name: str, width: int) -> _Factors | None:
    tensor = keys.file.tensors.get(name)
    if tensor is None:
        return None
    if tensor.shape != (width // 2,):
        refuse(keys.file.path, f"{name} has {tensor.shape}, and {width // 2} frequencies need a factor")
    found = tensor.read()
    if not (np.isfinite(found).all() and (found > 0).all()):
        refuse(keys.file.path, f"{name} has entries that are not positive numbers")
    return found


def _read_scaling(keys: Keys) -> dict[str, Any]:
    """Return what the keys alone say. As in llama.cpp, a factor without a type is a linear one."""
    kind = keys.text("rope.scaling.type", "linear")
    factor = keys.real("rope.scaling.factor", keys.real("rope.scale_linear", 0.0)) or 1.0
    if factor <= 0:
        refuse(keys.file.path, f"its rope is scaled by {factor}")
    if kind == "none" or (kind == "linear" and factor == 1.0):
        keys.only("rope.scaling.attn_factor", 1.0)
        keys.layers("rope.scaling.original_context_length")  # says what the model was trained on; scales nothing
        return {"rope_type": "default"}
    if kind == "linear":
        keys.only("rope.scaling.attn_factor", 1.0)
        keys.layers("rope.scaling.original_context_length")
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return _yarn(keys, factor)
    refuse(keys.file.path, f"its rope is scaled by {kind!r}")


def _yarn(keys: Keys, factor: float) -> dict[str, Any]:
    keys.only("rope.scaling.yarn_ext_factor", 1.0)
    keys.only("rope.scaling.yarn_attn_factor", 1.0)
    share = keys.real("rope.scaling.attn_factor", 1.0)
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys.integer(
            "rope.scaling.original_context_length", keys.integer("context_length")
        ),
        "beta_fast": keys.real("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": keys.real("rope.scaling.yarn_beta_slow", 1.0),
        "attention_factor": share * (1.0 + 0.1 * math.log(factor)),  # as ggml multiplies sine and cosine
    }


def _longrope(keys: Keys, long: _Factors, short: _Factors) -> dict[str, Any]:
    context = keys.integer("context_length")
    original = keys.integer("rope.scaling.original_context_length", context) or context
    keys.only("rope.scaling.type", "longrope", "none", "linear")
    keys.only("rope.scaling.factor", 1.0)
    return {
        "rope_type": "longrope",
        "factor": max(context / original, 1.0),
        "original_max_position_embeddings": original,
        "attention_factor": keys.real("rope.scaling.attn_factor", 1.0),
        "long_factor": [float(f) for f in long],
        "short_factor": [float(f) for f in short],
    }


def _express(keys: Keys, factors: _Factors, theta: float) -> dict[str, Any]:
    """Return parameters that divide each frequency by its factor: Llama 3.1's if they can, else a list.

    Llama 3.1 leaves high frequencies alone, divides low ones by one factor, and in between mixes both, linear in the
    turns that a frequency makes within the original context. The factors do not tell the turns at which the mixing
    begins and ends apart from that context; with Llama's own, the context follows from any factor in between.
    """
    context = keys.integer("context_length")
    frequencies = theta ** (-np.arange(0, 2 * len(factors), 2) / (2 * len(factors)))
    most = float(factors.max())
    low, high = _TURNS
    between = (factors > 1 + 1e-4) & (factors < most * (1 - 1e-4))
    if most > 1 and between.any():
        share = (1 / factors[between].astype(np.float64) - 1 / most) / (1 - 1 / most)
        lengths = (low + share * (high - low)) * 2 * math.pi / frequencies[between]
        original = round(float(np.median(lengths)))
    else:  # no frequency lies between: any context that parts the two kinds
        original = context
    made = {
        "rope_type": "llama3",
        "factor": most,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }
    if original > 0 and np.allclose(_llama3(made, frequencies), factors, rtol=_CLOSE, atol=0):
        return made
    listed = [float(factor) for factor in factors]
    return {
        "rope_type": "longrope",
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
        "long_factor": listed,
        "short_factor": listed,
    }


def _llama3(
    rope: dict[str, Any], frequencies: Float64[np.ndarray, " frequencies"]
) -> Float64[np.ndarray, " frequencies"]:
    """Return the factors that Llama 3.1's scaling divides frequencies by."""
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    share = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
    return 1 / ((1 - np.clip(share, 0, 1)) / rope["factor"] + np.clip(share, 0, 1))
