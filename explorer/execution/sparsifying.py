"""What the Sparsity page asks for, as kinds of requests: blocks being pruned, a matrix, its scores, what is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from explorer.deltas import Variant, read_modifiers, write_modifiers
from explorer.errors import ModifyError
from explorer.evaluation import LiveScoring, Score, score
from explorer.execution.engine import LASTING, Engine
from explorer.execution.job import IDLE, READOUT, SAMPLE, Job
from explorer.execution.kinds import offered
from explorer.execution.request import Request
from explorer.execution.task import Task
from explorer.execution.view import View
from explorer.masks import Mask
from explorer.modifiers import find_begun, modify as make_deltas, repeat_layer
from explorer.plans import Point, list_points
from explorer.sparsity import (
    LayerErrors,
    ScoreCounts,
    Watcher,
    ZeroCounts,
    ZerosPicture,
    count_zeros,
    find_scores,
    list_zeros,
    take_picture,
    watching_layers,
)


@dataclass(frozen=True)
class Pruning:
    """Zeros inside the blocks, as far as they are.

    Args:
        errors: of the layers that are pruned, in their order.
        score: with all zeros, when they are all there; it names the mask alone, for what is kept long holds no tensors.
        counts: of the zeros, likewise.
        seconds: that it took, likewise.
    """

    errors: tuple[LayerErrors, ...] = ()
    score: Score | None = None
    counts: ZeroCounts | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class SoFar:
    """What the model is worth with the blocks that are pruned.

    Args:
        layers: how many are.
        score: of the model with their zeros; it names the mask alone.
    """

    layers: int
    score: Score


class _Follower(Watcher):
    """Shows the errors of each layer."""

    def __init__(self, show: Callable[[Pruning], None]) -> None:
        self.so_far, self.show = Pruning(), show

    def layer(self, layer: int, find_errors: Callable[[], LayerErrors]) -> None:
        """Show a layer's errors."""
        self.so_far = Pruning((*self.so_far.errors, find_errors()))
        self.show(self.so_far)


@offered("pruning")
def take_pruning(task: Task, mask: str, modify: str) -> Pruning:
    """Put zeros into block after block; as far as it is, the partial result.

    It goes on at its last layer where it was asked for before; of layers that were made before the errors are found
    anew.
    """
    loaded, corpus = task.loaded, task.corpus
    off, specs, follower = Mask.parse(mask), read_modifiers(modify), _Follower(task.show)
    with watching_layers(follower):
        variant = make_deltas(loaded, corpus, off, specs, task.store, task.progress)
        if not follower.so_far.errors:
            repeat_layer(loaded, corpus, variant, None, task.store, task.progress)
    (scored,) = score(loaded, corpus, [variant], task.store, progress=task.progress)
    return replace(
        follower.so_far,
        score=replace(scored, variant=off),
        counts=count_zeros(list_zeros(loaded, variant)),
        seconds=variant.deltas[-1].origin.seconds,
    )


def request_pruning(view: View) -> Request:
    """Write the request for a Pruning by the last of the view's modifiers."""
    return view.request(take_pruning, **view.variant)


def ask_pruning(engine: Engine, owner: str, view: View, slot: str = "pruning") -> Job:
    """Ask for a Pruning by the last of the view's modifiers, when nothing else is to be done.

    As far as it is, it is the partial result.
    """
    title = f"Pruning inside the blocks by {write_modifiers(view.modify)}"
    return engine.ask(owner, request_pruning(view), title, IDLE, slot, LASTING, taken_up=True)


@offered("pruned-so-far")
def take_so_far(task: Task, mask: str, modify: str, layers: int) -> SoFar:
    """Score the model with the blocks that are pruned when it is begun, `layers` or more."""
    variant = _find_begun(task, mask, modify)
    live = LiveScoring(task.resident.state_cache, lambda estimates: None)
    (scored,) = score(task.loaded, task.corpus, [variant], task.store, progress=task.progress, live=live)
    return SoFar(len(variant.deltas[-1].weights), replace(scored, variant=variant.mask))


def ask_so_far(engine: Engine, owner: str, view: View, layers: int) -> Job:
    """Ask for the perplexity of the model with the blocks that are pruned when it is begun, `layers` or more."""
    request = view.request(take_so_far, **view.variant, layers=layers)
    return engine.ask(owner, request, f"Perplexity with {layers} blocks pruned", READOUT, f"so far {layers}")


@offered("zeros-picture")
def take_zeros_picture(task: Task, mask: str, modify: str, layer: int, matrix: str) -> ZerosPicture:
    """Find where a matrix is zero."""
    variant = _find_begun(task, mask, modify)
    return take_picture(task.loaded, variant, layer, matrix)


def ask_picture(engine: Engine, owner: str, view: View, layer: int, name: str) -> Job:
    """Ask where a matrix is zero that the last of the view's modifiers has pruned, all of them done or not."""
    request = view.request(take_zeros_picture, **view.variant, layer=layer, matrix=name)
    return engine.ask(owner, request, f"Zeros of {name} in layer {layer}", READOUT)


@offered("zeros-scores")
def take_zeros_scores(task: Task, mask: str, modify: str, layer: int, matrix: str) -> ScoreCounts:
    """Count the scores by which such a matrix got its zeros."""
    variant = _find_begun(task, mask, modify)
    return find_scores(task.loaded, task.corpus, variant, layer, matrix, task.store, task.progress)


def ask_scores(engine: Engine, owner: str, view: View, layer: int, name: str) -> Job:
    """Ask how the scores lie by which such a matrix got its zeros."""
    request = view.request(take_zeros_scores, **view.variant, layer=layer, matrix=name)
    return engine.ask(owner, request, f"Scores of {name} in layer {layer}", SAMPLE)


@offered("points")
def take_points(task: Task, time: int) -> list[Point]:
    """List what the store knows of the model and text, at a time."""
    return list_points(task.loaded, task.corpus, task.store)


def ask_points(engine: Engine, owner: str, view: View, time: int) -> Job:
    """Ask for the Points that the store knows of the view's model and text; anew for every `time`."""
    return engine.ask(owner, view.pruned.request(take_points, time=time), "Listing what was measured", READOUT)


def _find_begun(task: Task, mask: str, modify: str) -> Variant:
    specs = read_modifiers(modify)
    variant = find_begun(task.loaded, task.corpus, Mask.parse(mask), specs, task.store)
    if len(variant.deltas) < len(specs):
        raise ModifyError("No block is pruned yet", modify, "Wait for the first one")
    return variant
