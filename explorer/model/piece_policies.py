"""Policies under which only a piece of a model is run: up to its layers, or what comes after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.model.forward_policies import (
    Forward,
    ForwardPolicy,
    ForwardStopped,
    Hidden,
    LayerCall,
    ReturnFormat,
    formed,
    hidden_of,
)


class StopAfterDecoder(ForwardPolicy):
    """Runs no layer, and nothing behind the decoder."""

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        raise ForwardStopped(forward(*args, **kwargs))


@dataclass
class RecordLayerInputs(StopAfterDecoder):
    """Notes what each layer was called with."""

    form: ReturnFormat
    calls: list[LayerCall]
    hidden: Hidden | None = None

    def enter(self, hidden: Hidden) -> None:
        self.hidden = hidden

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        hidden = hidden_of(args, kwargs)
        self.calls.append((args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}))
        return formed(hidden, self.form.layer)


@dataclass
class ReplaceLastLayer(StopAfterDecoder):
    """Replaces what the last layer gives."""

    hidden: Hidden
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
