"""What the Sparsity page asks the worker for: blocks being pruned, the model so far, a matrix and its scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from explorer.deltas import Variant, write_modifiers
from explorer.errors import ModifyError
from explorer.evaluation import LiveScoring, Score, score
from explorer.execution.engine import LASTING, Engine
from explorer.execution.job import IDLE, READOUT, SAMPLE, Job
from explorer.execution.page_request import write_variant
from explorer.execution.view import View
from explorer.model import LoadedModel
from explorer.modifiers import find_begun, modify, repeat_layer
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
from explorer.text import Corpus


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


def ask_pruning(engine: Engine, owner: str, view: View, slot: str = "pruning") -> Job:
    """Ask for a Pruning by the last of the view's modifiers, when nothing else is to be done.

    As far as it is, it is the partial result. It goes on at its last layer where it was asked for before; of layers
    that were made before the errors are found anew.
    """

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Pruning:
        follower = _Follower(job.show)
        with watching_layers(follower):
            variant = modify(loaded, corpus, view.mask, view.modify, engine.store, job.progress)
            if not follower.so_far.errors:
                repeat_layer(loaded, corpus, variant, None, engine.store, job.progress)
        (scored,) = score(loaded, corpus, [variant], engine.store, progress=job.progress)
        return replace(
            follower.so_far,
            score=replace(scored, variant=view.mask),
            counts=count_zeros(list_zeros(loaded, variant)),
            seconds=variant.deltas[-1].origin.seconds,
        )

    title = f"Pruning inside the blocks by {write_modifiers(view.modify)}"
    job = engine.ask(owner, "pruning", view, title, IDLE, work, slot=slot, patience=LASTING)
    return engine.note_page(job, view, "score", write_variant(view))


def ask_so_far(engine: Engine, owner: str, view: View, layers: int) -> Job:
    """Ask for the perplexity of the model with the blocks that are pruned when it is begun, `layers` or more."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> SoFar:
        variant = _find_begun(engine, loaded, corpus, view)
        live = LiveScoring(engine.resident.state_cache, lambda estimates: None)
        (scored,) = score(loaded, corpus, [variant], engine.store, progress=job.progress, live=live)
        return SoFar(len(variant.deltas[-1].weights), replace(scored, variant=view.mask))

    title = f"Perplexity with {layers} blocks pruned"
    return engine.ask(owner, "so_far", view, title, READOUT, work, (layers,), slot=f"so far {layers}")


def ask_picture(engine: Engine, owner: str, view: View, layer: int, name: str) -> Job:
    """Ask where a matrix is zero that the last of the view's modifiers has pruned, all of them done or not."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> ZerosPicture:
        return take_picture(loaded, _find_begun(engine, loaded, corpus, view), layer, name)

    return engine.ask(owner, "picture", view, f"Zeros of {name} in layer {layer}", READOUT, work, (layer, name))


def ask_scores(engine: Engine, owner: str, view: View, layer: int, name: str) -> Job:
    """Ask how the scores lie by which such a matrix got its zeros."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> ScoreCounts:
        variant = _find_begun(engine, loaded, corpus, view)
        return find_scores(loaded, corpus, variant, layer, name, engine.store, job.progress)

    return engine.ask(owner, "scores", view, f"Scores of {name} in layer {layer}", SAMPLE, work, (layer, name))


def ask_points(engine: Engine, owner: str, view: View, time: int) -> Job:
    """Ask for the Points that the store knows of the view's model and text; anew for every `time`."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> list[Point]:
        return list_points(loaded, corpus, engine.store)

    return engine.ask(owner, "points", view.source.pruned, "Listing what was measured", READOUT, work, (time,))


def _find_begun(engine: Engine, loaded: LoadedModel, corpus: Corpus, view: View) -> Variant:
    variant = find_begun(loaded, corpus, view.mask, view.modify, engine.store)
    if len(variant.deltas) < len(view.modify):
        raise ModifyError("No block is pruned yet", write_modifiers(view.modify), "Wait for the first one")
    return variant
