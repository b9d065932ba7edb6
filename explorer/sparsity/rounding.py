"""Fewer bits: the linear maps of each layer, rounded by bitsandbytes to QLoRA's NF4, arXiv:2305.14314, or int8."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from explorer.extras import require
from explorer.modifiers import Fitted, Modifier, Option, Setting
from explorer.sparsity.targets import LAYERS, TARGETS, list_targets

_BLOCK = 64  # entries that share a scale in NF4

#: The option that says to how many bits.
BITS = Option("bits", "NF4, or int8 with a scale a row", "4", ("4", "8"))


def round_weight(weight: Float[Tensor, "rows columns"], bits: int) -> Float[Tensor, "rows columns"]:
    """Round to so many bits and back, zeros to zeros. Raises MissingExtra: bitsandbytes is not installed."""
    require("bitsandbytes")
    from bitsandbytes import functional

    if bits == 8:
        rounded, scales, _ = functional.int8_vectorwise_quant(weight.half())
        return functional.int8_vectorwise_dequant(rounded, scales).to(weight.dtype)
    packed, state = functional.quantize_4bit(
        weight.contiguous(), blocksize=_BLOCK, quant_type="nf4", compress_statistics=True
    )
    return functional.dequantize_4bit(packed, state)


def fit_rounding(setting: Setting) -> Fitted:
    """Round the maps of one layer after the other."""
    bits = int(setting.options["bits"])
    for target in setting.steps(list_targets(setting), lambda target: f"Rounding layer {target.layer}"):
        for linear in target.maps:
            weight = setting.weight(target.layer, linear)
            target.put(linear, round_weight(weight.flatten(0, -2), bits).view(weight.shape))
    return setting.fitted


ROUND = Modifier(
    "round", "Fewer bits", "QLoRA, arXiv:2305.14314; LLM.int8(), arXiv:2208.07339", "weights",
    "The matrices are rounded to 4 or 8 bits and back.", "no pass", fit_rounding, (BITS, TARGETS, LAYERS),
    needs_mask=False,
)  # fmt: skip
