"""The only code that touches a model's forward: `observe`, `as_variant`, and the pieces that scoring re-runs.

Wrappers are put on once, at load. Each asks a context variable what to do, so that the mask belongs to the
work and not to the model: threads that hold different masks share one copy of the weights, and nothing has
to be taken off when work fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from transformers.utils import ModelOutput

from explorer.deltas import Delta, Variant
from explorer.errors import MaskError, UnsupportedModel
from explorer.holding import holding
from explorer.masks import NONE, PARTS, Mask, Site
from explorer.model.architecture import Architecture
from explorer.model.changed_weights import ChangedWeights
from explorer.model.forward_policies import (
    ACTIVE_POLICY,
    BEFORE_LAYER,
    LAYER_COUNT,
    Forward,
    ForwardPolicy,
    ForwardStopped,
    Hidden,
    Ids,
    LayerCall,
    LayerCount,
    Observer,
    ReturnFormat,
    ShowAttention,
    VariantForward,
    following,
)
from explorer.model.layer_stream import find_stream
from explorer.model.layer_surgery import Watch, changed, put_forward
from explorer.model.module_calls import try_out
from explorer.model.piece_policies import (
    BATCH,
    WINDOW,
    LayerInputs,
    LearnReturnFormat,
    RecordLayerInputs,
    ReplaceDecoderOutput,
    ReplaceLastLayer,
    enter_first,
    leave_last,
)
from explorer.model.weights import find_input_device


class ModelWrappers:
    """The wrappers around one model's layers and sites."""

    def __init__(self, model: Any, architecture: Architecture) -> None:
        self.model, self.architecture = model, architecture
        self.device = find_input_device(model)
        self.layers: list[nn.Module] = list(model.get_submodule(architecture.layers))
        self.head: nn.Module = model.get_output_embeddings()
        self.stream = find_stream(model)
        resident = 0 if self.stream else sum(each.nbytes for layer in self.layers for each in layer.parameters())
        self._changed_weights = ChangedWeights(resident)
        self.vocabulary: int = model.config.get_text_config(decoder=True).vocab_size
        self._undo: list[Callable[[], None]] = []
        scale = float(getattr(self.layers[0], architecture.multiplier)) if architecture.multiplier else 1.0
        sites = [Site(layer, part) for layer in range(len(self.layers)) for part in PARTS]
        names = {site: (architecture.at(site.layer), site.part) for site in sites}
        self._form = ReturnFormat(
            architecture.residual_inside,
            scale,
            normed=frozenset(site for site, (own, part) in names.items() if own.update(part) not in own.modules(part)),
            absent=frozenset(site for site, (own, part) in names.items() if not own.modules(part)),
            whole=bool(architecture.whole),
            hands_on=frozenset(architecture.hands_on or ()),
        )
        self.packing = self._form.packing
        self._wrap(model.get_submodule(architecture.decoder), lambda run, *call: run.decoder(*call))
        self._undo.append(self.layers[0].register_forward_pre_hook(enter_first, prepend=True, with_kwargs=True).remove)
        self._undo.append(self.layers[-1].register_forward_hook(leave_last).remove)
        self._wrap(self.head, lambda run, *call: run.head(*call))
        for index, layer in enumerate(self.layers):
            self._wrap(layer, lambda run, *call, index=index: run.layer(index, *call))
            for part in PARTS:
                if architecture.at(index).modules(part):
                    self._wrap_site(layer, Site(index, part), architecture.at(index))
        try:
            with torch.inference_mode(), following(LearnReturnFormat(self._form)):
                try_out(self.model, self._ids(BATCH, WINDOW))
        except BaseException:
            self.remove()
            raise
        self.packing.keep(architecture.hands_on)

    @property
    def multiplier(self) -> float:
        """What every layer multiplies with what its sites give, before it is added to the stream."""
        return self._form.scale

    def returns(self, site: Site, beside: str = "") -> int:
        """Length of the tuple that a site's module returns, or one added beside it; 0 if it returns a tensor."""
        return self._form.beside[site, beside] if beside else self._form.sites[site]

    def remove(self) -> None:
        """Take every wrapper off; the model is as it was before."""
        while self._undo:
            self._undo.pop()()

    def _wrap_site(self, layer: nn.Module, site: Site, architecture: Architecture) -> None:
        *before, last = architecture.modules(site.part)
        for name in before:
            if name in architecture.adds:
                self._wrap(getattr(layer, name), lambda run, *call, name=name: run.beside_site(site, name, *call))
            else:
                self._wrap(getattr(layer, name), lambda run, *call: run.before_site(site, *call))
        self._wrap(getattr(layer, last), lambda run, *call: run.site(site, *call))
        self._wrap(getattr(layer, architecture.update(site.part)), lambda run, *call: run.update(site, *call))

    def _wrap(self, module: nn.Module, act: Callable[..., Any]) -> None:
        """Let the run of the calling thread, if there is one, decide about this module's forward."""
        inner = module.forward

        @wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            run = ACTIVE_POLICY.get()
            return inner(*args, **kwargs) if run is None else act(run, inner, args, kwargs)

        self._undo.append(put_forward(module, forward))

    def _ids(self, batch: int, length: int) -> Ids:
        return torch.zeros((batch, length), dtype=torch.long, device=self.device)

    @contextmanager
    def as_variant(self, variant: Mask | Variant) -> Iterator[None]:
        """Run the model as a variant, in this thread, for the time of the block.

        A site that is off adds zeros to the residual stream, or what stands in for it, and is not run; a layer that is
        off is skipped. A layer, and the head, has the variant's weights while it runs, and its own before and after.
        """
        self.check_sites(variant.mask)
        with following(VariantForward(variant, self._form, self.layers, self.with_weights)):
            yield

    @contextmanager
    def observe(
        self, observer: Observer | None, variant: Mask | Variant = NONE, watch: Watch | None = None
    ) -> Iterator[None]:
        """Show the residual stream of every forward pass in this thread to an observer, in a variant.

        And keep in `watch` what modules within the layers are given and give.
        """
        self.check_sites(variant.mask)
        with following(VariantForward(variant, self._form, self.layers, self.with_weights, observer, watch)):
            yield

    def check_sites(self, mask: Mask) -> None:
        """Raise MaskError if a mask turns off a site of a model of which only whole layers can go."""
        alone = sorted(mask.sites - Mask.of_layers(mask.whole_layers).sites) if self.architecture.whole else []
        if alone:
            raise MaskError(
                f"{alone[0]} cannot be turned off by itself",
                self.architecture.whole,
                f"Turn off layer {alone[0].layer}",
            )

    def kept(self, layer: int) -> AbstractContextManager[None]:
        """Keep a streamed layer's weights to the end of the block, once something has needed them."""
        return nullcontext() if self.stream is None else self.stream.kept(layer)

    def in_memory(self, layer: int) -> AbstractContextManager[None]:
        """Have the weights of a layer, or of the head, in memory in the block."""
        streamed = self.stream if layer < len(self.layers) else None
        return nullcontext() if streamed is None else streamed.in_memory(layer)

    def module(self, layer: int) -> nn.Module:
        """Return a layer; of number L the head."""
        return self.layers[layer] if layer < len(self.layers) else self.head

    def path(self, layer: int) -> str:
        """Return the name that a layer, or the head, has in the model."""
        return next(name for name, module in self.model.named_modules() if module is self.module(layer))

    @contextmanager
    def with_weights(self, layer: int, deltas: Sequence[Delta]) -> Iterator[None]:
        """Have the weights of a layer, or of the head, in memory, as deltas change them, in the block."""
        with self.in_memory(layer), changed(self.module(layer), layer, deltas, self._changed_weights):
            yield

    def weight(self, layer: int, name: str, deltas: Sequence[Delta] = ()) -> Float[Tensor, " *weight"]:
        """Return what a parameter of a layer, or of the head, becomes by deltas."""
        with self.in_memory(layer):
            return self._changed_weights.find(layer, name, self.module(layer).get_parameter(name).detach(), deltas)

    def checking(self, check: Callable[[], None]) -> AbstractContextManager[Any]:
        """Call `check` before every layer that this thread runs in the block; it may raise to stop the work."""
        return holding(BEFORE_LAYER, check)

    def counting(self) -> AbstractContextManager[LayerCount]:
        """Count the layers that this thread runs in the block; not those of jobs that are let in between."""
        return holding(LAYER_COUNT, LayerCount())

    def count_in(self, evaluations: int) -> None:
        """Add layers that others ran for this thread to what it counts."""
        if count := LAYER_COUNT.get():
            count.evaluations += evaluations

    def attend(self, ids: Ids, take: Callable[[int, Float[Tensor, "batch heads window window"]], None]) -> None:
        """Run ids and show each layer's attention weights, of every token in turn on those that it sees.

        Only plain attention gives its weights, so the model attends plainly for the time of this one pass, into which
        no other work is let.
        """
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        try:
            with following(ShowAttention(take)):
                self.model.base_model(input_ids=ids, use_cache=False)
        finally:
            self.model.set_attn_implementation(before)

    def layer_inputs(self, ids: Ids, **given: Any) -> LayerInputs:
        """Run the model up to the first layer, with what else it is given, such as positions and an attention mask."""
        run = RecordLayerInputs(self._form, [])
        self._run_decoder(run, ids, **given)
        assert run.hidden is not None
        return LayerInputs(self.packing.pack(run.hidden), run.calls)

    def run_layer(self, layer: int, hidden: Hidden, call: LayerCall) -> Hidden:
        """Re-run one layer from hidden states with its call from a trace."""
        return self.run_call(self.layers[layer], hidden, call)

    def run_call(self, forward: Forward, hidden: Hidden, call: LayerCall) -> Hidden:
        """Run what acts in the place of a layer from hidden states with the layer's call from a trace."""
        return self.packing.run(forward, hidden, *call)

    def try_layer(
        self,
        layer: int,
        weights: Mapping[str, Float[Tensor, " *weight"]],
        hidden: Hidden,
        call: LayerCall,
        variant: Mask | Variant = NONE,
    ) -> Hidden:
        """Run one layer of a variant with other values of its parameters, to which gradients flow.

        Args:
            layer: which one.
            weights: value by name of those parameters that have another than the variant's.
            hidden, call: as for `run_layer`.
            variant: what is off, and changed.
        """
        run = VariantForward(variant, self._form, self.layers, lambda *_: nullcontext())
        with self.with_weights(layer, variant.deltas), following(run):
            return self.run_call(
                lambda *args, **kwargs: functional_call(self.layers[layer], dict(weights), args, kwargs), hidden, call
            )

    def finish(self, hidden: Hidden) -> Float[Tensor, "batch window _"]:
        """Do to the last layer's output what the decoder does after it: the final norm."""
        last = ReplaceLastLayer(self.packing.hidden(hidden), self._form)
        return self._run_decoder(last, self._ids(*hidden.shape[:2]))

    def logits(
        self, finished: Float[Tensor, "positions width"], variant: Mask | Variant = NONE
    ) -> Float[Tensor, "positions vocabulary"]:
        """Turn finished hidden states into logits, by the head that a variant has.

        What the model does after its decoder is done by the model itself: head, scaling, capping. Positions go in as
        one window, with the strides of a new tensor: for those of a slice, torch multiplies several times slower.
        """
        window = finished.contiguous()[None]
        changed_head = self.with_weights(len(self.layers), variant.deltas)
        with changed_head, following(ReplaceDecoderOutput(window, self._form)):
            return self.model(input_ids=self._ids(*window.shape[:2]), use_cache=False).logits[0]

    def _run_decoder(self, run: ForwardPolicy, ids: Ids, **given: Any) -> Hidden:
        """Run the model up to the end of its decoder; return the last hidden states."""
        with following(run):
            try:
                self.model(input_ids=ids, use_cache=False, **given)
            except ForwardStopped as enough:
                return enough.output[0] if isinstance(enough.output, (tuple, ModelOutput)) else enough.output
        raise UnsupportedModel(
            "The model cannot be measured", "its forward pass does not call its decoder", "Use a supported family"
        )
