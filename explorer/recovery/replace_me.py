"""A linear map on the output of the MLP before the cut, folded into its weights: ReplaceMe, arXiv:2505.02819."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from explorer.errors import ModifyError
from explorer.masks import Site
from explorer.modifiers import Fitted, LinearMap, Modifier, Option, Setting, find_output_projection
from explorer.recovery.cuts import Cut, list_cuts

_STEP, _EPOCHS, _BATCH = 1e-4, 10, 1024  # of Adam, as in the authors' code

_Map = Float[Tensor, "width outputs"]
_Rows = Float[Tensor, "positions width"]


def fit_replace_me(setting: Setting) -> Fitted:
    """Fit T before each cut and fold it in, in the order of the stream.

    With M the MLP's output, X the stream after it and Y the stream after the cut, all tokens: T = (M'M + P I)^-1
    M'(Y - X + M), or by Adam from the identity the T with the least 1 - cos(M T, Y - X + M). The penalty P is the
    authors' alpha, 0 as theirs.

    Raises ModifyError: what is before a cut is no MLP that writes by one linear map, or the arithmetic overflows.
    """
    cuts = list_cuts(setting.mask, setting.loaded.n_layers)
    for cut in setting.steps(cuts, lambda cut: "Fitting a map of the MLP before the cut"):
        projection = _find_projection(setting, cut)
        assert cut.before is not None
        layer = cut.before.layer
        found = _find_map(setting, layer, cut.after)
        own = setting.weight(layer, projection).float()
        setting.put(layer, f"{projection.name}.weight", projection.like(found.to(own.device, own.dtype).T @ own))
        bias = getattr(projection.module, "bias", None)
        if bias is not None:
            moved = bias.detach().float() @ found.to(bias.device, torch.float32)
            setting.put(layer, f"{projection.name}.bias", moved.to(bias.dtype))
    return setting.fitted


def _find_projection(setting: Setting, cut: Cut) -> LinearMap:
    before = cut.before
    if before is None or before.part != "mlp":
        found = f"{'nothing' if before is None else before} is before what is off"
        raise ModifyError("ReplaceMe needs an MLP before each cut", found, "Use refit or linear")
    projection = find_output_projection(setting.loaded, Site(before.layer, "mlp"))
    if projection is None:
        raise ModifyError("ReplaceMe needs one linear map to fold into", f"none in {before}", "Use linear or mean")
    return projection


def _find_map(setting: Setting, layer: int, after: Site) -> _Map:
    states = setting.at(layer)
    reference, arriving = setting.reference.before(after), setting.arriving(layer, after)
    outputs, wanted = [], []
    with torch.inference_mode():
        for seen in setting.run.look(layer, states, setting.variant, updates=True):
            given = (seen.updates["mlp"].float() / setting.loaded.wrappers.multiplier).flatten(0, 1)
            arrived = seen.after.float() if arriving is None else setting.read(arriving, seen)
            missing = (setting.read(reference, seen) - arrived) / setting.loaded.wrappers.multiplier
            outputs.append(given)
            wanted.append(missing.flatten(0, 1) + given)
    m, y = torch.cat(outputs), torch.cat(wanted)
    setting.check_finite(bool(m.isfinite().all() and y.isfinite().all()))
    return _minimise_cosine(setting, m, y) if setting.options["loss"] == "cosine" else _solve(setting, m, y)


def _solve(setting: Setting, m: _Rows, y: _Rows) -> _Map:
    """Solve the least squares; where M'M has no inverse, with the smallest T."""
    m, y = m.double(), y.double()
    gram = m.T @ m + setting.number("penalty") * torch.eye(m.shape[1], dtype=m.dtype, device=m.device)
    return torch.linalg.pinv(gram, hermitian=True) @ (m.T @ y)


def _minimise_cosine(setting: Setting, m: _Rows, y: _Rows) -> _Map:
    """Lower the mean of 1 - cos(M T, Y) by Adam from T = I, ten epochs of batches of 1,024 tokens in a drawn order."""
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        m, y = m.clone(), y.clone()
        found = torch.eye(m.shape[1], device=m.device).requires_grad_()
        adam = torch.optim.Adam([found], lr=_STEP)
        for epoch in range(_EPOCHS):
            setting.progress(epoch, _EPOCHS, "Turning the map by its cosine")
            for rows in torch.randperm(len(m)).split(_BATCH):
                adam.zero_grad()
                (1 - F.cosine_similarity(m[rows] @ found, y[rows])).mean().backward()
                adam.step()
        return found.detach()


REPLACE_ME = Modifier(
    "replaceme", "ReplaceMe", "ReplaceMe, arXiv:2505.02819", "weights",
    "A linear map of the output of the MLP before each cut, folded into its down projection.",
    "one pass", fit_replace_me,
    (
        Option("loss", "what the map lowers", "squares", ("squares", "cosine")),
        Option("penalty", "of the squares of the map's entries", "0"),
    ),
)  # fmt: skip
