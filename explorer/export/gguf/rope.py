"""A config's rope scaling -> the factors that llama.cpp divides each rotary frequency by."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

NAME = "rope_freqs.weight"


def can_scale(config: Any) -> bool:
    """Tell whether a config's rotary frequencies are plain, or scaled as Llama 3.1 scales them."""
    return config.rope_parameters.get("rope_type", "default") in ("default", "llama3")


def find_factors(config: Any, head_dim: int) -> Float32[np.ndarray, " frequencies"] | None:
    """Return the factors, one for each pair of dimensions of a head; None if nothing is scaled.

    Llama 3.1 leaves short wavelengths alone, divides the frequencies of long ones by its factor, and goes from one to
    the other in between, linear in the number of turns within the original context.
    """
    rope = config.rope_parameters
    if rope.get("rope_type", "default") == "default":
        return None
    frequencies = rope["rope_theta"] ** (-np.arange(0, head_dim, 2) / head_dim)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - share) / rope["factor"] + share)).astype(np.float32)
