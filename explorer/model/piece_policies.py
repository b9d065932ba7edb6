"""Policies under which only a piece of a model is run: up to its layers, or what follows; and the first pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.utils import ModelOutput

from explorer.masks import Site
from explorer.model.forward_policies import (
    ACTIVE_POLICY,
    Forward,
    ForwardPolicy,
    ForwardStopped,
    Hidden,
    LayerCall,
    ReturnFormat,
    Streams,
    formed,
    hidden_of,
)
from explorer.model.packing import list_shared

#: Windows, and ids in each, of the pass that a form is learned from.
BATCH, WINDOW = 1, 2


def enter_first(layer: nn.Module, args: tuple, kwargs: dict) -> None:
    """Show the run of the calling thread what goes into the first layer: hooks of an export change it after this."""
    if run := ACTIVE_POLICY.get():
        run.enter(hidden_of(args, kwargs))


def leave_last(layer: nn.Module, args: tuple, output: Any) -> Any:
    """Let the run of the calling thread decide what the last layer gives: hooks of an export changed it before this."""
    run = ACTIVE_POLICY.get()
    return output if run is None else run.leave(output)


@dataclass
class LearnReturnFormat(ForwardPolicy):
    """Learns what layers and sites return, and what layers hand on."""

    form: ReturnFormat

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        if isinstance(output, ModelOutput):
            kind, name = type(output), next(iter(output))
            self.form.decoder = lambda hidden: kind(**{name: hidden})
        elif isinstance(output, tuple):
            self.form.decoder = lambda hidden: (hidden, *[None] * (len(output) - 1))
        return output

    def enter(self, hidden: Streams) -> None:
        self.form.packing.learn_streams(hidden, BATCH, WINDOW)

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        before = list_shared(kwargs)
        output = forward(*args, **kwargs)
        self.form.packing.learn_entries(layer, before, kwargs, WINDOW)
        self.form.layer = len(output) if isinstance(output, (tuple, list)) else 0
        return output

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        self.form.sites[site] = len(output) if isinstance(output, (tuple, list)) else 0
        return output

    def beside_site(self, site: Site, name: str, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        self.form.beside[site, name] = len(output) if isinstance(output, (tuple, list)) else 0
        return output


class StopAfterDecoder(ForwardPolicy):
    """Runs no layer, and nothing behind the decoder."""

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        raise ForwardStopped(forward(*args, **kwargs))


@dataclass
class RecordLayerInputs(StopAfterDecoder):
    """Notes what each layer was called with."""

    form: ReturnFormat
    calls: list[LayerCall]
    hidden: Streams | None = None

    def enter(self, hidden: Streams) -> None:
        self.hidden = hidden

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        hidden = hidden_of(args, kwargs)
        self.calls.append((args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}))
        return formed(hidden, self.form.layer)


@dataclass
class ReplaceLastLayer(StopAfterDecoder):
    """Replaces what the last layer gives."""

    hidden: Streams
    form: ReturnFormat

    def leave(self, output: Any) -> Any:
        return formed(self.hidden, self.form.layer)

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return formed(self.hidden, self.form.layer)


@dataclass
class ReplaceDecoderOutput(ForwardPolicy):
    """Replaces what the decoder gives."""

    hidden: Hidden
    form: ReturnFormat

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return self.form.decoder(self.hidden)


@dataclass(frozen=True)
class LayerInputs:
    """A batch of windows before the first layer.

    Args:
        hidden: the input of layer 0.
        calls: for each layer, the arguments that the model itself passes beside the hidden states.
    """

    hidden: Hidden
    calls: list[LayerCall]
