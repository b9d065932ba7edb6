"""Low-rank adapters beside the kept linear maps, by peft: LoRA, arXiv:2106.09685."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from explorer.deltas import LowRankUpdate, Variant
from explorer.errors import ModifyError
from explorer.extras import require
from explorer.healing.objective import predict
from explorer.healing.recipe import LEARNT, PRESETS, list_options, read_options, read_recipe, read_whole
from explorer.healing.student import Student
from explorer.healing.teacher import find_teacher
from explorer.healing.training_text import find_windows
from explorer.masks import PARTS, Mask, Site
from explorer.model import LoadedModel, Twin, make_twin
from explorer.modifiers import Fitted, Modifier, Option, Setting, list_linear_maps

_A, _B = "lora_A.default.weight", "lora_B.default.weight"


def fit_lora(setting: Setting) -> Fitted:
    """Train a pair of narrow matrices beside each linear map that is kept.

    Raises:
        MissingExtra: peft is not installed.
        ModifyError: there is no linear map to adapt, or see `Training.run`.
    """
    require("peft")
    from explorer.healing.training import Training

    options = read_options(setting)
    maps = list_maps(setting, options["targets"])
    if not maps:
        found = f"no linear map of {options['targets']} is kept"
        raise ModifyError("There is nothing to adapt", found, "Use other targets, or train")
    recipe, rank = read_recipe(options), read_whole(options, "rank")
    scale = 1.0 if options["alpha"] == "rank" else float(options["alpha"]) / rank
    twin = adapt(setting, maps, rank, scale, recipe.seed)
    names = [f"{twin.layers}.{layer}.{name}.{half}" for layer, name in maps for half in (_A, _B)]
    windows = find_windows(setting, options, recipe)
    teacher = find_teacher(setting, windows, options)
    objective = predict(setting.loaded, twin, torch.from_numpy(windows.ids), options["loss"], teacher)
    student = Student(twin.model, names, objective)

    def gather() -> Fitted:
        return Fitted(_gather(setting.loaded, maps, student.tensors, scale))

    return Training(setting, recipe, student, windows, gather).run()


def list_maps(setting: Setting, targets: str) -> list[tuple[int, str]]:
    """List the layer, and the name in it, of each linear map of attention, MLPs or `all` that are on."""
    layers, off = range(setting.loaded.n_layers), setting.mask
    if targets != "all":
        off |= Mask(frozenset(Site(layer, part) for layer in layers for part in PARTS if part != targets))
    return [(layer, each.name) for layer in layers for each in list_linear_maps(setting.loaded, layer, off)]


def adapt(setting: Setting, maps: list[tuple[int, str]], rank: int, scale: float, seed: int) -> Twin:
    """Return the twin of the variant so far with an adapter beside each map: A random, B zero."""
    from peft import LoraConfig, inject_adapter_in_model

    dtype = setting.loaded.model.dtype
    path, layers = setting.loaded.architecture.layers, setting.loaded.wrappers.layers
    turned = any(isinstance(layers[layer].get_submodule(name), Conv1D) for layer, name in maps)

    def inject(model: Any) -> None:
        config = LoraConfig(
            r=rank,
            lora_alpha=scale * rank,  # type: ignore[arg-type]  # it is divided by the rank
            target_modules=[f"{path}.{layer}.{name}" for layer, name in maps],
            fan_in_fan_out=turned,
        )
        model_type, model.config.model_type = model.config.model_type, ""  # by it PEFT would rename targets
        try:
            inject_adapter_in_model(config, model)
        finally:
            model.config.model_type = model_type
        for name, parameter in model.named_parameters():
            if name.endswith((_A, _B)):  # peft makes them in float32; the student keeps them so between its steps
                parameter.data = parameter.data.to(dtype)
        model.requires_grad_(False)

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make_twin(setting.loaded, Variant(setting.mask, setting.below), inject)


def _gather(
    loaded: LoadedModel, maps: list[tuple[int, str]], trained: Mapping[str, Float[Tensor, " *weight"]], scale: float
) -> dict[int, dict[str, LowRankUpdate]]:
    """Return what is added to each map, in the shape that it has its weights in."""
    found: dict[int, dict[str, LowRankUpdate]] = {}
    for layer, name in maps:
        path = f"{loaded.architecture.layers}.{layer}.{name}"
        right, left = trained[f"{path}.{_A}"].detach(), trained[f"{path}.{_B}"].detach() * scale
        if isinstance(loaded.wrappers.layers[layer].get_submodule(name), Conv1D):
            left, right = right.T, left.T
        found.setdefault(layer, {})[f"{name}.weight"] = LowRankUpdate(left.clone(), right.clone())
    return found


LORA = Modifier(
    "lora", "LoRA", "LoRA, arXiv:2106.09685", "weights",
    "Low-rank adapters beside the kept linear maps learn to predict the next token, or what the unpruned model would.",
    "a forward and a backward pass a step", fit_lora,
    (
        Option("rank", "columns of each adapter", "8", least=1, most=65536, whole=True),
        Option("alpha", "what an adapter is multiplied by, times its rank", "16", word="rank"),
        Option("targets", "which linear maps", "all", ("all", "attention", "mlp")),
        Option("preset", "what options are where they are not given", "none", tuple(PRESETS)),
        *LEARNT,
        *list_options("100", "1e-3"),
    ),
    needs_mask=False,
    trains=True,
    beside=True,
)  # fmt: skip
