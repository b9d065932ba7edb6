"""What the Heal page asks the worker for: a training watched on held-out text, and how long its steps take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from explorer.deltas import ModifierSpec, Variant, write_modifiers
from explorer.evaluation import score
from explorer.execution.engine import LASTING, Engine
from explorer.execution.job import IDLE, SWEEP, Job
from explorer.execution.recovery import Recovery, recover
from explorer.execution.view import View
from explorer.healing import TrainingRecord, Watcher, read_history, watching
from explorer.model import LoadedModel
from explorer.modifiers import modify
from explorer.storage import Store
from explorer.text import Corpus

_MEASURED = 3  # steps that are timed


@dataclass(frozen=True)
class Healing:
    """A training so far.

    Args:
        records: of every step and checkpoint.
        perplexities: step of a checkpoint -> held-out perplexity there.
        unpruned, pruned: the same of the whole model, and with the mask alone.
        recovery: what was won back, when it is done.
    """

    records: tuple[TrainingRecord, ...]
    perplexities: dict[int, float]
    unpruned: float
    pruned: float
    recovery: Recovery | None = None

    @property
    def losses(self) -> list[tuple[int, float]]:
        """The training loss by step."""
        return [(each.step, each.loss) for each in self.records if each.loss is not None]

    @property
    def last_checkpoint(self) -> int | None:
        """The step of the last one, of those before the end."""
        found = [each.step for each in self.records if each.validation is not None and each.step < each.steps]
        return max(found, default=None)


class _Follower(Watcher):
    """Shows a training with the held-out perplexity at each checkpoint, which decides nothing."""

    def __init__(self, so_far: Healing, judge: Callable[[Variant], float], show: Callable[[Healing], None]) -> None:
        self.so_far, self.judge, self.show = so_far, judge, show

    def record(self, record: TrainingRecord) -> None:
        """Show a step."""
        self._take(replace(self.so_far, records=(*self.so_far.records, record)))

    def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
        """Score the variant as it is."""
        self._take(replace(self.so_far, perplexities={**self.so_far.perplexities, step: self.judge(make())}))

    def _take(self, found: Healing) -> None:
        self.so_far = found
        self.show(found)


def ask_healing(engine: Engine, owner: str, view: View, slot: str) -> Job:
    """Ask for a Healing by the view's modifiers, when nothing else is to be done; as far as it is, the partial result.

    It goes on at its last checkpoint where it was asked for before.
    """

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Healing:
        def judge(variant: Variant) -> float:
            return score(loaded, corpus, [variant], engine.store, progress=job.progress)[0].perplexity

        (pruned,) = score(loaded, corpus, [view.mask], engine.store, progress=job.progress)
        follower = _Follower(Healing((), {}, pruned.unpruned.perplexity, pruned.perplexity), judge, job.show)
        with watching(follower):
            how = (view.mask, view.modify, engine.store, job.progress, engine.resident.state_cache)
            found = recover(loaded, corpus, *how, lambda estimate: None)
        records = follower.so_far.records or _find_records(loaded, corpus, view, engine.store)
        return replace(follower.so_far, records=records, recovery=found)

    title = f"Healing {view.mask} by {write_modifiers(view.modify)}"
    return engine.ask(owner, "healing", view, title, IDLE, work, slot=slot, patience=LASTING)


def _find_records(loaded: LoadedModel, corpus: Corpus, view: View, store: Store) -> tuple[TrainingRecord, ...]:
    """Return what was recorded when the view's variant was made."""
    variant = modify(loaded, corpus, view.mask, view.modify, store)
    return tuple(
        record for delta in variant.deltas for record in read_history(loaded, corpus.window, delta.origin, store)
    )


def ask_step_time(engine: Engine, owner: str, view: View) -> Job:
    """Ask how many seconds a step of the view's last modifier takes, of three that are taken and let go."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> float:
        seen = list[TrainingRecord]()

        class Timer(Watcher):
            def record(self, record: TrainingRecord) -> None:
                seen.append(record)

        last = view.modify[-1]
        options = dict(last.options) | {"steps": str(_MEASURED), "check": str(_MEASURED)}
        spec = ModifierSpec(last.name, tuple(sorted(options.items())))
        with watching(Timer()):
            modify(loaded, corpus, view.mask, [*view.modify[:-1], spec], Store(None), job.progress)
        return max(record.seconds for record in seen if record.loss is not None) / _MEASURED

    return engine.ask(owner, "step time", view, "Timing three steps", SWEEP, work)
