"""All parameters of layers are trained: continued pretraining, as in Shortened LLaMA, arXiv:2402.02834."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from explorer.deltas import Variant
from explorer.errors import ModifyError
from explorer.healing.objective import predict
from explorer.healing.recipe import LEARNT, list_options, read_options, read_recipe
from explorer.healing.student import Student
from explorer.healing.teacher import find_teacher
from explorer.healing.training_text import find_windows
from explorer.masks import PARTS, Site
from explorer.model import make_twin
from explorer.modifiers import Fitted, Modifier, Option, Setting

_Names = list[tuple[int, str]]


def fit_train(setting: Setting) -> Fitted:
    """Train the parameters of layers that are kept. Raises ModifyError: none are named, or see `Training.run`."""
    from explorer.healing.training import Training

    options = read_options(setting)
    places = [
        (layer, name) for layer in _list_layers(setting, options["layers"]) for name in list_parameters(setting, layer)
    ]
    if not places:
        found = f"nothing is kept beside {setting.mask}"
        raise ModifyError("There is nothing to train", found, "Use layers=all")
    recipe = read_recipe(options)
    twin = make_twin(setting.loaded, Variant(setting.mask, setting.below), _untie)
    windows = find_windows(setting, options, recipe)
    teacher = find_teacher(setting, windows, options)
    names = [f"{twin.wrappers.path(layer)}.{name}" for layer, name in places]
    objective = predict(setting.loaded, twin, torch.from_numpy(windows.ids), options["loss"], teacher)
    student = Student(twin.model, names, objective)

    def gather() -> Fitted:
        return Fitted(gather_weights(places, student))

    return Training(setting, recipe, student, windows, gather).run()


def gather_weights(places: _Names, student: Student) -> dict[int, dict[str, torch.Tensor]]:
    """Return what a student has learnt, by layer and name in it."""
    found: dict[int, dict[str, torch.Tensor]] = {}
    for (layer, name), tensor in zip(places, student.tensors.values(), strict=True):
        found.setdefault(layer, {})[name] = tensor.detach().clone()
    return found


def list_parameters(setting: Setting, layer: int) -> list[str]:
    """List the parameters of a layer or the head that are used: not those of attention or an MLP that is off."""
    architecture, module = setting.loaded.architecture, setting.loaded.wrappers.module(layer)
    sites = [Site(layer, part) for part in PARTS if Site(layer, part) in setting.mask.sites]
    off = [f"{name}." for site in sites for name in architecture.at(layer).modules(site.part)]
    return [name for name, _ in module.named_parameters() if not name.startswith(tuple(off))]


def _untie(model: Any) -> None:
    """Give a head a parameter of its own, over the same numbers: what is learnt there is not the embedding's."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach(), requires_grad=False)


def _list_layers(setting: Setting, which: str) -> list[int]:
    kept = [layer for layer in range(setting.loaded.n_layers) if layer not in setting.mask.whole_layers]
    touched = {site.layer for site in setting.mask.sites}
    beside = {layer for layer in kept if {layer - 1, layer, layer + 1} & touched}
    last = kept[-3:]
    return {"all": kept, "cut": sorted(beside), "last": last, "head+3": [*last, setting.loaded.n_layers]}[which]


TRAIN = Modifier(
    "train", "Training", "Shortened LLaMA, arXiv:2402.02834", "weights",
    "The parameters of kept layers are trained on: all, those beside each cut, or the last three and the head.",
    "a forward and a backward pass a step", fit_train,
    (
        Option(
            "layers", "whose parameters: all, those beside each cut, the last three, these and the head",
            "all", ("all", "cut", "last", "head+3"),
        ),
        *LEARNT,
        *list_options("100", "1e-4"),
    ),
    needs_mask=False,
    trains=True,
)  # fmt: skip
