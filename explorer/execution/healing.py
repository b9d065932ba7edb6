"""What the Heal page asks for, as kinds of requests: a training watched on held-out text, the time of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from explorer.deltas import ModifierSpec, Variant, read_modifiers, write_modifiers
from explorer.evaluation import Score, generate, score
from explorer.execution.engine import LASTING, Engine
from explorer.execution.job import IDLE, SWEEP, Job
from explorer.execution.kinds import offered
from explorer.execution.recovery import Recovery, recover
from explorer.execution.task import Task
from explorer.execution.view import View
from explorer.healing import Pace, TrainingRecord, Watcher, measure_pace, read_history, watching
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel
from explorer.modifiers import modify as make_deltas
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

    def __init__(self, show: Callable[[Healing], None], judge: _Judge) -> None:
        self.show, self.judge, self.so_far = show, judge, judge.begin()

    def record(self, record: TrainingRecord) -> None:
        """Show a step."""
        self._take(replace(self.so_far, records=(*self.so_far.records, record)))

    def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
        """Judge the variant as it is."""
        self._take(self.judge(self.so_far, step, make()))

    def _take(self, found: Healing) -> None:
        self.so_far = found
        self.show(found)


@dataclass(frozen=True)
class _Judge:
    """Judges variants of one training.

    Args:
        task: by which it is asked for.
        corpora: the texts that are judged on.
        watched: what is written.
        mask: what is off.
        modifiers: the last of which trains.
    """

    task: Task
    corpora: tuple[Corpus, ...]
    watched: Watched
    mask: Mask
    modifiers: tuple[ModifierSpec, ...]

    def begin(self) -> Healing:
        """Return what is known before the first step."""
        below, corpus = self.modifiers[:-1], self.corpora[0]
        asked: list[Mask | Variant] = [self.mask]
        if below:
            asked.append(make_deltas(self.task.loaded, corpus, self.mask, below, self.task.store, self.task.progress))
        judged = []
        for corpus in self.corpora:
            pruned, *start = self._score(corpus, asked)
            recovered = start[0].perplexity if start else None
            judged.append(Judged(corpus.name, pruned.unpruned.perplexity, pruned.perplexity, recovered))
        return Healing((), write_modifiers(below), tuple(judged), self._write(NONE), self._write(self.mask))

    def __call__(self, healing: Healing, step: int, variant: Mask | Variant) -> Healing:
        """Return a training with what a variant, that of a checkpoint, is worth and writes."""
        judged = []
        for known, corpus in zip(healing.judged, self.corpora, strict=True):
            (found,) = self._score(corpus, [variant])
            judged.append(replace(known, perplexities={**known.perplexities, step: found.perplexity}))
        written = {**healing.written, step: self._write(variant)}
        return replace(healing, judged=tuple(judged), written=written)

    def _score(self, corpus: Corpus, asked: Sequence[Mask | Variant]) -> list[Score]:
        return score(self.task.loaded, corpus, asked, self.task.store, progress=self.task.progress)

    def _write(self, variant: Mask | Variant) -> tuple[str, ...]:
        asked = self.watched
        texts = (generate(self.task.loaded, variant, each, asked.tokens, chat=asked.chat) for each in asked.prompts)
        return tuple(each.text for each in texts)


@offered("healing", texts=("text",), recalled=True)
def take_healing(task: Task, mask: str, modify: str, text: str, prompts: list[str], tokens: int, chat: bool) -> Healing:
    """Train, and judge each checkpoint on the view's text and another; as far as it is, the partial result.

    It goes on at its last checkpoint where it was asked for before.
    """
    loaded, corpus, store = task.loaded, task.corpus, task.store
    corpora = (corpus, *([task.cut(text)] if text else []))
    off, specs = Mask.parse(mask), read_modifiers(modify)
    judge = _Judge(task, corpora, Watched(text, tuple(prompts), tokens, chat), off, specs)
    follower = _Follower(task.show, judge)
    with watching(follower):
        found = recover(
            loaded, corpus, off, specs, store, task.progress, task.resident.state_cache, lambda estimate: None
        )
    variant = make_deltas(loaded, corpus, off, specs, store)
    records = follower.so_far.records or _find_records(loaded, corpus, variant, store)
    whole = replace(follower.so_far, records=records, recovery=found)
    return whole if (best := whole.best_checkpoint) is None else judge(whole, best, variant)


def ask_healing(engine: Engine, owner: str, view: View, slot: str, watched: Watched = Watched()) -> Job:
    """Ask for a Healing by the view's modifiers, when nothing else is to be done; as far as it is, the partial result.

    It goes on at its last checkpoint where it was asked for before.
    """
    request = view.request(take_healing, **view.variant, **{**asdict(watched), "prompts": list(watched.prompts)})
    title = f"Healing {view.mask} by {write_modifiers(view.modify)}"
    return engine.ask(owner, request, title, IDLE, slot, LASTING, taken_up=True)


def list_healings(engine: Engine, view: View) -> list[tuple[View, Watched]]:
    """List what was asked to train the view's model after its mask on its text, whoever did, the last one at the end.

    What has failed or was stopped, and what the worker has forgotten, is left out: to ask for it would begin it anew.
    """
    found = []
    for request, job in engine.recall(take_healing, view):
        if job.at_hand and engine.worker.find(job.key) is job:
            asked = request.options
            watched = Watched(asked["text"], tuple(asked["prompts"]), asked["tokens"], asked["chat"])
            found.append((replace(view, modify=read_modifiers(asked["modify"]), plan=PlanSpec()), watched))
    return found


def _find_records(loaded: LoadedModel, corpus: Corpus, variant: Variant, store: Store) -> tuple[TrainingRecord, ...]:
    """Return what was recorded when a variant was made."""
    return tuple(
        record for delta in variant.deltas for record in read_history(loaded, corpus.window, delta.origin, store)
    )


@offered("pace")
def take_pace(task: Task, mask: str, modify: str) -> Pace:
    """Time a few steps of the last modifier, over those before it; they are let go."""
    *below, last = read_modifiers(modify)
    variant = make_deltas(task.loaded, task.corpus, Mask.parse(mask), below, task.store, task.progress)
    return measure_pace(task.loaded, task.corpus, variant, last, task.progress)


def ask_pace(engine: Engine, owner: str, view: View) -> Job:
    """Ask for the Pace of the view's last modifier, over those before it, from steps that are taken and let go."""
    return engine.ask(owner, view.request(take_pace, **view.variant), "Timing three steps", SWEEP)
