"""The only code that touches a model's forward: `observe`, `masked`, and the pieces that scoring re-runs.

Wrappers are put on once, at load. Each asks a context variable what to do, so that the mask belongs to the
work and not to the model: threads that hold different masks share one copy of the weights, and nothing has
to be taken off when work fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from explorer.errors import UnsupportedModel, first_line
from explorer.masks.mask import NONE, PARTS, Mask, Site
from explorer.model.architecture import Family
from explorer.model.weights import find_input_device

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


def _put(module: nn.Module, forward: Forward) -> Callable[[], None]:
    """Let a module run something in place of its forward; return what takes that off."""
    before = module.__dict__.get("forward")

    def undo() -> None:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before

    module.__dict__["forward"] = forward
    return undo


def see_children(model: Any, layer: nn.Module, ids: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the input and output of a layer (under no name) and of each module in it, by name, in one pass."""
    given: dict[str, tuple[Tensor, Tensor]] = {}
    undo = []

    def watch(name: str, inner: Forward) -> Forward:
        @wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = _hidden(args, kwargs).clone()
            output = inner(*args, **kwargs)
            if isinstance(_first(output), Tensor):
                given[name] = hidden, _first(output).clone()
            return output

        return forward

    try:
        for name, module in (("", layer), *layer.named_children()):
            undo.append(_put(module, watch(name, module.forward)))
        _try_out(model, ids)
    finally:
        for take_off in undo:
            take_off()
    return given


def _try_out(model: Any, ids: Tensor) -> None:
    """Run a model for the first time. Raises UnsupportedModel if its own code fails."""
    try:
        model(ids, use_cache=False)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise UnsupportedModel(
            "The model does not run", f"{type(model).__name__}: {first_line(error)}", "Check config.json"
        ) from error


class Hooks:
    """The wrappers around one model's layers and sites."""

    def __init__(self, model: Any, family: Family) -> None:
        self.model = model
        self.device = find_input_device(model)
        self.layers: list[nn.Module] = list(model.get_submodule(family.layers))
        self.vocabulary: int = model.config.get_text_config(decoder=True).vocab_size
        self._undo: list[Callable[[], None]] = []
        scale = float(getattr(self.layers[0], family.multiplier)) if family.multiplier else 1.0
        self._form = _Form(family.residual_inside, scale)
        self._wrap(model.get_submodule(family.decoder), lambda run, *call: run.decoder(*call))
        for index, layer in enumerate(self.layers):
            self._wrap(layer, lambda run, *call, index=index: run.layer(index, *call))
            for part in PARTS:
                self._wrap_site(layer, Site(index, part), family)
        try:
            with torch.inference_mode(), _running(_Learning(self._form)):
                _try_out(self.model, self._ids(1, 2))
        except BaseException:
            self.remove()
            raise

    def returns(self, site: Site) -> int:
        """Length of the tuple that a site's module returns; 0 if it returns a tensor."""
        return self._form.sites[site]

    def remove(self) -> None:
        """Take every wrapper off; the model is as it was before."""
        while self._undo:
            self._undo.pop()()

    def _wrap_site(self, layer: nn.Module, site: Site, family: Family) -> None:
        *before, last = family.modules(site.part)
        for name in before:
            self._wrap(getattr(layer, name), lambda run, *call: run.before_site(site, *call))
        self._wrap(getattr(layer, last), lambda run, *call: run.site(site, *call))
        self._wrap(getattr(layer, family.update(site.part)), lambda run, *call: run.update(site, *call))

    def _wrap(self, module: nn.Module, act: Callable[..., Any]) -> None:
        """Let the run of the calling thread, if there is one, decide about this module's forward."""
        inner = module.forward

        @wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            run = _RUN.get()
            return inner(*args, **kwargs) if run is None else act(run, inner, args, kwargs)

        self._undo.append(_put(module, forward))

    def _ids(self, batch: int, length: int) -> Tensor:
        return torch.zeros((batch, length), dtype=torch.long, device=self.device)

    @contextmanager
    def masked(self, mask: Mask) -> Iterator[None]:
        """Turn the mask's sites off, in this thread, for the time of the block.

        A site that is off adds zeros to the residual stream and is not run; a layer that is off is skipped.
        """
        with _running(_Working(mask, self._form)):
            yield

    @contextmanager
    def observe(self, observer: Observer, mask: Mask = NONE) -> Iterator[None]:
        """Show the residual stream of every forward pass in this thread to an observer, under a mask."""
        with _running(_Working(mask, self._form, observer)):
            yield

    @contextmanager
    def checking(self, check: Callable[[], None]) -> Iterator[None]:
        """Call `check` before every layer that this thread runs in the block; it may raise to stop the work."""
        token = _CHECK.set(check)
        try:
            yield
        finally:
            _CHECK.reset(token)

    @contextmanager
    def counting(self) -> Iterator[Count]:
        """Count the layers that this thread runs in the block; not those of jobs that are let in between."""
        token = _COUNT.set(count := Count())
        try:
            yield count
        finally:
            _COUNT.reset(token)

    def attend(self, ids: Tensor, take: Callable[[int, Tensor], None]) -> None:
        """Run ids (batch, window) and show each layer's attention weights (batch, heads, to, from).

        Only plain attention gives its weights, so the model attends plainly for the time of this one pass, into which
        no other work is let.
        """
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        try:
            with _running(_Attending(take)):
                self.model.base_model(ids, use_cache=False)
        finally:
            self.model.set_attn_implementation(before)

    def trace(self, ids: Tensor) -> Trace:
        """Run the model up to the first layer on ids (batch, window)."""
        run = _Tracing(self._form, [])
        self._run_decoder(run, ids)
        assert run.hidden is not None
        return Trace(run.hidden, run.calls)

    def run_layer(self, layer: int, hidden: Tensor, call: Call) -> Tensor:
        """Re-run one layer from hidden states (batch, window, width) with its call from a trace."""
        args, kwargs = call
        return _first(self.layers[layer](hidden, *args, **kwargs))

    def finish(self, hidden: Tensor) -> Tensor:
        """Do to the last layer's output (batch, length, width) what the decoder does after it: the final norm."""
        return self._run_decoder(_Finishing(hidden, self._form), self._ids(*hidden.shape[:2]))

    def logits(self, finished: Tensor) -> Tensor:
        """Turn finished hidden states (positions, width) into logits (positions, vocabulary).

        What the model does after its decoder is done by the model itself: head, scaling, capping. Positions go in as
        one window, with the strides of a new tensor: for those of a slice, torch multiplies several times slower.
        """
        window = finished.contiguous()[None]
        with _running(_Heading(window, self._form)):
            return self.model(self._ids(*window.shape[:2]), use_cache=False).logits[0]

    def _run_decoder(self, run: _Run, ids: Tensor) -> Tensor:
        """Run the model up to the end of its decoder; return the last hidden states."""
        with _running(run):
            try:
                self.model(ids, use_cache=False)
            except _Enough as enough:
                return enough.output[0] if isinstance(enough.output, (tuple, ModelOutput)) else enough.output
        raise UnsupportedModel(
            "The model cannot be measured", "its forward pass does not call its decoder", "Use a supported family"
        )
