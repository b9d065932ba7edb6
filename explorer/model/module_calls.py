"""A model's layers -> what each and the modules in it are given and give, in one small pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explorer.errors import UnsupportedModel, first_line
from explorer.model.architecture import has_matrix
from explorer.model.forward_policies import Forward, Ids, first_of, hidden_of, residual_of
from explorer.model.layer_surgery import put_forward


@dataclass(frozen=True)
class ModuleCall:
    """What a layer, or a module in it, was given and gave in one pass.

    Args:
        given, gave: the hidden states before and after.
        residual: what it was given beside them, if that is of their shape.
        mixes: whether later tokens of a window change with its first one.
    """

    given: Float[Tensor, " *any"]
    gave: Float[Tensor, " *other"]
    mixes: bool
    residual: Float[Tensor, " *any"] | None = None


def watch_layers(
    model: Any, layers: Sequence[nn.Module], ids: Ids, look: Callable[[int, dict[str, ModuleCall]], None]
) -> Any:
    """Show each layer's call, under no name, and those of the modules in it, by name, in their order, in one pass.

    Returns the logits. Raises UnsupportedModel if its own code fails.
    """
    calls: dict[str, ModuleCall] = {}
    undo = []

    def watch(name: str, module: nn.Module, index: int) -> Forward:
        inner, probed = module.forward, bool(name) and has_matrix(module)

        @wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = hidden_of(args, kwargs) if args or "hidden_states" in kwargs else None
            if not isinstance(hidden, Tensor):
                return inner(*args, **kwargs)
            before, beside = hidden.clone(), residual_of(args, kwargs)
            residual = beside.clone() if isinstance(beside, Tensor) and beside.shape == hidden.shape else None
            other = _with_another_first(inner, args, kwargs) if probed and hidden.dim() > 1 else None
            output = inner(*args, **kwargs)
            gave = first_of(output)
            if isinstance(gave, Tensor):
                calls[name] = ModuleCall(before, gave.clone(), _changes_later(gave, other, ids.shape[1]), residual)
            if not name:
                look(index, dict(calls))
                calls.clear()
            return output

        return forward

    try:
        for index, layer in enumerate(layers):
            for name, module in (("", layer), *layer.named_children()):
                undo.append(put_forward(module, watch(name, module, index)))
        return try_out(model, ids)
    finally:
        for take_off in undo:
            take_off()


def _with_another_first(inner: Forward, args: tuple, kwargs: dict) -> Any:
    """Return what a module gives when the first token of the first window is another one."""
    hidden = hidden_of(args, kwargs).clone()
    rows = hidden.view(-1, hidden.shape[-1])
    rows[0] = -2 * rows[0].flip(-1)
    return first_of(inner(hidden, *args[1:], **kwargs) if args else inner(**{**kwargs, "hidden_states": hidden}))


def _changes_later(gave: Float[Tensor, " *any"], other: Any, window: int) -> bool:
    """Tell whether tokens after the first one of the first window are others now."""
    if not isinstance(other, Tensor) or gave.shape != other.shape or gave.dim() < 2:
        return False
    rows, others = (each.reshape(-1, each.shape[-1])[1:window].float() for each in (gave, other))
    return bool((rows - others).abs().max() > 1e-3 * rows.abs().max())


def try_out(model: Any, ids: Ids) -> Any:
    """Run a model for the first time; return its logits. Raises UnsupportedModel if its own code fails."""
    with refusing_failures(model, "The model does not run", "Check config.json"):
        return model(input_ids=ids, use_cache=False).logits


@contextmanager
def refusing_failures(model: Any, what: str, remedy: str) -> Iterator[None]:
    """Turn an error of a model's own code in the block into one line. Raises UnsupportedModel for it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise UnsupportedModel(what, f"{type(model).__name__}: {first_line(error)}", remedy) from error
