"""Variants by plain transformers: weights overwritten, affine maps put in by hooks; shares no code with the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from explorer.deltas.delta import Delta, Origin
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.variant import Variant
from explorer.deltas.weight_change import LowRankUpdate, SparsityPattern, WeightChange
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force


def make(loaded: LoadedModel, corpus: Corpus, mask: str, *modifiers: str) -> Variant:
    """Make a variant with nothing stored."""
    specs = [ModifierSpec.parse(text) for text in modifiers]
    made = modify(loaded, corpus, Mask.parse(mask), specs, Store(None))
    assert isinstance(made, Variant)
    return made


def perturb(loaded: LoadedModel, mask: Mask, seed: int = 0) -> Variant:
    """Make a variant in which every parameter of what is on is another; experts, which are apart in files, are not."""
    where, generator = brute_force.names(loaded.model), torch.Generator().manual_seed(seed)
    weights: dict[int, dict[str, torch.Tensor]] = {}
    for layer, module in enumerate(loaded.model.get_submodule(where["layers"])):
        parts = zip(("attention", "mlp"), mask.off(layer), strict=True)
        off = tuple(start for part, is_off in parts if is_off for start in _starts(loaded, where, part))
        gone = layer in mask.whole_layers
        weights[layer] = {
            name: (own * (1 + 0.1 * torch.randn(own.shape, generator=generator)).to(own.dtype)).detach()
            for name, own in module.named_parameters()
            if not gone and "experts" not in name and not name.startswith(off)
        }
    origin = Origin(ModifierSpec("refit"), mask, loaded.digest, "none", 0, "none")
    return Variant(mask, (Delta(origin, {layer: named for layer, named in weights.items() if named}, {}),))


def _starts(loaded: LoadedModel, where: dict[str, str], part: str) -> list[str]:
    opt = loaded.config.model_type == "opt" and part == "mlp"
    return ["fc1.", "fc2."] if opt else [where[part] + "."]


@torch.no_grad()
def overwritten(folder: Path, variant: Variant, dtype: torch.dtype = torch.float32) -> Any:
    """Load a checkpoint, zero what is off, overwrite what deltas changed, and put in what stands in."""
    model = brute_force.zeroed(folder, variant.mask, dtype)
    layers = model.get_submodule(brute_force.names(model)["layers"])
    for delta in variant.deltas:
        for layer, weights in delta.weights.items():
            module = layers[layer] if layer < len(layers) else _own_head(model)
            for name, tensor in weights.items():
                own = module.get_parameter(name)
                own.copy_(_change(own, tensor))
        for place, stand_in in delta.stand_ins.items():
            first = min(place.sites)
            if len(place.sites) > 1:
                _put_in_run(layers, sorted(place.whole_layers), stand_in.tensors)
            else:
                _put_in_site(model, layers[first.layer], first.part, stand_in.tensors)
    return model


def _own_head(model: Any) -> Any:
    """Return the head, with weights that are not the embedding's."""
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.clone(), requires_grad=False)
    return head


def _change(own: torch.Tensor, change: WeightChange) -> torch.Tensor:
    """Return what a weight becomes, written out otherwise than the library does."""
    if isinstance(change, LowRankUpdate):
        return own + torch.einsum("...or,...ri->...oi", change.left.to(own.dtype), change.right.to(own.dtype))
    if isinstance(change, SparsityPattern):
        bits = [(change.kept >> place) & 1 for place in range(7, -1, -1)]
        return own * torch.stack(bits, -1).flatten(-2)[..., : own.shape[-1]]
    return change


def _affine(x: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what is added for inputs, written out otherwise than the library does."""
    weight = torch.zeros(x.shape[-1], x.shape[-1], dtype=x.dtype)
    weight += torch.diag(tensors["scale"].expand(x.shape[-1])) if "scale" in tensors else 0
    weight += tensors.get("weight", torch.zeros(()))
    weight += tensors["down"] @ tensors["up"] if "down" in tensors else 0
    return torch.einsum("...i,ij->...j", x, weight) + tensors.get("bias", torch.zeros(()))


def _like(output: Any, tensor: torch.Tensor) -> Any:
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


def _put_in_run(layers: Any, run: list[int], tensors: dict[str, torch.Tensor]) -> None:
    def passing(first: bool) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            x = args[0] if args else kwargs["hidden_states"]
            return _like(output, x + _affine(x, tensors) if first else x)

        return hook

    for layer in run:
        layers[layer].register_forward_hook(passing(layer == run[0]), with_kwargs=True)


def _put_in_site(model: Any, layer: Any, part: str, tensors: dict[str, torch.Tensor]) -> None:
    where = brute_force.names(model)
    site = layer.get_submodule(where[part])
    read: list[torch.Tensor] = []

    def give(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        x = args[0] if args else kwargs["hidden_states"]
        read[:] = [x]
        residual = 0
        if model.config.model_type == "bloom":
            residual = args[1] if len(args) > 1 else kwargs["residual"]
        return _like(output, residual + _affine(x, tensors))

    if model.config.model_type == "opt" and part == "mlp":
        layer.fc1, layer.fc2 = torch.nn.Identity(), torch.nn.Identity()
        site = layer.fc2
    site.register_forward_hook(give, with_kwargs=True)
    if (norm := where.get(f"{part}_update")) is not None:
        layer.get_submodule(norm).register_forward_hook(lambda module, args, output: _affine(read[0], tensors))
