"""The layer beside each cut learns to give the unpruned model's state behind it, and nothing else is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.healing.full import gather_weights, list_parameters
from explorer.healing.losses import find_state_loss
from explorer.healing.objective import Objective
from explorer.healing.recipe import list_options, read_options, read_recipe
from explorer.healing.student import Student
from explorer.healing.windows import deal_out
from explorer.masks import Site
from explorer.model import States, Twin, make_twin
from explorer.modifiers import Fitted, Modifier, Setting
from explorer.recovery import list_cuts


def fit_distill_local(setting: Setting) -> Fitted:
    """Train one layer at each cut, in the order of the stream. Raises ModifyError: see `Training.run`."""
    for part, (layer, target) in enumerate(_list_places(setting)):
        _distill(setting, part, layer, target)
    return setting.fitted


def _list_places(setting: Setting) -> list[tuple[int, int]]:
    """Return for each cut the layer that learns, and the kept one whose input it has to give; L is the model's end.

    It is the layer before the cut; where attention alone is off, or the cut begins the model, the one that follows.
    """
    gone, ends = setting.mask.whole_layers, setting.loaded.n_layers
    found: dict[int, int] = {}
    for cut in list_cuts(setting.mask, ends):
        follows = cut.before is None or cut.after.part == "mlp"
        layer = cut.after.layer if follows or cut.before is None else cut.before.layer
        if layer < ends:
            found[layer] = next((later for later in range(layer + 1, ends) if later not in gone), ends)
    return sorted(found.items())


def _distill(setting: Setting, part: int, layer: int, target: int) -> None:
    from explorer.healing.training import Training

    options = read_options(setting)
    recipe = read_recipe(options)
    given, wanted = setting.at(layer), setting.reference.before(Site(target, "attention"))
    twin = make_twin(setting.loaded, setting.variant)
    windows = deal_out(setting.run.ids, recipe.steps * recipe.batch, recipe.seed)
    names = list_parameters(setting, layer)
    student = Student(twin.wrappers.layers[layer], names, _follow(setting, twin, layer, target, given, wanted))
    places = [(layer, name) for name in names]

    def gather() -> Fitted:
        return setting.fitted.joined(Fitted(gather_weights(places, student)))

    setting.fitted = Training(setting, recipe, student, windows, gather, part).run()


def _follow(setting: Setting, twin: Twin, layer: int, target: int, given: States, wanted: States) -> Objective:
    """Return what a layer is to lower: how far what it gives is from states, as it arrives behind the cut."""
    ids = torch.from_numpy(setting.run.ids)

    def objective(run: Callable[..., Any], rows: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        before, after = (_pick(states, rows).to(setting.loaded.device) for states in (given, wanted))
        found = twin.run_between(layer, target, run, before, ids[rows.cpu()].to(setting.loaded.device))
        stream = twin.wrappers.packing.stream
        return find_state_loss(stream(found).float(), stream(after).float())

    return objective


def _pick(states: States, rows: Int[Tensor, " batch"]) -> Float[Tensor, "batch window width"]:
    return torch.cat([states[slice(row, row + 1)] for row in rows.tolist()])


DISTILL_LOCAL = Modifier(
    "distill-local", "Local distillation", "this program", "weights",
    "The layer before each cut learns to give the unpruned model's state behind it.",
    "one pass, and a forward and a backward pass of one layer a step", fit_distill_local,
    list_options("200", "1e-4"),
    trains=True,
)  # fmt: skip
