"""What is trained: tensors of a twin, put in for the time of a forward pass, and what they are to lower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from explorer.healing.objective import Objective


class NotFinite(Exception):
    """The loss is not a number, or infinite."""


class Student(nn.Module):
    """Tensors that are trained, in float32 or better, whatever the module's own dtype.

    Its parameters and its state are these alone: the module is not its own.

    Args:
        module: part of a twin, none of whose parameters takes a gradient.
        names: of those that are trained.
        objective: what they are to lower.
    """

    def __init__(self, module: nn.Module, names: list[str], objective: Objective) -> None:
        super().__init__()
        self.names, self.objective = names, objective
        self._module = (module,)  # in a tuple it is no part of this one
        self._own = {name: module.get_parameter(name) for name in names}
        wide = (own.to(torch.promote_types(own.dtype, torch.float32), copy=True) for own in self._own.values())
        self.values = nn.ParameterList(nn.Parameter(each) for each in wide)

    @property
    def tensors(self) -> Mapping[str, Float[Tensor, " *weight"]]:
        """What is trained by name, in the module's own dtypes."""
        return {name: value.to(self._own[name].dtype) for name, value in zip(self.names, self.values, strict=True)}

    def forward(self, rows: Int[Tensor, " batch"]) -> dict[str, Float[Tensor, ""]]:
        """Return the loss of some windows, by number. Raises NotFinite."""
        loss = self.objective(self._run, rows)
        if not loss.isfinite():
            raise NotFinite
        return {"loss": loss.to(rows.device)}

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self._module[0], dict(self.tensors), args, kwargs)
