"""ModelWrappers -> whether what the wrappers see and do is what the model is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import UnsupportedModel
from explorer.masks import NONE, PARTS, Mask, Site
from explorer.model.architecture import Architecture, find_architecture
from explorer.model.dissection import find_updates, only_whole
from explorer.model.forward_policies import Hidden, Ids, LayerCall
from explorer.model.module_calls import refusing_failures
from explorer.model.wrappers import ModelWrappers

#: Tokens of a long row that layers are checked with; so many where the config does not say how many they take.
_WINDOW, _SAFE = 256, 64


@dataclass
class _Seen:
    """One layer's input and what its sites add to it; without a site, its output may overflow."""

    hidden: Hidden
    updates: dict[str, Hidden]
    whole: bool

    def enter(self, layer: int, hidden: Hidden) -> None:
        self.hidden = hidden

    def update(self, site: Site, update: Hidden) -> None:
        self.updates[site.part] = update.clone()  # some layers add in place

    def leave(self, layer: int, hidden: Hidden) -> None:
        if self.updates.keys() != set(PARTS):
            _refuse(f"layer {layer} does not run what it adds to the residual stream with")
        if not torch.isfinite(hidden).all():
            if self.whole:
                _refuse_overflow(layer, hidden.dtype)
            return
        if not _close(sum(map(Tensor.float, self.updates.values()), self.hidden.float()), hidden):
            _refuse(f"layer {layer} is not its input plus what its attention and MLP add")


def wrap_checked(model: Any, architecture: Architecture) -> tuple[ModelWrappers, bool]:
    """Wrap and check a model; return also whether attention and MLP are parallel.

    Where what an earlier load has shown does not pass the check, it is looked for anew by experiment; where those sites
    that an experiment found do not, the model is checked as one of whole layers.

    Raises UnsupportedModel: see `check_hooks`.
    """
    wrappers = ModelWrappers(model, architecture)
    try:
        with refusing_failures(model, "The model's layers do not run one by one", "Use a supported family"):
            parallel = check_hooks(wrappers)
            if not wrappers.packing.entries:
                return wrappers, parallel
            found = replace(architecture, hands_on=tuple(sorted(find_readers(wrappers))))
            wrappers.remove()
            return ModelWrappers(model, found), parallel
    except UnsupportedModel as error:
        wrappers.remove()
        if architecture.known:
            return wrap_checked(model, find_updates(model, find_architecture(model)))
        if architecture.whole:
            raise
        return wrap_checked(model, only_whole(architecture, error.found))
    except BaseException:
        wrappers.remove()
        raise


@torch.inference_mode()
def check_hooks(wrappers: ModelWrappers) -> bool:
    """Check on a few tokens that what the wrappers see and do is what the model is.

    Re-running the layers one by one gives the model's own logits; a layer's output is its input plus what its
    sites add; a site that is off adds nothing, and turning it off moves the output if it added something.

    Returns:
        Whether attention and MLP are parallel: the MLP reads the residual stream before attention is added.

    Raises:
        UnsupportedModel: one of these does not hold, or the model overflows in its dtype.
    """
    model: Any = wrappers.model
    ids = torch.randint(wrappers.vocabulary, (2, 8), generator=torch.Generator().manual_seed(0)).to(wrappers.device)
    own = model(input_ids=ids, use_cache=False).logits
    layer_inputs = wrappers.layer_inputs(ids)
    if len(layer_inputs.calls) != len(wrappers.layers):
        _refuse(f"its forward pass runs {len(layer_inputs.calls)} of {len(wrappers.layers)} layers")
    for writer, readers in ({} if wrappers.architecture.whole else find_readers(wrappers)).items():
        _refuse(f"layer {readers[0]} reads what layer {writer} hands on beside the residual stream")
    hidden, parallel = layer_inputs.hidden, True
    for layer, call in enumerate(layer_inputs.calls):
        with wrappers.kept(layer):
            hidden, reads_alike = _check_layer(wrappers, layer, hidden, call)
        parallel = parallel and reads_alike
    if not torch.isfinite(own).all():
        _refuse_overflow(len(layer_inputs.calls), own.dtype)
    if not _close(wrappers.logits(wrappers.finish(hidden).flatten(0, 1)), own.flatten(0, 1)):
        _refuse("its layers, run one by one, do not give its logits")
    if not wrappers.architecture.known:
        _check_alone(wrappers, ids)
    _check_shapes(wrappers)
    return parallel


def _check_shapes(wrappers: ModelWrappers) -> None:
    """Check a layer of each form in batches of other shapes: one row as long as a window, and three short ones.

    Layers are of one form if their parts are named and made alike, and attention is of one kind.
    """
    config = wrappers.model.config.get_text_config(decoder=True)
    kinds = dict(enumerate(getattr(config, "layer_types", None) or ()))
    forms = {
        (wrappers.architecture.at(number), kinds.get(number), *map(type, layer.children())): number
        for number, layer in reversed(list(enumerate(wrappers.layers)))
    }
    longest = min(_WINDOW, getattr(config, "max_position_embeddings", None) or _SAFE)
    for rows, length in ((1, longest), (3, 8)):
        generator = torch.Generator().manual_seed(rows)
        ids = torch.randint(wrappers.vocabulary, (rows, length), generator=generator).to(wrappers.device)
        inputs = wrappers.layer_inputs(ids)
        for layer in sorted(forms.values()):
            with wrappers.kept(layer):
                _check_layer(wrappers, layer, inputs.hidden, inputs.calls[layer])


def _check_alone(wrappers: ModelWrappers, ids: Ids) -> None:
    """Refuse a model whose layers read what others computed beside the residual stream: run backwards, none was."""
    layer_inputs = wrappers.layer_inputs(ids)
    states = [layer_inputs.hidden]
    for layer, call in enumerate(layer_inputs.calls):
        with wrappers.observe(None):
            states.append(wrappers.run_layer(layer, states[-1], call))
    calls = wrappers.layer_inputs(ids).calls
    for layer in reversed(range(len(calls))):
        try:
            found = wrappers.run_layer(layer, states[layer], calls[layer])
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
            found = torch.full_like(states[layer], torch.nan)
        if not _close(found, states[layer + 1]):
            _refuse(f"layer {layer} reads what an earlier layer computed beside the residual stream")


@torch.inference_mode()
def find_readers(wrappers: ModelWrappers) -> dict[int, list[int]]:
    """Return the layers that others read something of beside the residual stream, and which those are.

    They give something else without it.
    """
    if not wrappers.packing.entries:
        return {}
    ids = torch.randint(wrappers.vocabulary, (2, 8), generator=torch.Generator().manual_seed(0)).to(wrappers.device)
    layer_inputs, found = wrappers.layer_inputs(ids), defaultdict[int, list[int]](list)
    hidden, stream = layer_inputs.hidden, wrappers.packing.stream
    for layer, call in enumerate(layer_inputs.calls):
        with wrappers.kept(layer), wrappers.observe(None):
            after = wrappers.run_layer(layer, hidden, call)
            for entry in (each for each in wrappers.packing.entries if each.writer < layer):
                other = wrappers.run_layer(layer, wrappers.packing.without(hidden, entry), call)
                if not _close(stream(other), stream(after)):
                    found[entry.writer].append(layer)
        hidden = after
    return dict(found)


def _check_layer(wrappers: ModelWrappers, layer: int, before: Hidden, call: LayerCall) -> tuple[Hidden, bool]:
    """Check one layer; return its output and whether its MLP adds the same with its attention off."""
    hidden, updates = _run_seen(wrappers, layer, before, call, NONE)
    parallel = True
    for part in (part for part in PARTS if wrappers.architecture.at(layer).modules(part)):
        alone, left = _run_seen(wrappers, layer, before, call, Mask(frozenset({Site(layer, part)})))
        if left[part].any():
            _refuse(f"{Site(layer, part)} adds to the residual stream when it is off")
        if torch.equal(alone, hidden) and updates[part].abs().max() > 1e-3 * before.abs().max():
            _refuse(f"turning {Site(layer, part)} off changes nothing")
        if part == "attention":
            parallel = torch.equal(left["mlp"], updates["mlp"])
    return hidden, parallel


def _run_seen(
    wrappers: ModelWrappers, layer: int, hidden: Hidden, call: LayerCall, mask: Mask
) -> tuple[Hidden, dict[str, Float[Tensor, ...]]]:
    """Run one layer under a mask; return its output and what its sites add."""
    seen = _Seen(hidden, {}, whole=mask == NONE)
    with wrappers.observe(seen, mask):
        return wrappers.run_layer(layer, hidden, call), seen.updates


def _close(a: Float[Tensor, " *any"], b: Float[Tensor, " *any"]) -> bool:
    """Tell whether two tensors agree to 16 units in the last place of the largest entry."""
    unit = torch.finfo(b.dtype).eps * max(float(b.abs().max()), 1e-6)
    return float((a.float() - b.float()).abs().max()) <= 16 * unit


def _refuse(found: str) -> NoReturn:
    raise UnsupportedModel("The model cannot be measured correctly", found, "Use a decoder of a supported family")


def _refuse_overflow(layer: int, dtype: torch.dtype) -> NoReturn:
    name = str(dtype).removeprefix("torch.")
    raise UnsupportedModel("The model overflows", f"in {name}, from layer {layer}", "Use --dtype bfloat16 or float32")
