"""The kept output projections before each cut are refitted, so that the stream after it is the unpruned model's.

What was removed is approximated from the activations that attention and MLP before it have anyway: no new parameters,
the model's own architecture, any mask. Ridge regression towards the projection's own weights, over all tokens, each
weighed by its size; the penalty by cross-validation on the calibration windows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from explorer.errors import ModifyError
from explorer.masks import PARTS, Site
from explorer.numerics import RidgeSums
from explorer.recovery.cuts import Cut, list_cuts
from explorer.recovery.modifier import Fitted, Modifier, Option
from explorer.recovery.output_projections import OutputProjection, find_output_projection
from explorer.recovery.reference import next_site
from explorer.recovery.setting import FOLDS, Setting, weigh_tokens


def fit_refit(setting: Setting) -> Fitted:
    """Refit before each cut, or after, or both, in the order of the stream.

    A projection whose refit explains nothing in the windows left out stays as it is.

    Raises ModifyError: no kept projection can be refitted, or the arithmetic overflows.
    """
    steps = list(_list_steps(setting))
    for done, (layer, target) in enumerate(steps):
        setting.progress(done, len(steps), f"Refitting layer {layer}")
        for part in PARTS:
            if Site(layer, part) in setting.mask.sites:
                continue
            projection = find_output_projection(setting.loaded, Site(layer, part))
            if projection is not None:
                _refit(setting, layer, projection, target)
    if not setting.fitted.weights and not any(
        find_output_projection(setting.loaded, Site(layer, part)) for layer, _ in steps for part in PARTS
    ):
        raise ModifyError(
            "Nothing can be refitted",
            f"no kept layer beside {setting.mask} writes by one linear map",
            "Use linear or mean",
        )
    return setting.fitted


def _list_steps(setting: Setting) -> Iterator[tuple[int, Site]]:
    """Yield the layers to refit, each with the site before which the stream should be the unpruned model's."""
    where, n_layers = setting.options["where"], setting.loaded.n_layers
    cuts = list_cuts(setting.mask, n_layers)
    before = {cut.before.layer: cut.after for cut in cuts if cut.before is not None}
    first = min((cut.after.layer for cut in cuts), default=n_layers)
    for layer in range(n_layers):
        if layer in before and where != "after":
            yield layer, before[layer]
        elif layer >= first and layer not in setting.mask.whole_layers and where != "cut":
            yield layer, _find_end(cuts, layer)


def _find_end(cuts: list[Cut], layer: int) -> Site:
    """Return the site that follows a layer in the stream, past what is off right after it."""
    return next(
        (cut.after for cut in cuts if cut.before is not None and cut.before.layer == layer),
        next_site(Site(layer, "mlp")),
    )


def _refit(setting: Setting, layer: int, projection: OutputProjection, target: Site) -> None:
    """Refit one projection of a layer, unless that explains nothing."""
    states = setting.at(layer)
    reference = setting.reference.before(target, keep=setting.options["where"] == "cut")
    own = setting.weight(layer, projection)
    sums = RidgeSums(own.shape[1], own.shape[0], FOLDS)
    for seen in setting.run.look(layer, states, setting.variant, modules=(projection.name,)):
        wanted = setting.target(reference, seen)
        missing = (wanted - seen.after.float()) / setting.loaded.wrappers.multiplier
        features = seen.given[projection.name].flatten(0, 1)
        sums.add(features, missing.flatten(0, 1), setting.fold(seen.rows), weigh_tokens(wanted).flatten())
    setting.check_finite(sums.finite)
    found = sums.solve()
    if not found.error >= 1:
        change = found.weights.T.to(own.device, torch.float32)
        setting.put(layer, f"{projection.name}.weight", projection.like(own.float() + change))


REFIT = Modifier(
    "refit", "Refit", "this program", "weights",
    "The output projections before each cut are refitted by ridge regression towards their own weights, so that the "
    "stream after the cut is the unpruned model's.",
    "one pass, and two more of the layers that are refitted", fit_refit,
    (Option("where", "before each cut, all after the first, or both", "cut", ("cut", "after", "all")),),
)  # fmt: skip
