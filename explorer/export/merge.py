"""Changed weights in the place of a checkpoint's tensors: each is found by its name, and written exactly once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from explorer.errors import ExportError
from explorer.export.changes import ChangedTensors
from explorer.model import Naming, find_converted, find_naming, find_parts

_REMEDY = "Use a modifier that adds what stands in, such as linear, and --format pruned-remote-code"


@dataclass
class Merge:
    """Says for each tensor of the files what takes its place, and notes what became of every changed parameter.

    Args:
        weights: a parameter's name in the model -> what it becomes.
        model: whose naming tells how a tensor of the files is called in memory.
        met: parameters whose tensor was met.
        gone: of those, the ones that are not written, for their layer or site is off.
    """

    weights: ChangedTensors
    model: Any
    met: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._naming: Naming = find_naming(self.model)
        self._converted = find_converted(self.model) if self.weights else None
        self._parts: dict[str, dict[str, Tensor]] = {}  # of one parameter, that were not met

    def take(self, name: str, shape: tuple[int, ...], written: bool) -> Float[Tensor, " *weight"] | None:
        """Return what takes the place of a tensor of the files; None if it is as it was, or not written.

        Args:
            name: in its file.
            shape: in its file.
            written: whether it is written, and not as zeros.

        Raises ExportError: the tensor is neither the parameter nor a part of it.
        """
        own = self._naming(name) if self.weights else name
        if own not in self.weights:
            return None
        if own in self.met:
            raise ExportError("A changed weight is in the files twice", f"{own} is {name} too", _REMEDY)
        assert self._converted is not None
        parts: dict[str, Tensor] = {}
        tensor: Tensor | None
        if self._converted(name):
            if own not in self._parts:
                self._parts[own] = find_parts(self.model, own, self.weights[own])
            parts = self._parts[own]
            tensor = parts.pop(name, None)
        else:
            tensor = self.weights[own]
        if tensor is None or tuple(tensor.shape) != shape:
            found = f"{own} is {' x '.join(map(str, self.weights[own].shape))}, {name} {' x '.join(map(str, shape))}"
            raise ExportError("A changed weight is in the files in another form", found, _REMEDY)
        if not parts:
            self.met.add(own)
        if not written and own not in self.gone:
            self.gone.append(own)
        return tensor if written else None

    def pick(self, own: str) -> Float[Tensor, " *weight"] | None:
        """Return what takes the place of a parameter that a tensor alone holds; None if it is as it was."""
        if own in self.weights:
            self.met.add(own)
        return self.weights.get(own)

    def check(self) -> None:
        """Raise ExportError if a changed parameter was found in no tensor of the files."""
        if lost := sorted(self.weights.keys() - self.met):
            raise ExportError("A changed weight is in no tensor of the files", lost[0], _REMEDY)

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to know of changed weights that are not written."""
        if not self.gone:
            return ()
        return (
            f"Changed weights that belong to what is off and go with it: {len(self.gone)}, such as {self.gone[0]}.",
        )
