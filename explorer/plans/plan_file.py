"""A plan file, as it has to be. Apart from plans themselves, which know no pydantic until a file is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, FailFast, Field


class Step(BaseModel):
    """A step: what is off after it."""

    mask: str


class Cost(BaseModel):
    """What making the plan took."""

    layer_evaluations: int = 0
    seconds: float = 0.0


class PlanFile(BaseModel):
    """The fields of a plan file that are read; how many steps it has is checked before."""

    plan: str
    layers: Annotated[int, Field(ge=1)]
    steps: Annotated[list[Step], FailFast()]
    cost: Cost = Cost()
    model: str = ""
    text: str = ""
