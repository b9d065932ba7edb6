"""The kept output projections beside each cut are refitted, so that the stream after it is the unpruned model's.

What was removed is approximated from activations that are there anyway: no new parameters, the model's own
architecture, any mask. First the projection right before the cut, whose output nothing comes after; then those of the
first layer after it, which see what is still missing. Ridge regression towards the projection's own weights, over all
tokens, each weighed by its size; the penalty by cross-validation on the calibration windows.
"""

from __future__ import annotations

import torch

from explorer.errors import ModifyError
from explorer.masks import Site
from explorer.modifiers import (
    FOLDS,
    Fitted,
    LinearMap,
    Modifier,
    Option,
    Setting,
    find_output_projection,
    weigh_tokens,
)
from explorer.numerics import RidgeSums
from explorer.recovery.cuts import Cut, list_cuts


def fit_refit(setting: Setting) -> Fitted:
    """Refit projections beside each cut, or before or after it, or all, in the order of the stream.

    A projection whose refit explains nothing in the windows left out stays as it is.

    Raises ModifyError: no kept projection there can be refitted, or the arithmetic overflows.
    """
    cuts = list_cuts(setting.mask, setting.loaded.n_layers)
    found = [(site, find_output_projection(setting.loaded, site)) for site in _list_sites(setting, cuts)]
    steps = [(site, projection) for site, projection in found if projection is not None]
    if not steps:
        raise ModifyError(
            "Nothing can be refitted",
            f"nothing that is kept beside {setting.mask} writes by one linear map",
            "Use linear or mean",
        )
    for site, projection in setting.steps(steps, lambda step: f"Refitting {step[0]}"):
        _refit(setting, site.layer, projection, _find_end(cuts, site.layer))
    return setting.fitted


def _list_sites(setting: Setting, cuts: list[Cut]) -> list[Site]:
    """List the sites to refit."""
    where, kept = setting.options["where"], [site for site in setting.loaded.sites if site not in setting.mask.sites]
    before = {cut.before for cut in cuts}
    first = min((cut.after for cut in cuts), default=Site(setting.loaded.n_layers, "attention"))
    wanted = {
        "before": lambda site: site in before,
        "cut": lambda site: site in before or any(_follows(cut, site) for cut in cuts),
        "after": lambda site: site >= first,
        "all": lambda site: site >= first or site in before,
    }
    return [site for site in kept if wanted[where](site)]


def _follows(cut: Cut, site: Site) -> bool:
    """Tell whether a site is one of the first layer after a cut."""
    return site.layer == cut.after.layer and site >= cut.after


def _find_end(cuts: list[Cut], layer: int) -> Site:
    """Return the site before which the stream that leaves a layer arrives, past what is off right after it."""
    return next(
        (cut.after for cut in cuts if cut.before is not None and cut.before.layer == layer),
        Site(layer + 1, "attention"),
    )


def _refit(setting: Setting, layer: int, projection: LinearMap, target: Site) -> None:
    """Refit one projection of a layer, unless that explains nothing."""
    states = setting.at(layer)
    reference = setting.reference.before(target, keep=setting.options["where"] in ("cut", "before"))
    arriving, own = setting.arriving(layer, target), setting.weight(layer, projection)
    sums = RidgeSums(own.shape[1], own.shape[0], FOLDS)
    for seen in setting.run.look(layer, states, setting.variant, modules=(projection.name,)):
        wanted = setting.read(reference, seen)
        arrived = seen.after.float() if arriving is None else setting.read(arriving, seen)
        missing = (wanted - arrived) / setting.loaded.wrappers.multiplier
        features, weights = seen.given[projection.name], weigh_tokens(wanted)
        for fold, part in setting.folds(seen.rows):
            sums.add(features[part].flatten(0, 1), missing[part].flatten(0, 1), fold, weights[part].flatten())
    setting.check_finite(sums.finite)
    penalty = setting.options["penalty"]
    found = sums.solve() if penalty == "auto" else sums.solve((float(penalty),))
    if not found.error >= 1:
        change = found.weights.T.to(own.device, torch.float32)
        setting.put(layer, f"{projection.name}.weight", projection.like(own.float() + change))


REFIT = Modifier(
    "refit", "Refit", "this program", "weights",
    "The output projections beside each cut are refitted by ridge regression towards their own weights, so that the "
    "stream there is the unpruned model's.",
    "one pass, and one more of each layer that is refitted", fit_refit,
    (
        Option(
            "where", "beside each cut, before it only, all after the first, or both", "cut",
            ("cut", "before", "after", "all"),
        ),
        Option("penalty", "times the mean square of a feature; by cross-validation if auto", "auto", word="auto"),
    ),
)  # fmt: skip
