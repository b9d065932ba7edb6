"""What is done to one layer for the time of its forward: other weights put in, modules watched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from explorer.deltas import Delta, LowRankUpdate, WeightChange
from explorer.errors import ModifyError
from explorer.model.changed_weights import ChangedWeights, list_changes


class AllGiven(Exception):
    """Every module that is watched was given its input, and nothing else is wanted."""


@dataclass
class Watch:
    """What modules of a layer were given and gave in the last forward pass.

    Args:
        modules: their names in the layer.
        inputs_only: end the pass by raising AllGiven when all of them were given something.
        given, gave: by name, the first argument and the output, of which only the first of a tuple. Modules that read
            the same tensor have the same copy of it.
        chosen: by name, the second argument of modules that have one: the experts that each token is sent to.
    """

    modules: tuple[str, ...]
    inputs_only: bool = False
    given: dict[str, Float[Tensor, " *any"]] = field(default_factory=dict)
    gave: dict[str, Float[Tensor, " *any"]] = field(default_factory=dict)
    chosen: dict[str, Int[Tensor, " *any"]] = field(default_factory=dict)
    _copies: list[tuple[Float[Tensor, " *any"], Float[Tensor, " *any"]]] = field(default_factory=list)

    def copy(self, given: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        """Return a copy of what a module is given, the one that there is where another was given the same."""
        for own, copied in self._copies:
            if own is given and torch.equal(own, copied):
                return copied
        self._copies.append((given, given.clone()))
        return self._copies[-1][1]


def put_forward(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    """Let a module run something in place of its forward; return what takes that off."""
    before = module.__dict__.get("forward")

    def undo() -> None:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before

    module.__dict__["forward"] = forward
    return undo


def copy_sharing(model: nn.Module) -> nn.Module:
    """Return a model over the same parameters and buffers, none of which takes a gradient, with forwards of its own."""
    memo: dict[int, Any] = {
        id(each): each if is_packed(each) else nn.Parameter(each.detach(), requires_grad=False)
        for each in model.parameters()
    }
    made = copy.deepcopy(model, memo | {id(each): each for each in model.buffers()})
    for module in made.modules():
        module.__dict__.pop("forward", None)  # what was put there runs the model that it was copied from
    return made


def is_packed(weight: torch.Tensor) -> bool:
    """Tell whether a weight is quantized: what its numbers stand for is no sum of them and others."""
    return not weight.is_floating_point()


def add_beside(module: nn.Module, changes: Sequence[WeightChange]) -> Callable[[], None]:
    """Let a linear map over packed weights add what low-rank updates make of its input; return what takes that off.

    Raises ModifyError: a change is another.
    """
    inner, updates = module.forward, [each for each in changes if isinstance(each, LowRankUpdate)]
    if len(updates) < len(changes):
        raise ModifyError("Quantized weights cannot be changed", type(module).__name__, "Load it with --quantize none")

    @wraps(inner)
    def forward(given: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        return inner(given) + sum(each.beside(given) for each in updates)

    return put_forward(module, forward)


def run_within(module: nn.Module, enter: Callable[[], AbstractContextManager[None]]) -> Callable[[], None]:
    """Let a module's forward run within a context; return what takes that off."""
    inner = module.forward

    @wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return inner(*args, **kwargs)

    return put_forward(module, forward)


@contextmanager
def changed(layer: nn.Module, index: int, deltas: Sequence[Delta], changed_weights: ChangedWeights) -> Iterator[None]:
    """Give a layer the weights that deltas make of its own, which come back, whatever happens in the block."""
    undo: list[Callable[[], None]] = []
    try:
        for name in {name: None for delta in deltas for name in delta.weights.get(index, {})}:
            path, _, leaf = name.rpartition(".")
            owner = layer.get_submodule(path)
            own = owner.get_parameter(leaf)
            if is_packed(own):
                undo.append(add_beside(owner, list_changes(deltas, index, name)))
                continue
            undo.append(partial(setattr, owner, leaf, own))
            tensor = changed_weights.find(index, name, own, deltas)
            setattr(owner, leaf, nn.Parameter(tensor, requires_grad=False))
        yield
    finally:
        for take_off in reversed(undo):
            take_off()


@contextmanager
def watched(layer: nn.Module, watch: Watch | None) -> Iterator[None]:
    """Keep what modules of a layer are given and give in the block; copies, for some layers add in place."""
    undo: list[Callable[[], None]] = []
    if watch is None:
        yield
        return
    try:
        for name in watch.modules:
            module = layer.get_submodule(name)
            undo.append(put_forward(module, _note(name, module.forward, watch)))
        yield
    finally:
        for take_off in reversed(undo):
            take_off()


def _note(name: str, inner: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    @wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        watch.given[name] = watch.copy(args[0] if args else kwargs["hidden_states"])
        if len(args) > 1 and isinstance(args[1], Tensor) and not args[1].is_floating_point():
            watch.chosen[name] = args[1].clone()
        if watch.inputs_only:
            if len(watch.given) == len(watch.modules):
                raise AllGiven
            return inner(*args, **kwargs)
        output = inner(*args, **kwargs)
        watch.gave[name] = (output[0] if isinstance(output, tuple) else output).clone()
        return output

    return forward
