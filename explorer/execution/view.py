"""What a user looks at: everything that the URL holds, and what is asked of it. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from explorer.checkpoints import ModelSpec
from explorer.deltas import ModifierSpec, write_modifiers
from explorer.execution.kinds import Kind
from explorer.execution.request import AskedCalibration, AskedText, Request
from explorer.masks import NONE, Mask
from explorer.modifiers import MODIFIERS
from explorer.plans import PlanSpec


@dataclass(frozen=True)
class View:
    """What a user looks at: everything that the URL holds.

    Args:
        model, dtype, device, quantize: what is loaded.
        text, tokens, window: what it is judged on.
        mask: what is off.
        plan: what the slider follows.
        modify: what makes up for what is off, in order; empty for nothing.
        calibration: name of the text that is decided and fitted by; empty for the view's own.
        calibration_tokens: ids of it; 0 for as many as are judged by.
    """

    model: str
    text: str
    tokens: int
    window: int
    dtype: str
    device: str
    quantize: str
    mask: Mask
    plan: PlanSpec = field(default_factory=PlanSpec)
    modify: tuple[ModifierSpec, ...] = ()
    calibration: str = ""
    calibration_tokens: int = 0

    @property
    def spec(self) -> ModelSpec:
        """The model to load. Code from a model is never run for a link."""
        return ModelSpec(self.model, self.dtype, self.device, quantize=self.quantize)

    @property
    def source(self) -> View:
        """The view without its mask, plan and modifiers: the model and the texts."""
        return replace(self, mask=NONE, plan=PlanSpec(), modify=())

    @property
    def pruned(self) -> View:
        """The view of the mask alone: what is judged on held-out windows and depends on no calibration."""
        return replace(self, modify=(), calibration="", calibration_tokens=0)

    @property
    def recovers(self) -> bool:
        """Whether something makes up for what is off, or changes the model where nothing is."""
        return bool(self.modify) and (
            bool(self.mask) or not any(MODIFIERS[each.name].needs_mask for each in self.modify)
        )

    @property
    def variant(self) -> dict[str, str]:
        """What is off and what makes up for it, as options of a request."""
        return {"mask": str(self.mask), "modify": write_modifiers(self.modify)}

    def request(self, kind: Kind, **options: Any) -> Request:
        """Write what is asked of the view's model and texts."""
        named = self.calibration not in ("", self.text)
        others = (f"{self.calibration}@1",) if named else ()  # a name may itself end like a weight
        return Request(
            kind=kind.name,
            model=self.spec,
            text=AskedText(name=self.text, tokens=self.tokens, window=self.window),
            calibration=AskedCalibration(names=others, tokens=self.calibration_tokens),
            options=options,
        )
