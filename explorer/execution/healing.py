"""What the Heal page asks the worker for: a training watched on held-out text, and how long its steps take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace

from explorer.deltas import Variant, write_modifiers
from explorer.evaluation import generate, score
from explorer.execution.engine import LASTING, Engine
from explorer.execution.file_stamps import stamp
from explorer.execution.job import IDLE, SWEEP, Job
from explorer.execution.page_request import write_variant
from explorer.execution.recovery import Recovery, recover
from explorer.execution.view import View
from explorer.healing import Pace, TrainingRecord, Watcher, measure_pace, read_history, watching
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel
from explorer.modifiers import modify
from explorer.plans import PlanSpec
from explorer.storage import Store
from explorer.text import Corpus


@dataclass(frozen=True)
class Watched:
    """What a training is watched by, beside the text of its view; nothing of it decides anything.

    Args:
        text: name of another text that it is judged on; empty for none.
        prompts: what is gone on from at each checkpoint.
        tokens: that are written, greedily.
        chat: whether a prompt is a user's turn of the chat template.
    """

    text: str = ""
    prompts: tuple[str, ...] = ()
    tokens: int = 32
    chat: bool = False


@dataclass(frozen=True)
class Judged:
    """Held-out perplexities on one text.

    Args:
        text: its name.
        unpruned, pruned: of the whole model, and with the mask alone.
        below: with what the training starts from, if that is not the mask alone.
        perplexities: step of a checkpoint -> perplexity there.
    """

    text: str
    unpruned: float
    pruned: float
    below: float | None = None
    perplexities: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Healing:
    """A training so far.

    Args:
        records: of every step and checkpoint.
        start: the modifiers below the one that trains; empty where it starts from the cut.
        judged: on the view's text, and on another if one was asked for.
        whole, pruned: what the whole model, and that with the mask alone, writes on from each prompt.
        written: step of a checkpoint -> what is written there.
        recovery: what was won back, when it is done.
    """

    records: tuple[TrainingRecord, ...] = ()
    start: str = ""
    judged: tuple[Judged, ...] = ()
    whole: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    written: dict[int, tuple[str, ...]] = field(default_factory=dict)
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

    @property
    def best_checkpoint(self) -> int | None:
        """The step of the one with the least loss on the windows kept apart, the first of equals."""
        found = {each.step: each.validation for each in self.records if each.validation is not None}
        return min(found, key=found.__getitem__, default=None)


class _Follower(Watcher):
    """Shows a training with what its checkpoints write and their held-out perplexities, which decide nothing."""

    def __init__(self, job: Job, judge: _Judge) -> None:
        self.job, self.judge, self.so_far = job, judge, judge.begin()

    def record(self, record: TrainingRecord) -> None:
        """Show a step."""
        self._take(replace(self.so_far, records=(*self.so_far.records, record)))

    def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
        """Judge the variant as it is."""
        self._take(self.judge(self.so_far, step, make()))

    def _take(self, found: Healing) -> None:
        self.so_far = found
        self.job.show(found)


@dataclass(frozen=True)
class _Judge:
    """Judges variants of one training.

    Args:
        loaded: the model.
        corpora: the texts that are judged on.
        watched: what is written.
        view: the mask, and the modifiers whose last one trains.
        store, job: as for whatever is scored.
    """

    loaded: LoadedModel
    corpora: tuple[Corpus, ...]
    watched: Watched
    view: View
    store: Store
    job: Job

    def begin(self) -> Healing:
        """Return what is known before the first step."""
        mask, below = self.view.mask, self.view.modify[:-1]
        asked: list[Mask | Variant] = [mask]
        if below:
            asked.append(modify(self.loaded, self.corpora[0], mask, below, self.store, self.job.progress))
        judged = []
        for corpus in self.corpora:
            pruned, *start = score(self.loaded, corpus, asked, self.store, progress=self.job.progress)
            recovered = start[0].perplexity if start else None
            judged.append(Judged(corpus.name, pruned.unpruned.perplexity, pruned.perplexity, recovered))
        return Healing((), write_modifiers(below), tuple(judged), self._write(NONE), self._write(mask))

    def __call__(self, healing: Healing, step: int, variant: Mask | Variant) -> Healing:
        """Return a training with what a variant, that of a checkpoint, is worth and writes."""
        judged = []
        for known, corpus in zip(healing.judged, self.corpora, strict=True):
            (found,) = score(self.loaded, corpus, [variant], self.store, progress=self.job.progress)
            judged.append(replace(known, perplexities={**known.perplexities, step: found.perplexity}))
        written = {**healing.written, step: self._write(variant)}
        return replace(healing, judged=tuple(judged), written=written)

    def _write(self, variant: Mask | Variant) -> tuple[str, ...]:
        asked = self.watched
        texts = (generate(self.loaded, variant, each, asked.tokens, chat=asked.chat) for each in asked.prompts)
        return tuple(each.text for each in texts)


def ask_healing(engine: Engine, owner: str, view: View, slot: str, watched: Watched = Watched()) -> Job:
    """Ask for a Healing by the view's modifiers, when nothing else is to be done; as far as it is, the partial result.

    It goes on at its last checkpoint where it was asked for before.
    """

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Healing:
        others = [engine.resident.cut(loaded, watched.text, view.tokens, view.window)] if watched.text else []
        judge = _Judge(loaded, (corpus, *others), watched, view, engine.store, job)
        follower = _Follower(job, judge)
        with watching(follower):
            how = (view.mask, view.modify, engine.store, job.progress, engine.resident.state_cache)
            found = recover(loaded, corpus, *how, lambda estimate: None)
        variant = modify(loaded, corpus, view.mask, view.modify, engine.store)
        records = follower.so_far.records or _find_records(loaded, corpus, variant, engine.store)
        whole = replace(follower.so_far, records=records, recovery=found)
        return whole if (best := whole.best_checkpoint) is None else judge(whole, best, variant)

    title = f"Healing {view.mask} by {write_modifiers(view.modify)}"
    more = (*astuple(watched), stamp(watched.text))
    job = engine.ask(owner, "healing", view, title, IDLE, work, more, slot=slot, patience=LASTING)
    engine.recent.note(_find_ground(view), (replace(view, plan=PlanSpec()), watched), job)
    return engine.note_page(job, view, "score", write_variant(view))


def list_healings(engine: Engine, view: View) -> list[tuple[View, Watched]]:
    """List what was asked to train the view's model after its mask on its text, whoever did, the last one at the end.

    What has failed or was stopped, and what the worker has forgotten, is left out: to ask for it would begin it anew.
    """
    begun = engine.recent.list(_find_ground(view))
    return [asked for asked, job in begun if job.at_hand and engine.worker.find(job.key) is job]


def _find_ground(view: View) -> tuple[str, View]:
    """What a training stands on, whatever trains."""
    return "healing", replace(view, modify=(), plan=PlanSpec())


def _find_records(loaded: LoadedModel, corpus: Corpus, variant: Variant, store: Store) -> tuple[TrainingRecord, ...]:
    """Return what was recorded when a variant was made."""
    return tuple(
        record for delta in variant.deltas for record in read_history(loaded, corpus.window, delta.origin, store)
    )


def ask_pace(engine: Engine, owner: str, view: View) -> Job:
    """Ask for the Pace of the view's last modifier, over those before it, from steps that are taken and let go."""

    def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Pace:
        *below, last = view.modify
        variant = modify(loaded, corpus, view.mask, below, engine.store, job.progress)
        return measure_pace(loaded, corpus, variant, last, job.progress)

    return engine.ask(owner, "pace", view, "Timing three steps", SWEEP, work)
