"""Wanda's score with gradients of each layer by itself, and survivors that adapt: Wanda++, arXiv:2503.04992.

The paper has no official code; what it leaves open is said in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import ModifyError
from explorer.modifiers import Fitted, LinearMap, Modifier, Option, Setting
from explorer.sparsity.allocation import ALLOCATION, allocate
from explorer.sparsity.region import Region, Weights
from explorer.sparsity.sparsity import SPARSITY_OPTIONS, Entries, Marks
from explorer.sparsity.stream import Stream, find_norms, sum_squares
from explorer.sparsity.targets import LAYERS, TARGETS, Target


def score_regionally(
    weight: Entries,
    gradient: Entries,
    norms: Float[Tensor, "*experts columns"],
    alpha: float,
) -> Entries:
    """S_ij = (alpha G_ij + norm2(x_j)) |W_ij|."""
    return (alpha * gradient + norms.unsqueeze(-2)) * weight.abs()


def fit_wanda_plus_plus(setting: Setting) -> Fitted:
    """Score, prune and let adapt one layer after the other."""
    stream = Stream(setting)
    for target in stream.prune(allocate(setting)):
        region = Region(stream, target)
        choose = _make_judge(setting, region)
        weights = region.copy_weights()
        if setting.options["optimise"] == "no":
            for linear in target.maps:
                target.zero(linear, choose(linear, weights))
            continue
        _adapt(setting, region, weights, choose)
        for linear in target.maps:
            target.put(linear, linear.read(weights[linear.parameter].detach()))
    return setting.fitted


_Judge = Callable[[LinearMap, Weights], Marks]


def _make_judge(setting: Setting, region: Region) -> _Judge:
    """Return what tells where a map gets zeros, by gradients and norms of the layer as it is."""
    target = region.target
    norms = _find_norms(setting, region.stream, target)
    gradients = region.find_gradients() if setting.options["gradients"] == "yes" else None

    def choose(linear: LinearMap, weights: Weights) -> Marks:
        weight = linear.read(weights[linear.parameter])
        gradient = torch.zeros_like(weight) if gradients is None else linear.read(gradients[linear.parameter])
        return target.choose(linear, score_regionally(weight, gradient, norms[linear.name], setting.number("alpha")))

    return choose


def _find_norms(setting: Setting, stream: Stream, target: Target) -> Mapping[str, Float[Tensor, "*experts columns"]]:
    windows = len(stream.run.ids) if setting.options["norm"] == "mean" else 1
    squares = stream.sum_up(target, sum_squares)
    return {name: find_norms(total / windows) for name, total in squares.items()}


def _adapt(setting: Setting, region: Region, weights: Weights, choose: _Judge) -> None:
    """Prune and let the weights adapt, round by round; prune once more."""
    generator = torch.Generator().manual_seed(int(setting.number("seed")))
    rounds, samples = int(setting.number("rounds")), int(setting.number("samples"))
    optimiser = torch.optim.RMSprop([weight.requires_grad_() for weight in weights.values()], lr=setting.number("lr"))
    for _ in range(rounds):
        _prune(region.target, weights, choose)
        drawn = torch.randperm(region.windows, generator=generator)[:samples]
        region.approach(optimiser, weights, drawn.tolist())
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise ModifyError("The weights do not converge", f"lr={setting.options['lr']}", "Use a smaller lr")
    _prune(region.target, weights, choose)


@torch.no_grad()
def _prune(target: Target, weights: Weights, choose: _Judge) -> None:
    for linear in target.maps:
        linear.read(weights[linear.parameter]).masked_fill_(choose(linear, weights), 0)


_SWITCH = ("yes", "no")

WANDA_PLUS_PLUS = Modifier(
    "wanda++", "Wanda++", "Wanda++, arXiv:2503.04992", "weights",
    "Zeros by Wanda's score with gradients of each layer by itself; its survivors adapt to what it gave before.",
    "two passes, and a backward pass a step", fit_wanda_plus_plus,
    (
        *SPARSITY_OPTIONS, TARGETS, LAYERS, ALLOCATION,
        Option("alpha", "weight of the gradients", "100", most=1e9),
        Option("norm", "of inputs, over all tokens or the mean over windows", "mean", ("mean", "sum")),
        Option("gradients", "whether the score has them", "yes", _SWITCH),
        Option("optimise", "whether survivors adapt", "yes", _SWITCH),
        Option("rounds", "of pruning and adapting", "5", form=r"[1-9]\d{0,3}", example="5"),
        Option("samples", "windows in a round, a step each", "32", form=r"[1-9]\d{0,5}", example="32"),
        Option("lr", "learning rate of RMSprop", "3e-7", most=1),
        Option("seed", "of the windows' choice", "0", form=r"\d{1,9}", example="1"),
    ),
    needs_mask=False,
)  # fmt: skip
