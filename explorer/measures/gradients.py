"""LoadedModel, Corpus -> the first-order and the zeroth-order guess at a weight's worth: Taylor+ and Magnitude+.

The backward pass goes layer by layer: states at the layers' boundaries are kept, each layer is run again with a
graph of its own, and its gradients are used up before the next layer's exist. A whole model's gradients are never
in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.errors import UnsupportedModel
from explorer.evaluation import slice_positions
from explorer.masks import NONE, PARTS
from explorer.measures.importance import Importance
from explorer.measures.measure_type import Measure, MeasureSetting
from explorer.model import Hidden, Ids, LayerCall, LayerwisePass, LoadedModel
from explorer.numerics import jackknife
from explorer.progress import Progress, unreported
from explorer.text import Corpus

_GROUPS = 8  # of windows, whose gradients of one layer are kept apart for the jackknife

#: Sums over the weights of a layer, its attention and its MLP.
_Sums = Float64[np.ndarray, " units"]
_Weight = Float[Tensor, " *weight"]


def measure_magnitude(loaded: LoadedModel) -> list[Importance]:
    """Sum of |W| over the weights of each layer and site, norms included (Magnitude+ of arXiv:2402.02834).

    Raises:
        UnsupportedModel: the weights are quantized, or not all in memory.
    """
    _check_weights(loaded)
    found: list[_Sums] = []
    for layer in range(loaded.n_layers):
        with loaded.wrappers.in_memory(layer):
            found.append(_sum_up(loaded, layer, lambda _, weight: weight.float().abs()))
    sums = np.stack(found)
    return [Importance("magnitude", unit, sums[:, i]) for i, unit in enumerate(("layer", *PARTS))]


def measure_taylor(
    loaded: LoadedModel, corpus: Corpus, progress: Progress = unreported, size: int = 1, folder: Path | None = None
) -> list[Importance]:
    """Sum of |W dL/dW| over the weights of each layer and site (Taylor+ of Shortened LLaMA, arXiv:2402.02834).

    L is the mean loss of a predicted token of the calibration windows; the gradient is that of all of them, as in the
    authors' code, biases left out. Samples are jackknife pseudo-values over at most eight groups of windows. Where the
    arithmetic overflows there is NaN.

    Args:
        size: windows in a batch.
        folder: where states lie that are too many for memory.

    Raises:
        UnsupportedModel: the weights are quantized, or not all in memory.
        Cancelled: `progress` raised it.
    """
    _check_weights(loaded)
    groups = [ids for ids in np.array_split(corpus.calibration.ids, _GROUPS) if len(ids)]
    with torch.no_grad():
        passes = [_Pass(LayerwisePass(loaded, ids, size, folder)) for ids in groups]
        for layer in range(loaded.n_layers):
            progress(layer, 2 * loaded.n_layers, "Gradients, layer by layer")
            with loaded.wrappers.kept(layer):
                for each in passes:
                    each.go_on(layer)
    for each in passes:
        each.turn()
    counts = np.array([ids[:, 1:].size for ids in groups])
    found = np.zeros((loaded.n_layers, 3))
    samples = np.zeros((len(groups), loaded.n_layers, 3))
    for done, layer in enumerate(range(loaded.n_layers - 1, -1, -1)):
        progress(loaded.n_layers + done, 2 * loaded.n_layers, "Gradients, layer by layer")
        with loaded.wrappers.in_memory(layer):
            grads = [_add_up(each.go_back(layer)) for each in passes]
            found[layer], samples[:, layer] = _weigh(loaded, layer, grads, counts)
    progress(2 * loaded.n_layers, 2 * loaded.n_layers, "Gradients, layer by layer")
    return [Importance("taylor", unit, found[:, i], samples[:, :, i]) for i, unit in enumerate(("layer", *PARTS))]


def _check_weights(loaded: LoadedModel) -> None:
    if loaded.spec.stream:
        return
    weights = [weight for layer in loaded.wrappers.layers for weight in layer.parameters()]
    if loaded.spec.quantize != "none" or any(w.is_meta or not w.is_floating_point() for w in weights):
        raise UnsupportedModel(
            "Weights cannot be weighed", "they are quantized or not in memory", "Load it with --quantize none"
        )


class _Pass:
    """Some windows on their way through the layers and back.

    Args:
        run: of the windows.
    """

    def __init__(self, run: LayerwisePass) -> None:
        self.run = run
        self.states = [run.embed()]  # inputs of the layers that were gone through and not back
        self.gradient = self.states[0]  # of the summed nats with respect to the output of the last of these

    def go_on(self, layer: int) -> None:
        """Run the next layer."""
        self.states.append(self.run.run(layer, self.states[-1]))

    def turn(self) -> None:
        """Find the gradient with respect to the last layer's output, in whose place it is put."""
        self.gradient = self.states.pop()
        for rows, ids in self.run.batches():
            found = _find_gradient(self.run.loaded, self.run.fill(self.gradient[rows]), ids)
            self.gradient[rows] = found[: rows.stop - rows.start]

    def go_back(self, layer: int) -> Iterator[dict[str, _Weight]]:
        """Go back through a layer; yield the gradients of its weights, batch by batch."""
        states, run = self.states.pop(), self.run
        for rows, call in run.calls(layer):
            gradient, real = run.fill(self.gradient[rows]), rows.stop - rows.start
            gradient[real:] = 0  # what fills the batch up
            before, of_weights = _run_backward(run.loaded, layer, run.fill(states[rows]), call, gradient)
            self.gradient[rows] = before[:real]
            yield of_weights


def _add_up(gradients: Iterator[dict[str, _Weight]]) -> dict[str, _Weight]:
    """Sum the gradients of some batches, weight by weight."""
    total = next(gradients)
    for more in gradients:
        for name, gradient in more.items():
            total[name] = total[name].float() + gradient
    return total


@torch.enable_grad()
def _find_gradient(loaded: LoadedModel, hidden: Hidden, ids: Ids) -> Hidden:
    """Gradient of the summed nats with respect to the last layer's output; logits exist for a few positions."""
    wrappers, hidden = loaded.wrappers, hidden.detach().requires_grad_()
    finished = wrappers.finish(hidden)
    gradient = torch.zeros_like(finished)
    targets = ids[:, 1:].to(finished.device)
    for block in slice_positions(wrappers, targets.shape, finished.device.type):
        part = finished[:, :-1][block].detach().requires_grad_()
        logits = wrappers.logits(part.flatten(0, 1)).float()
        nll = F.cross_entropy(logits, targets[block].flatten().to(logits.device), reduction="sum")
        (gradient[:, :-1][block],) = torch.autograd.grad(nll, part)
    return torch.autograd.grad(finished, hidden, gradient)[0]


@torch.enable_grad()
def _run_backward(
    loaded: LoadedModel, layer: int, hidden: Hidden, call: LayerCall, gradient: Hidden
) -> tuple[Hidden, dict[str, _Weight]]:
    """Go back through a layer; return the gradients with respect to its input and its weights."""
    weights = _weights(loaded.wrappers.layers[layer])
    hidden = hidden.detach().requires_grad_()
    with _differentiable(weights.values()), loaded.wrappers.as_variant(NONE):
        output = loaded.wrappers.run_layer(layer, hidden, call)
        wanted = [hidden, *weights.values()]
        before, *found = torch.autograd.grad(output, wanted, gradient.to(output.device), allow_unused=True)
    pairs = zip(weights.items(), found, strict=True)
    return before, {name: torch.zeros_like(weight) if each is None else each for (name, weight), each in pairs}


@contextmanager
def _differentiable(weights: Iterable[_Weight]) -> Iterator[None]:
    """Let weights, frozen as loaded, have gradients for the time of the block."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _weights(layer: nn.Module) -> dict[str, _Weight]:
    return {name: weight for name, weight in layer.named_parameters() if "bias" not in name.rpartition(".")[2]}


def _weigh(
    loaded: LoadedModel, layer: int, grads: list[dict[str, _Weight]], counts: Int64[np.ndarray, " groups"]
) -> tuple[_Sums, Float64[np.ndarray, "groups units"]]:
    """Sums of |W dL/dW| and their pseudo-values over the groups."""
    whole = {name: sum(grad[name].float() for grad in grads) for name in grads[0]}

    def statistic(chosen: Bool[np.ndarray, " groups"]) -> _Sums:
        left_out = [grad for grad, take in zip(grads, chosen, strict=True) if not take]

        def salience(name: str, weight: _Weight) -> _Weight:
            gradient = whole[name] - sum(grad[name].float() for grad in left_out)
            return (weight.float() * gradient / counts[chosen].sum()).abs()

        return _sum_up(loaded, layer, salience)

    with torch.no_grad():
        return jackknife(len(grads), statistic)


def _sum_up(loaded: LoadedModel, layer: int, salience: Callable[[str, _Weight], _Weight]) -> _Sums:
    """Sum what weights are worth over a layer, its attention and its MLP."""
    module, architecture = loaded.wrappers.layers[layer], loaded.architecture.at(layer)
    sums = {name: float(salience(name, weight.detach()).double().sum()) for name, weight in _weights(module).items()}
    of_parts = [
        sum(value for name, value in sums.items() if name.partition(".")[0] in architecture.modules(part))
        for part in PARTS
    ]
    return np.array([sum(sums.values()), *of_parts])


def _take_magnitude(setting: MeasureSetting) -> list[Importance]:
    return measure_magnitude(setting.loaded)


def _take_taylor(setting: MeasureSetting) -> list[Importance]:
    loaded, corpus, progress, folder = setting.loaded, setting.corpus, setting.progress, setting.store.folder
    return setting.stored("taylor", lambda size: measure_taylor(loaded, corpus, progress, size, folder))


_SHORTENED = "Shortened LLaMA, arXiv:2402.02834"

TAYLOR = Measure(
    "taylor", "Taylor", "gradient", _SHORTENED,
    r"$\sum |W \, \partial L / \partial W|$ over its weights W, L the mean loss of a predicted token",
    _take_taylor, "gradients", "two passes",
)  # fmt: skip
MAGNITUDE = Measure(
    "magnitude", "Magnitude", "gradient", _SHORTENED, r"$\sum |W|$ over its weights W", _take_magnitude, "weights",
    "no pass",
)  # fmt: skip
