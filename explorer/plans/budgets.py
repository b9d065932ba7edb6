"""Text -> Budget: how much has to go, by layers, sites, parameters, bytes, KV cache, FLOPs or measured seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from explorer.byte_units import BYTES
from explorer.errors import PlanError
from explorer.evaluation import DecodeTimes
from explorer.masks import NONE, Mask
from explorer.model import CostModel, Costs

#: One of each kind.
BUDGET_EXAMPLES = ("layers=8", "sites=12", "parameters=20%", "bytes=6GiB", "kv=30%", "flops=25%", "decode=80%")

_REMEDY = f"Use {', '.join(BUDGET_EXAMPLES[:-1])} or {BUDGET_EXAMPLES[-1]}"

#: What one would say, and what it is.
_SAID = (
    (re.compile(r"(\d+) +(layers|sites)"), r"\2=\1"),
    (re.compile(r"([\d.]+)% +of +(?:the +)?(parameters|bytes|kv|flops)"), r"\2=\1%"),
    (re.compile(r"([\d.]+) *([kKMGT]i?B)"), r"bytes=\1\2"),
)
_COUNTED, _SHARED = ("layers", "sites"), ("parameters", "bytes", "kv", "flops")


@dataclass(frozen=True)
class Budget:
    """How much has to go: a count, a share of what the whole model needs, or what the rest must fit in.

    Args:
        of: `layers`, `sites`, `parameters`, `bytes`, `kv`, `flops` or `decode`.
        amount: layers or sites to remove, the share to remove in (0, 1), or with `fits` what may stay: bytes, or of
            `decode` a share of the seconds that the whole model takes to decode a token.
        fits: the amount is what may stay.
    """

    of: str
    amount: float
    fits: bool = False

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `layers=8`, `sites=12`, `parameters=20%`, `bytes=6GiB`, `kv=30%`, `flops=25%`, `decode=80%`.

        Or `8 layers`, `20% of parameters` and `6 GiB`, as one would say it.

        Raises PlanError: it is none of these.

        Numbers have at most 15 digits before and after the point.
        """
        said = text.strip()
        written = next((form.sub(how, said) for form, how in _SAID if form.fullmatch(said)), said)
        match = re.fullmatch(r"(\w+)=([0-9]{1,15}(?:\.[0-9]{1,15})?)([%A-Za-z]*)", written)
        if match is None:
            raise PlanError("Malformed budget", repr(text), _REMEDY)
        of, amount, unit = match[1], float(match[2]), match[3]
        if of in _COUNTED and not unit and amount >= 1 and amount == int(amount):
            return cls(of, amount)
        if of in _SHARED and unit == "%" and 0 < amount < 100:
            return cls(of, amount / 100)
        if of == "decode" and unit == "%" and 0 < amount < 100:
            return cls(of, amount / 100, fits=True)
        if of == "bytes" and unit in BYTES and amount > 0:
            return cls(of, amount * BYTES[unit], fits=True)
        raise PlanError("Malformed budget", repr(text), _REMEDY)

    def met(self, mask: Mask, cost_model: CostModel, context: int, times: DecodeTimes | None = None) -> bool:
        """Tell whether a mask removes enough, at a context of so many tokens; one of `decode` wants times."""
        if self.of == "decode":
            assert times is not None
            return times.share(mask) <= self.amount
        if self.of == "layers":
            return len(mask.whole_layers) >= self.amount
        if self.of == "sites":
            return len(mask.sites) >= self.amount
        before, after = (self._cost(cost_model.costs(m, context)) for m in (NONE, mask))
        if self.fits:
            return after <= self.amount
        return before - after >= before * self.amount * (1 - 1e-12)  # 90% of ten is nine, rounded or not

    def _cost(self, costs: Costs) -> int:
        return {
            "parameters": costs.parameters,
            "bytes": costs.bytes,
            "kv": costs.kv_bytes_per_token,
            "flops": costs.flops_per_token,
        }[self.of]
