"""What happens at each wrapped module of a forward pass: run it, leave it out, show it, stop there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from explorer.masks.mask import Mask, Site

Forward = Callable[..., Any]


Call = tuple[tuple[Any, ...], dict[str, Any]]


class Observer(Protocol):
    """Sees the residual stream of a forward pass. Tensors are (batch, window, width), to be read only."""

    def enter(self, layer: int, hidden: Tensor) -> None:
        """Take the input of a layer."""

    def update(self, site: Site, update: Tensor) -> None:
        """Take what a site adds to the residual stream."""

    def leave(self, layer: int, hidden: Tensor) -> None:
        """Take the output of a layer."""


class _Run:
    """What happens at each wrapped module; this one runs it."""

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return forward(*args, **kwargs)

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return forward(*args, **kwargs)

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return forward(*args, **kwargs)

    def before_site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return forward(*args, **kwargs)

    def update(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return forward(*args, **kwargs)


_RUN: ContextVar[_Run | None] = ContextVar("explorer_run", default=None)


_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("explorer_check", default=None)


class Count:
    """Layers run, times the windows that each was run on."""

    evaluations = 0


_COUNT: ContextVar[Count | None] = ContextVar("explorer_count", default=None)


class _Enough(Exception):
    """Ends a forward pass after its decoder: what comes next is not wanted."""

    def __init__(self, output: Any) -> None:
        self.output = output


@contextmanager
def _running(run: _Run) -> Iterator[None]:
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


def _identity(tensor: Tensor) -> Tensor:
    return tensor


@dataclass
class _Form:
    """The form of a model: tuple lengths of what layers and each site return (0 a tensor), how they add.

    `decoder` dresses the last hidden states as the decoder returns them.
    """

    residual_inside: bool
    scale: float
    layer: int = 0
    sites: dict[Site, int] = field(default_factory=dict)
    decoder: Callable[[Tensor], Any] = _identity


@dataclass
class _Learning(_Run):
    """Learns what layers and sites return."""

    form: _Form

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        if isinstance(output, ModelOutput):
            kind, name = type(output), next(iter(output))
            self.form.decoder = lambda hidden: kind(**{name: hidden})
        elif isinstance(output, tuple):
            self.form.decoder = lambda hidden: (hidden, *[None] * (len(output) - 1))
        return output

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        self.form.layer = len(output) if isinstance(output, tuple) else 0
        return output

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        self.form.sites[site] = len(output) if isinstance(output, tuple) else 0
        return output


@dataclass
class _Working(_Run):
    """Runs what the mask leaves on, under the eyes of an observer if there is one."""

    mask: Mask
    form: _Form
    observer: Observer | None = None
    shape: tuple[int, ...] = ()

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        if check := _CHECK.get():
            check()
        hidden = _hidden(args, kwargs)
        self.shape = hidden.shape
        if self.observer:
            self.observer.enter(layer, hidden)
        off = layer in self.mask.whole_layers
        if not off and (count := _COUNT.get()):
            count.evaluations += len(hidden)
        output = _formed(hidden, self.form.layer) if off else forward(*args, **kwargs)
        if self.observer:
            self.observer.leave(layer, _first(output))
        return output

    def before_site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return _hidden(args, kwargs) if site in self.mask.sites else forward(*args, **kwargs)

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        if site not in self.mask.sites:
            return forward(*args, **kwargs)
        nothing = _residual(args, kwargs) if self.form.residual_inside else torch.zeros_like(_hidden(args, kwargs))
        return _formed(nothing, self.form.sites[site])

    def update(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        if self.observer:
            added = _first(output) - _residual(args, kwargs) if self.form.residual_inside else _first(output)
            added = added.view(self.shape)  # some layers flatten batch and window for their MLP
            self.observer.update(site, added if self.form.scale == 1 else added * self.form.scale)
        return output


@dataclass
class _Attending(_Run):
    """Shows the attention weights of every layer that gives them."""

    take: Callable[[int, Tensor], None]

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        if site.part == "attention" and isinstance(output, tuple) and isinstance(output[1], Tensor):
            self.take(site.layer, output[1])
        return output


class _Cut(_Run):
    """Runs no layer, and nothing behind the decoder."""

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        raise _Enough(forward(*args, **kwargs))


@dataclass
class _Tracing(_Cut):
    """Notes what each layer was called with."""

    form: _Form
    calls: list[Call]
    hidden: Tensor | None = None

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        hidden = _hidden(args, kwargs)
        if layer == 0:
            self.hidden = hidden
        self.calls.append((args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}))
        return _formed(hidden, self.form.layer)


@dataclass
class _Finishing(_Cut):
    """Replaces what the last layer gives."""

    hidden: Tensor
    form: _Form

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return _formed(self.hidden, self.form.layer)


@dataclass
class _Heading(_Run):
    """Replaces what the decoder gives."""

    hidden: Tensor
    form: _Form

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return self.form.decoder(self.hidden)


def _hidden(args: tuple, kwargs: dict) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _residual(args: tuple, kwargs: dict) -> Tensor:
    return args[1] if len(args) > 1 else kwargs["residual"]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _formed(tensor: Tensor, form: int) -> Any:
    return (tensor, *[None] * (form - 1)) if form else tensor


@dataclass(frozen=True)
class Trace:
    """A batch of windows before the first layer.

    Args:
        hidden: (batch, window, width), the input of layer 0.
        calls: for each layer, the arguments that the model itself passes beside the hidden states.
    """

    hidden: Tensor
    calls: list[Call]
