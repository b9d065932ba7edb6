"""What the worker does: the library's functions over the one model in memory. Imports no Streamlit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from explorer.deltas import Variant, write_modifiers
from explorer.evaluation import LiveScoring, Sample, Score, TokenRate, generate, measure_decode_speed, score
from explorer.execution.export_preview import ExportPreview, preview_export
from explorer.execution.file_stamps import stamp_once
from explorer.execution.job import IDLE, READOUT, SAMPLE, SWEEP, Job
from explorer.execution.job_keys import Part, make_job_key
from explorer.execution.page_request import write_request, write_variant
from explorer.execution.recent_work import RecentWork
from explorer.execution.recovery import Recovery, make_variant, recover, recover_masks
from explorer.execution.resident_model import Resident
from explorer.execution.view import View
from explorer.execution.worker import Worker
from explorer.export import Exported, export
from explorer.masks import NONE, PARTS, Mask, find_units
from explorer.measures import SimilarityStats, measure_similarity
from explorer.model import CostModel, LoadedModel, count_parameters, default_modes, quieten_libraries
from explorer.plans import METHODS, Plan, PlanSpec, make_plan, score_plan_masks
from explorer.storage import Asked, CacheError, Store, Unfinished
from explorer.text import Corpus

#: Seconds that work goes on when the browsers that asked for it have gone: what is soon done again, and what is long.
BRIEF, LASTING = 10.0, 600.0


@dataclass(frozen=True)
class ModelSummary:
    """What the pages show of the model and the text."""

    architecture: str
    n_layers: int
    precision: str
    device: str
    cost_model: CostModel
    chat: bool
    text: str
    protocol: str
    window: int
    held_out_tokens: int
    calibration_tokens: int
    calibration_text: str
    notices: tuple[str, ...] = ()
    digest: str = ""  # of the model's files
    held_out_digest: str = ""


class Engine:
    """Turns what the pages ask into jobs for the worker. Only the worker's thread touches the model."""

    def __init__(
        self,
        cache: Path,
        alive: Callable[[str], bool],
        changed: Callable[[Job, bool], None] = lambda job, moved: None,
    ) -> None:
        quieten_libraries()
        self.cache, self.store, self._changed = cache, Store(cache), changed
        self.worker, self.unfinished = Worker(alive, self._tell, default_modes), Unfinished(self.store)
        self.resident = Resident(self.store, cache)
        self.recent = RecentWork()

    def _tell(self, job: Job, moved: bool) -> None:
        self._changed(job, moved)
        if job.noted and not job.active and not self.worker.closing:
            self.unfinished.strike(job.noted)
            job.noted = ""

    def note(self, job: Job, asked: Asked) -> None:
        """Note what a job does until it ends, so that another server takes it up if this one ends before."""
        if job.active and not job.noted:
            with suppress(CacheError):  # it is only not taken up
                self.unfinished.note(asked)
            job.noted = asked.key
            self._tell(job, False)  # it may have ended meanwhile

    def note_page(self, job: Job, view: View, kind: str, options: dict[str, Any]) -> Job:
        """Note what a page asked for, likewise, as the request that asks the same of a program; return its job."""
        self.note(job, write_request(job, view, kind, options))
        return job

    def health(self) -> dict[str, Any]:
        """Tell whether jobs are worked on: ok, busy, queued, beats_ago in seconds, bytes of hidden states kept."""
        return {**asdict(self.worker.health()), "kept_bytes": self.resident.state_cache.size}

    def summary(self, owner: str, view: View, slot: str = "summary") -> Job:
        """Ask for what there is to know about the view's model and text."""
        return self.ask(owner, "summary", view.source, f"Loading {view.model}", READOUT, _take_facts, slot=slot)

    def score(self, owner: str, view: View, slot: str = "score") -> Job:
        """Ask for the Score of the view's mask on the held-out windows."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Score:
            live = LiveScoring(self.resident.state_cache, lambda estimates: job.show(*estimates))
            return score(loaded, corpus, [view.mask], self.store, progress=job.progress, live=live)[0]

        title = f"Perplexity without {view.mask}" if view.mask else "Perplexity"
        return self.ask(owner, "score", view.pruned, title, READOUT, work, slot=slot)

    def recover(self, owner: str, view: View, slot: str = "recover") -> Job:
        """Ask for what the view's modifiers win back: a Recovery, and while it is scored an Estimate."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Recovery:
            how = (view.mask, view.modify, self.store, job.progress, self.resident.state_cache, job.show)
            return recover(loaded, corpus, *how)

        title = f"Recovering {view.mask} by {write_modifiers(view.modify)}"
        job = self.ask(owner, "recover", view, title, SAMPLE, work, slot=slot, patience=LASTING)
        return self.note_page(job, view, "score", write_variant(view))

    def redundancy(self, owner: str, view: View, slot: str = "redundancy") -> Job:
        """Ask for the Redundancy of the view's model on the calibration windows."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> SimilarityStats:
            return measure_similarity(loaded, corpus, self.store, job.progress)

        return self.ask(owner, "redundancy", view.source, "Similarity", SAMPLE, work, slot=slot, patience=LASTING)

    def plan(self, owner: str, view: View) -> Job:
        """Ask for the view's Plan: before samples if it is soon made, for the slider waits for it."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Plan:
            return make_plan(loaded, corpus, view.plan, self.store, job.progress)

        asked, title = replace(view, mask=NONE, modify=()), f"Plan {view.plan}"
        soon_made = METHODS[view.plan.method].soon_made and not view.plan.iterative
        job = self.ask(owner, "plan", asked, title, SAMPLE if soon_made else SWEEP, work, patience=LASTING)
        return job if soon_made else self.note_page(job, view, "plan", asdict(view.plan))

    def plan_scores(self, owner: str, view: View, plan: Plan) -> Job:
        """Ask for the held-out Scores of a plan's masks, by mask; those known so far are the partial result."""
        job = self._scores(owner, "plan_scores", view, plan.masks, f"Scores along {plan.spec}", SWEEP)
        return self.note_page(job, view, "plan", asdict(plan.spec))

    def recovered_scores(self, owner: str, view: View, plan: Plan) -> Job:
        """Ask for the recovered Scores of a plan's masks, by mask, when nothing else is to be done."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> dict[Mask, Score]:
            return recover_masks(loaded, corpus, plan.masks, view.modify, self.store, job.progress, job.show)

        title, masks = f"Recovering along {plan.spec}", tuple(map(str, plan.masks))
        return self.ask(owner, "recovered_scores", replace(view, mask=NONE), title, IDLE, work, masks)

    def leave_one_out(self, owner: str, view: View, n_layers: int) -> Job:
        """Ask for the Scores with a single site off, by mask, when nothing else is to be done."""
        return self._scores(owner, "leave_one_out", view, list_single_sites(n_layers), "Damage of single sites", IDLE)

    def _scores(self, owner: str, kind: str, view: View, masks: Sequence[Mask], title: str, priority: int) -> Job:
        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> dict[Mask, Score]:
            return score_plan_masks(loaded, corpus, masks, self.store, job.progress, job.show)

        return self.ask(owner, kind, view.source.pruned, title, priority, work, tuple(map(str, masks)))

    def decode_speed(self, owner: str, view: View, run: int) -> Job:
        """Ask for decoded tokens per second, of the whole model and under the mask, measured now."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> list[TokenRate | None]:
            return measure_decode_speed(loaded, [NONE, view.mask], job.progress)

        return self.ask(owner, "decode_speed", view.pruned, "Decoding speed", READOUT, work, (run,))

    def sample(self, owner: str, slot: str, view: View, prompt: str, new_tokens: int, chat: bool) -> Job:
        """Ask for a greedy Sample, recovered if the view is; its text so far is the job's partial result."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Sample:
            variant = self._make_variant(job, loaded, corpus, view)
            found = generate(loaded, variant, prompt, new_tokens, chat=chat, listener=job.show)
            return replace(found, variant=view.mask)  # what is kept long holds no tensors

        asked = view if view.recovers else view.pruned
        return self.ask(owner, "sample", asked, "Sample", SAMPLE, work, (prompt, new_tokens, chat), slot)

    def _make_variant(self, job: Job, loaded: LoadedModel, corpus: Corpus, view: View) -> Mask | Variant:
        modifiers = view.modify if view.recovers else ()
        return make_variant(loaded, corpus, view.mask, modifiers, self.store, job.progress)

    def preview(self, owner: str, view: View, formats: tuple[str, ...]) -> Job:
        """Ask what an export would write: an ExportPreview for each format."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> dict[str, ExportPreview]:
            variant = self._make_variant(job, loaded, corpus, view)
            return {format: preview_export(loaded, variant, format) for format in formats}

        return self.ask(owner, "preview", view, "Planning the export", READOUT, work, formats)

    def export(self, owner: str, view: View, format: str, out: Path, overwrite: bool, benchmark: bool = False) -> Job:
        """Ask for an export, anew if it has been written before; with `benchmark` what was written is timed."""

        def work(job: Job, loaded: LoadedModel, corpus: Corpus) -> Exported:
            options: dict[str, Any] = {"format": format, "overwrite": overwrite, "benchmark": benchmark}
            variant = self._make_variant(job, loaded, corpus, view)
            return export(loaded, variant, out, corpus, self.store, progress=job.progress, **options)

        more = (format, str(out), overwrite, benchmark)
        job = self.ask(owner, "export", view, f"Export to {out.name}", SWEEP, work, more, anew=True)
        self.recent.note(("export", _without_plan(view)), "last", job)
        return job

    def find_export(self, owner: str, view: View) -> Job | None:
        """Find and hold a view's last export that runs, or ended lately: its browser may have been reloaded."""
        for _, job in self.recent.list(("export", _without_plan(view))):
            if job.state != "cancelled" and not job.cancelling and time.monotonic() - job.ended <= LASTING:
                return self.worker.hold(owner, "export", job)
        return None

    def runs(self, kind: str, view: View, more: Part = (), or_done: bool = False) -> bool:
        """Tell whether such work is on its way, whoever asked for it: a page that was reloaded can show it again.

        Args:
            or_done: or through, so that its result is there at once.
        """
        job = self.find(kind, view, more)
        return job is not None and (or_done or job.active)

    def find(self, kind: str, view: View, more: Part = ()) -> Job | None:
        """Find such work that is on its way or through, whoever asked for it, and ask for nothing."""
        job = self.worker.find(_make_key(kind, _without_plan(view), more))
        return job if job is not None and job.at_hand else None

    def ask(
        self,
        owner: str,
        kind: str,
        view: View,
        title: str,
        priority: int,
        work: Callable[[Job, LoadedModel, Corpus], Any],
        more: Part = (),
        slot: str | None = None,
        patience: float | None = None,
        anew: bool = False,
    ) -> Job:
        """Ask the worker for work on the view's model and text; kind, view and `more` are its key.

        Args:
            patience: seconds that it outlives its browsers; `LASTING` for a `SWEEP` if not given.
            anew: run it even if it has run before.
        """

        def run(job: Job) -> Any:
            loaded = self.resident.load(view.spec, view.texts, job.progress)
            others = {view.calibration: 1.0} if view.calibration not in ("", view.text) else {}
            corpus = self.resident.cut(loaded, view.text, view.tokens, view.window, others, view.calibration_tokens)
            job.preemptible = True
            with loaded.wrappers.checking(job.check):
                return work(job, loaded, corpus)

        key = _make_key(kind, view if kind == "plan" else _without_plan(view), more)
        lasting = (LASTING if priority == SWEEP else BRIEF) if patience is None else patience
        fits, alike = lambda: self.resident.has(view.spec), (kind, view.source)
        return self.worker.ask(owner, slot or kind, key, title, run, priority, fits, lasting, anew, alike)


@cache
def list_single_sites(n_layers: int) -> tuple[Mask, ...]:
    """List the masks with a single site off, attention first."""
    return tuple(mask for part in PARTS for mask in find_units(n_layers, part))


def _make_key(kind: str, view: View, more: Part) -> str:
    spec = {name: str(value) for name, value in asdict(view.spec).items()}
    files = tuple(map(stamp_once, (view.model, view.text, view.calibration)))
    text = (view.text, view.tokens, view.window, view.calibration, view.calibration_tokens)
    what = {"mask": str(view.mask), "plan": str(view.plan), "modify": tuple(map(str, view.modify))}
    return make_job_key(kind, model=list(spec.items()), text=text, files=files, more=more, **what)


def _without_plan(view: View) -> View:
    return replace(view, plan=PlanSpec())


def _take_facts(job: Job, loaded: LoadedModel, corpus: Corpus) -> ModelSummary:
    return ModelSummary(
        architecture=type(loaded.model).__name__,
        n_layers=loaded.n_layers,
        precision=loaded.precision,
        device=str(loaded.device),
        cost_model=count_parameters(loaded.model, loaded.architecture),
        chat=loaded.tokenizer.chat_template is not None,
        text=corpus.name,
        protocol=corpus.protocol,
        window=corpus.window,
        held_out_tokens=corpus.held_out.ids.size,
        calibration_tokens=corpus.calibration.ids.size,
        calibration_text=corpus.calibration_name,
        notices=loaded.notices,
        digest=loaded.digest,
        held_out_digest=corpus.held_out.digest,
    )
