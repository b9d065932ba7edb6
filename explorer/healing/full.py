"""All parameters of layers are trained: continued pretraining, as in Shortened LLaMA, arXiv:2402.02834."""

from __future__ import annotations

import torch

from explorer.deltas import Variant
from explorer.errors import ModifyError
from explorer.healing.losses import predict
from explorer.healing.recipe import LOSS, TEXT, list_options, read_options, read_recipe
from explorer.healing.student import Student
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
    recipe, twin = read_recipe(options), make_twin(setting.loaded, Variant(setting.mask, setting.below))
    windows = find_windows(setting, options["text"], recipe)
    names = [f"{twin.layers}.{layer}.{name}" for layer, name in places]
    student = Student(twin.model, names, predict(setting.loaded, twin, torch.from_numpy(windows.ids), options["loss"]))

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
    """List the parameters of a layer that are used: not those of attention or an MLP that is off."""
    architecture, module = setting.loaded.architecture.at(layer), setting.loaded.wrappers.layers[layer]
    off = [
        f"{name}." for part in PARTS if Site(layer, part) in setting.mask.sites for name in architecture.modules(part)
    ]
    return [name for name, _ in module.named_parameters() if not name.startswith(tuple(off))]


def _list_layers(setting: Setting, which: str) -> list[int]:
    kept = [layer for layer in range(setting.loaded.n_layers) if layer not in setting.mask.whole_layers]
    touched = {site.layer for site in setting.mask.sites}
    beside = {layer for layer in kept if {layer - 1, layer, layer + 1} & touched}
    return {"all": kept, "cut": sorted(beside), "last": kept[-3:]}[which]


TRAIN = Modifier(
    "train", "Training", "Shortened LLaMA, arXiv:2402.02834", "weights",
    "The parameters of kept layers are trained on: all of them, those beside each cut, or those of the last three.",
    "a forward and a backward pass a step", fit_train,
    (
        Option("layers", "whose parameters: all, those beside each cut, the last three", "all", ("all", "cut", "last")),
        LOSS,
        TEXT,
        *list_options("100", "1e-4"),
    ),
    needs_mask=False,
    trains=True,
)  # fmt: skip
