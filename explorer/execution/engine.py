"""The engine: turns what pages ask into requests, and requests into jobs of the worker. Imports no Streamlit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.deltas import write_modifiers
from explorer.execution.file_stamps import stamp_once
from explorer.execution.job import IDLE, READOUT, SAMPLE, SWEEP, Job
from explorer.execution.job_keys import make_job_key
from explorer.execution.kinds import KINDS, Kind
from explorer.execution.owners import API
from explorer.execution.readouts import (
    read_out,
    take_decode_speed,
    take_export,
    take_plan,
    take_preview,
    take_recovered_scores,
    take_recovery,
    take_sample,
    take_scores,
    take_similarity,
    take_single_sites,
    take_summary,
)
from explorer.execution.recent_work import RecentWork
from explorer.execution.request import Request
from explorer.execution.resident_model import Resident
from explorer.execution.task import Task
from explorer.execution.view import View
from explorer.execution.worker import Worker
from explorer.model import default_modes, quieten_libraries, return_freed_memory
from explorer.plans import METHODS, Plan
from explorer.storage import Asked, CacheError, Store, Unfinished

#: Seconds that work goes on when the browsers that asked for it have gone: what is soon done again, and what is long.
BRIEF, LASTING = 10.0, 600.0


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
        self.worker = Worker(alive, self._tell, default_modes, return_freed_memory)
        self.unfinished = Unfinished(self.store)
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

    def health(self) -> dict[str, Any]:
        """Tell whether jobs are worked on: ok, busy, queued, beats_ago in seconds, bytes of hidden states kept."""
        return {**asdict(self.worker.health()), "kept_bytes": self.resident.state_cache.size}

    def ask(
        self,
        owner: str,
        request: Request,
        title: str,
        priority: int,
        slot: str | None = None,
        patience: float | None = None,
        anew: bool = False,
        taken_up: bool = False,
    ) -> Job:
        """Ask the worker for what a page requests; equal requests share a job as long as no file has changed.

        Args:
            patience: seconds that it outlives its browsers; `LASTING` for a `SWEEP` if not given.
            anew: run it even if it has run before.
            taken_up: whether another server takes it up if this one ends before.
        """
        key = _make_key(request)
        lasting = (LASTING if priority == SWEEP else BRIEF) if patience is None else patience
        job = self.start(owner, slot or request.kind, key, request, title, priority, lasting, anew)
        if taken_up and job.active and not job.noted:
            self.note(job, Asked(job.key, request.write(), "browser", title))
        return job

    def take_up(self, request: Request, left: Asked) -> Job:
        """Ask for what another server's page requested and did not get; pages that ask for it here join its job."""
        self.worker.begin_page(API)
        key = _make_key(request)
        job = self.start(API, key, key, request, left.title, IDLE, LASTING)
        self.note(job, left)
        return job

    def start(
        self,
        owner: str,
        slot: str,
        key: str,
        request: Request,
        title: str,
        priority: int,
        patience: float = 0.0,
        anew: bool = False,
    ) -> Job:
        """Return the job of a request; see `Worker.ask`."""
        kind = KINDS[request.kind]

        def work(job: Job) -> Any:
            with closing(Task(request, job, self.resident)) as task:
                return kind.work(task, **request.options)

        def fits() -> bool:
            return not kind.loads or self.resident.has(request.model)

        alike = (request.kind, request.model, request.text, request.calibration)
        job = self.worker.ask(owner, slot, key, title, work, priority, fits, patience, anew, alike)
        self.worker.hasten(job, priority)  # it may be one that was taken up, for nobody so far
        if kind.recalled:
            self.recent.note((*alike, request.options["mask"]), request, job)
        return job

    def recall(self, kind: Kind, view: View) -> list[tuple[Request, Job]]:
        """List what was asked lately of a kind on a view's model, text and mask, whoever did, the last at the end."""
        asked = view.request(take_summary)
        return self.recent.list((kind.name, asked.model, asked.text, asked.calibration, str(view.mask)))

    def runs(self, request: Request, or_done: bool = False) -> bool:
        """Tell whether such work is on its way, whoever asked for it: a page that was reloaded can show it again.

        Args:
            or_done: or through, so that its result is there at once.
        """
        job = self.find(request)
        return job is not None and (or_done or job.active)

    def find(self, request: Request) -> Job | None:
        """Find such work that is on its way or through, whoever asked for it, and ask for nothing."""
        job = self.worker.find(_make_key(request))
        return job if job is not None and job.at_hand else None

    def summary(self, owner: str, view: View, slot: str = "summary") -> Job:
        """Ask for the ModelSummary: what there is to know about the view's model and text."""
        return self.ask(owner, view.request(take_summary), f"Loading {view.model}", READOUT, slot)

    def score(self, owner: str, view: View, slot: str = "score") -> Job:
        """Ask for the Score of the view's mask on the held-out windows."""
        title = f"Perplexity without {view.mask}" if view.mask else "Perplexity"
        return self.ask(owner, view.pruned.request(read_out, mask=str(view.mask)), title, READOUT, slot)

    def recover(self, owner: str, view: View, slot: str = "recover") -> Job:
        """Ask for what the view's modifiers win back: a Recovery, and while it is scored an Estimate."""
        title = f"Recovering {view.mask} by {write_modifiers(view.modify)}"
        return self.ask(owner, request_recovery(view), title, SAMPLE, slot, LASTING, taken_up=True)

    def redundancy(self, owner: str, view: View, slot: str = "redundancy") -> Job:
        """Ask for the Redundancy of the view's model on the calibration windows."""
        return self.ask(owner, view.request(take_similarity), "Similarity", SAMPLE, slot, LASTING)

    def plan(self, owner: str, view: View) -> Job:
        """Ask for the view's Plan: before samples if it is soon made, for the slider waits for it."""
        soon_made = METHODS[view.plan.method].soon_made and not view.plan.iterative
        request, title = view.request(take_plan, plan=str(view.plan)), f"Plan {view.plan}"
        priority = SAMPLE if soon_made else SWEEP
        return self.ask(owner, request, title, priority, patience=LASTING, taken_up=not soon_made)

    def plan_scores(self, owner: str, view: View, plan: Plan) -> Job:
        """Ask for the held-out Scores of a plan's masks, by mask; those known so far are the partial result."""
        request = view.pruned.request(take_scores, masks=list(map(str, plan.masks)))
        return self.ask(owner, request, f"Scores along {plan.spec}", SWEEP, taken_up=True)

    def recovered_scores(self, owner: str, view: View, plan: Plan) -> Job:
        """Ask for the recovered Scores of a plan's masks, by mask, when nothing else is to be done."""
        modifiers, masks = write_modifiers(view.modify), list(map(str, plan.masks))
        request = view.request(take_recovered_scores, masks=masks, modify=modifiers)
        return self.ask(owner, request, f"Recovering along {plan.spec}", IDLE, taken_up=True)

    def leave_one_out(self, owner: str, view: View, n_layers: int) -> Job:
        """Ask for the Scores with a single site off, by mask, when nothing else is to be done."""
        request = view.pruned.request(take_single_sites, layers=n_layers)
        return self.ask(owner, request, "Damage of single sites", IDLE)

    def decode_speed(self, owner: str, view: View, run: int) -> Job:
        """Ask for decoded tokens per second, of the whole model and under the mask, measured now."""
        request = view.pruned.request(take_decode_speed, mask=str(view.mask), run=run)
        return self.ask(owner, request, "Decoding speed", READOUT)

    def sample(self, owner: str, slot: str, view: View, prompt: str, new_tokens: int, chat: bool) -> Job:
        """Ask for a greedy Sample, recovered if the view is; its text so far is the job's partial result."""
        asked = view if view.recovers else view.pruned
        request = asked.request(take_sample, **asked.variant, prompt=prompt, new_tokens=new_tokens, chat=chat)
        return self.ask(owner, request, "Sample", SAMPLE, slot)

    def preview(self, owner: str, view: View, formats: Sequence[str]) -> Job:
        """Ask what an export would write: an ExportPreview for each format."""
        request = view.request(take_preview, **_write_variant(view), formats=list(formats))
        return self.ask(owner, request, "Planning the export", READOUT)

    def export(self, owner: str, view: View, format: str, out: Path, overwrite: bool, benchmark: bool = False) -> Job:
        """Ask for an export, anew if it has been written before; with `benchmark` what was written is timed."""
        options = {"format": format, "out": str(out), "overwrite": overwrite, "benchmark": benchmark}
        request = view.request(take_export, **_write_variant(view), **options)
        return self.ask(owner, request, f"Export to {out.name}", SWEEP, anew=True)

    def find_export(self, owner: str, view: View) -> Job | None:
        """Find and hold a view's last export that runs, or ended lately: its browser may have been reloaded."""
        modifiers = _write_variant(view)["modify"]
        exports = [job for request, job in self.recall(take_export, view) if request.options["modify"] == modifiers]
        for job in exports[-1:]:
            if job.state != "cancelled" and not job.cancelling and time.monotonic() - job.ended <= LASTING:
                return self.worker.hold(owner, "export", job)
        return None


def request_recovery(view: View) -> Request:
    """Write the request for what a view's modifiers win back."""
    return view.request(take_recovery, **view.variant)


def _write_variant(view: View) -> dict[str, str]:
    return view.variant if view.recovers else view.pruned.variant


def _make_key(request: Request) -> str:
    files = tuple(map(stamp_once, (request.model.model, *request.texts)))
    return make_job_key(request.kind, request=request.key, files=files)
