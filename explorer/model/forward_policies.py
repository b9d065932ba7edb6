"""What happens at each wrapped module of a forward pass: run it, leave it out, show it, stop there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.utils import ModelOutput

from explorer.deltas import Delta, StandIn, Variant
from explorer.holding import holding
from explorer.masks import PARTS, Mask, Site
from explorer.model.cache_layers import count_tokens, find_state, leave_out
from explorer.model.layer_surgery import Watch, watched
from explorer.model.packing import Packing

Forward = Callable[..., Any]
#: Token ids, and what the layers make of them.
Ids = Int[Tensor, "batch window"]
Hidden = Float[Tensor, "batch window width"]
#: The same as a layer takes them, which may be several streams.
Streams = Float[Tensor, "..."]
#: What a layer is called with beside the hidden states.
LayerCall = tuple[tuple[Any, ...], dict[str, Any]]


class Observer(Protocol):
    """Sees the residual stream of a forward pass. Tensors are to be read only."""

    def enter(self, layer: int, hidden: Hidden) -> None:
        """Take the input of a layer."""

    def update(self, site: Site, update: Hidden) -> None:
        """Take what a site adds to the residual stream."""

    def leave(self, layer: int, hidden: Hidden) -> None:
        """Take the output of a layer."""


class ForwardPolicy:
    """What happens at each wrapped module, given its forward and what it was called with; this one runs it."""

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        """Act in the place of the decoder: embeddings, layers, final norm."""
        return forward(*args, **kwargs)

    def head(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        """Act in the place of the head, which makes logits of the decoder's output."""
        return forward(*args, **kwargs)

    def enter(self, hidden: Streams) -> None:
        """Take what goes into the first layer, before anything that stands in before it."""

    def leave(self, output: Any) -> Any:
        """Return what the last layer gives, after anything that stands in after it."""
        return output

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        """Act in the place of a layer."""
        return forward(*args, **kwargs)

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        """Act in the place of an attention or MLP."""
        return forward(*args, **kwargs)

    def before_site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        """Act in the place of a module before a site that goes with it, such as a projection into it."""
        return forward(*args, **kwargs)

    def beside_site(self, site: Site, name: str, forward: Forward, args: tuple, kwargs: dict) -> Any:
        """Act in the place of another module of a site, by its name, whose output is added to the residual stream."""
        return forward(*args, **kwargs)

    def update(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        """Act in the place of the module whose output is added to the residual stream."""
        return forward(*args, **kwargs)


#: What the calling thread does at wrapped modules; with none they run as if they were not wrapped.
ACTIVE_POLICY: ContextVar[ForwardPolicy | None] = ContextVar("explorer_run", default=None)
#: Called before every layer that is run under a policy.
BEFORE_LAYER: ContextVar[Callable[[], None] | None] = ContextVar("explorer_check", default=None)


class LayerCount:
    """Layers run, times the windows that each was run on."""

    evaluations = 0


LAYER_COUNT: ContextVar[LayerCount | None] = ContextVar("explorer_count", default=None)


class ForwardStopped(Exception):
    """Ends a forward pass after its decoder: what comes next is not wanted."""

    def __init__(self, output: Any) -> None:
        self.output = output


def following(run: ForwardPolicy) -> AbstractContextManager[ForwardPolicy]:
    """Have the calling thread follow a policy in the block."""
    return holding(ACTIVE_POLICY, run)


def _identity(tensor: Hidden) -> Hidden:
    return tensor


@dataclass
class ReturnFormat:
    """The form of a model: tuple lengths of what layers and each site return (0 a tensor), how they add.

    `beside` has the lengths of what other modules of a site return, by site and name; `normed` are the sites with a
    norm between them and the residual stream, `absent` those that a layer lacks; `whole` tells that a layer's update is
    not that of its sites; `hands_on` are layers that run, for what later ones read, even where they are off; `packing`
    is how what leaves a layer is kept; `decoder` dresses the last hidden states as the decoder returns them.
    """

    residual_inside: bool
    scale: float
    layer: int = 0
    sites: dict[Site, int] = field(default_factory=dict)
    beside: dict[tuple[Site, str], int] = field(default_factory=dict)
    normed: frozenset[Site] = frozenset()
    absent: frozenset[Site] = frozenset()
    whole: bool = False
    hands_on: frozenset[int] = frozenset()
    packing: Packing = field(default_factory=Packing)
    decoder: Callable[[Hidden], Any] = _identity


@dataclass
class VariantForward(ForwardPolicy):
    """Runs what the variant leaves on with its weights, under the eyes of an observer and a watch if there are any."""

    variant: Mask | Variant
    form: ReturnFormat
    layers: Sequence[nn.Module]
    with_weights: Callable[[int, Sequence[Delta]], AbstractContextManager[None]]
    observer: Observer | None = None
    watch: Watch | None = None
    shape: tuple[int, ...] = ()
    tokens: int = 0

    def __post_init__(self) -> None:
        self.mask = self.variant.mask
        self.stand_ins: dict[Site, StandIn] = {}
        self.passed = set(self.mask.whole_layers)
        self.idle = self.mask - Mask.of_layers(self.form.hands_on)
        self.added: Float[Tensor, " *any"] | None = None
        self.beside: Float[Tensor, " *any"] | None = None
        for delta in self.variant.deltas:
            self.stand_ins |= {min(place.sites): stand_in for place, stand_in in delta.stand_ins.items()}
            self.passed -= {min(place.sites).layer for place in delta.stand_ins if not place.whole_layers}

    def decoder(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        given = leave_out(self.idle, len(self.layers), (*args, *kwargs.values()))
        output = forward(*args, **kwargs)
        made = leave_out(self.idle, len(self.layers), output.values() if isinstance(output, ModelOutput) else output)
        count_tokens((*given, *made), self.tokens)
        return output

    def layer(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        if check := BEFORE_LAYER.get():
            check()
        hidden = hidden_of(args, kwargs)
        flatten, self.shape = self.form.packing.flatten, self.form.packing.windows_first(hidden).shape
        self.tokens = self.tokens if layer else self.shape[1]  # later layers may be run on the last ones alone
        if self.observer:
            self.observer.enter(layer, flatten(hidden))  # some models carry several streams
        off = layer in self.passed
        if off and layer in self.form.hands_on:
            forward(*args, **kwargs)
        if (not off or layer in self.form.hands_on) and (count := LAYER_COUNT.get()):
            count.evaluations += self.shape[0]
        output = (
            formed(self._pass_on(layer, hidden), self.form.layer, find_state(forward, args, kwargs))
            if off
            else self._run(layer, forward, args, kwargs)
        )
        if self.observer:
            self._show_absent(layer, hidden, first_of(output))
            self.observer.leave(layer, flatten(first_of(output)))
        return output

    def head(self, forward: Forward, args: tuple, kwargs: dict) -> Any:
        with self.with_weights(len(self.layers), self.variant.deltas):
            return forward(*args, **kwargs)

    def _show_absent(self, layer: int, hidden: Streams, output: Streams) -> None:
        """Show the updates of sites that a layer lacks: none; where it has neither, all that it adds as attention's."""
        for site in (Site(layer, part) for part in PARTS):
            if self.observer and site in self.form.absent:
                whole = self.form.whole and site.part == PARTS[0]
                added = output - hidden if whole else torch.zeros_like(hidden)
                self.observer.update(site, self.form.packing.flatten(added))

    def _pass_on(self, layer: int, hidden: Streams) -> Streams:
        """Return the output of a layer that is off."""
        stand_in = self.stand_ins.get(Site(layer, PARTS[0]))
        if stand_in is None:
            return hidden
        stream = self.form.packing.flatten(hidden)
        return self.form.packing.unflatten(stream + stand_in.on(hidden.device)(stream), hidden)

    def _run(self, layer: int, forward: Forward, args: tuple, kwargs: dict) -> Any:
        module, deltas = self.layers[layer], self.variant.deltas
        if not deltas and self.watch is None:
            return forward(*args, **kwargs)
        with self.with_weights(layer, deltas), watched(module, self.watch):
            return forward(*args, **kwargs)

    def before_site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        return hidden_of(args, kwargs) if site in self.mask.sites else forward(*args, **kwargs)

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        if site not in self.mask.sites:
            return forward(*args, **kwargs)
        hidden = hidden_of(args, kwargs)
        stand_in = self.stand_ins.get(site)
        self.added = torch.zeros_like(hidden) if stand_in is None else stand_in.on(hidden.device)(hidden)
        given = residual_of(args, kwargs) + self.added if self.form.residual_inside else self.added
        return formed(given, self.form.sites[site], find_state(forward, args, kwargs))

    def beside_site(self, site: Site, name: str, forward: Forward, args: tuple, kwargs: dict) -> Any:
        if site in self.mask.sites:
            return formed(torch.zeros_like(hidden_of(args, kwargs)), self.form.beside[site, name])
        output = forward(*args, **kwargs)
        if self.observer:
            self.beside = first_of(output) if self.beside is None else self.beside + first_of(output)
        return output

    def update(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        if site in self.form.normed and site in self.stand_ins:
            output = self.added  # it stands in for what the norm gives
        if self.observer:
            added = first_of(output) - residual_of(args, kwargs) if self.form.residual_inside else first_of(output)
            if self.beside is not None:
                added, self.beside = added + self.beside.view(added.shape), None
            added = added.view(self.shape)  # some layers flatten batch and window for their MLP
            self.observer.update(site, added if self.form.scale == 1 else added * self.form.scale)
        return output


@dataclass
class ShowAttention(ForwardPolicy):
    """Shows the attention weights of every layer that gives them."""

    take: Callable[[int, Float[Tensor, "batch heads window window"]], None]

    def site(self, site: Site, forward: Forward, args: tuple, kwargs: dict) -> Any:
        output = forward(*args, **kwargs)
        if site.part == "attention" and isinstance(output, tuple) and isinstance(output[1], Tensor):
            self.take(site.layer, output[1])
        return output


def hidden_of(args: tuple, kwargs: dict) -> Float[Tensor, " *any"]:
    """Return the hidden states that a layer or site is called with."""
    return args[0] if args else kwargs["hidden_states"]


def residual_of(args: tuple, kwargs: dict) -> Any:
    """Return what a module is given beside its hidden states: the residual stream, if it adds to that itself."""
    return args[1] if len(args) > 1 else kwargs.get("residual")


def first_of(output: Any) -> Any:
    """Return what a module gives, or the first of several: hidden states, if it is a layer or a site."""
    return output[0] if isinstance(output, (tuple, list)) else output


def formed(tensor: Float[Tensor, " *any"], form: int, state: Any = None) -> Any:
    """Return a tensor as a layer or site does that returns so many, 0 the tensor alone; a state comes second."""
    return (tensor, *[state, *[None] * form][: form - 1]) if form else tensor
