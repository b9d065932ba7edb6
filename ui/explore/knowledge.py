"""What is known of a mask, a plan and a model, as the instrument in the browser shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.evaluation import Score
from explorer.execution import Job, ModelSummary, View, list_single_sites
from explorer.masks import Mask
from explorer.measures import Interactions
from explorer.plans import Plan
from ui.explore.blocks import describe_blocks, describe_influence
from ui.explore.cell_colours import describe_measure, rank_layers
from ui.explore.meter import describe_meter
from ui.explore.pairs import describe_pairs
from ui.explore.recoveries import Recoveries, name_modifiers
from ui.explore.score_format import write_live, write_score
from ui.explore.strip import list_changes, write_cells
from ui.live import describe_progress
from ui.parts import describe_speed


@dataclass(frozen=True)
class Knowledge:
    """The jobs that find out what the instrument shows; it can be described at any time, from any thread.

    Args:
        view: what is looked at.
        summary: the facts of its model.
        measure: what colours the cells.
        score: of the view's mask.
        recent: those of masks that were set before.
        plan: the plan of the slider.
        plan_scores: the scores along it, once there is one.
        recoveries: what was won back before.
        recovered: what wins back for the view's mask, if that was asked for.
        steps: the same for the plan's masks.
        similarity: what one pass over the residual stream records.
        colours: what the measure needs, if anything.
        leave_one_out: the scores without single sites.
        interactions: what pairs of layers cost beyond each alone, if anybody has scored them.
        decode_speed: a mask and what times decoding under it, if that was asked for.
    """

    view: View
    summary: ModelSummary
    measure: str
    score: Job
    recent: dict[Mask, Job]
    plan: Job
    plan_scores: Job | None
    recoveries: Recoveries
    recovered: Job | None
    steps: Job | None
    similarity: Job
    colours: Job | None
    leave_one_out: Job
    interactions: Interactions | None
    decode_speed: tuple[Mask, Job] | None

    @property
    def sweeps(self) -> list[Job]:
        """What goes on by itself, what is waited for most the first."""
        jobs = [self.score, self.similarity, self.plan, self.plan_scores, self.colours, self.leave_one_out, self.steps]
        return [job for job in jobs if job is not None]

    @property
    def jobs(self) -> list[Job]:
        """All that it waits for."""
        timing = None if self.decode_speed is None else self.decode_speed[1]
        return [*self.sweeps, *(job for job in (self.recovered, timing) if job is not None)]

    def describe(self) -> dict[str, Any]:
        """Describe all of it."""
        n_layers, mask = self.summary.n_layers, self.view.mask
        known = {each: job.result for each, job in self.recent.items() if job.state == "done"}
        alone = self._list_alone()
        some: Score | None = next((s for s in (*known.values(), *alone) if s is not None), None)
        whole = None if some is None else some.unpruned
        return {
            "model": self.view.model,
            "known": {write_cells(each, n_layers): write_score(s) for each, s in known.items()},
            "leaveOneOut": [None if score is None else write_score(score) for score in alone],
            "baseline": None if whole is None else write_score(whole),
            "live": write_live(mask, self.score, n_layers),
            "failed": str(self.score.error) if self.score.state == "failed" else "",
            "tokens": some.n_tokens if some else 0,
            "bytes": int(some.text_bytes.sum()) if some else 0,
            "recovery": self._describe_recovery(whole) if self.view.modify else None,
            "plan": self._describe_plan(),
            "measure": describe_measure(self.measure, self.colours, alone),
            "blocks": self._describe_blocks(),
            "awaitedBlocks": describe_progress(self.similarity) if self.similarity.active else "",
            "influence": describe_influence(self.similarity),
            "pairs": describe_pairs(self.interactions, alone),
            "meter": describe_meter(self.summary.cost_model, self.summary.window),
            "decodeSpeed": self._describe_decode_speed(),
            "progress": self._describe_progress(),
        }

    def _describe_blocks(self) -> dict[str, Any] | None:
        ranked = rank_layers(self.measure, self.colours, self._list_alone())
        return describe_blocks(self.measure, self.similarity, ranked)

    def _list_alone(self) -> list[Score | None]:
        scored = self.leave_one_out.latest or {}
        return [scored.get(mask) for mask in list_single_sites(self.summary.n_layers)]

    def _describe_plan(self) -> dict[str, Any] | None:
        if self.plan.state != "done":
            return None
        plan: Plan = self.plan.result
        scores = {} if self.plan_scores is None else self.plan_scores.latest or {}
        return {
            "id": self.plan.key,
            "changes": list_changes(plan.masks, self.summary.n_layers),
            "scores": [write_score(scores[mask]) if mask in scores else None for mask in plan.masks],
        }

    def _describe_recovery(self, whole: Score | None) -> dict[str, Any]:
        job, mask, n_layers = self.recovered, self.view.mask, self.summary.n_layers
        found = dict(self.recoveries.made)
        if job is not None and job.state == "done":
            found = {**{each: kept for each, kept in found.items() if each != mask}, mask: job.result}
        made = [
            (each, [*write_score(kept.score), *(kept.recovered.interval or (None, None))])
            for each, kept in found.items()
        ]
        if job is None:
            why = self.recoveries.describe_stale(mask) if mask else "nothing is off"
        else:
            why = describe_progress(job) if job.active else "stopped" if job.error is None else str(job.error)
        masks = self.plan.result.masks if self.plan.state == "done" else ()
        steps = self.recoveries.list_steps(masks, whole, None if self.steps is None else self.steps.latest)
        return {
            "by": name_modifiers(self.view),
            "known": {write_cells(each, n_layers): score for each, score in made},
            "steps": [None if score is None else write_score(score) for score in steps],
            "last": {"removed": str(made[-1][0]), "score": made[-1][1]} if made else None,
            "live": write_live(mask, job, n_layers),
            "why": why,
        }

    def _describe_progress(self) -> str:
        jobs = [job for job in self.sweeps if job.active]
        return describe_progress(min(jobs, key=lambda job: job.state == "queued")) if jobs else ""

    def _describe_decode_speed(self) -> dict[str, str] | None:
        if self.decode_speed is None:
            return None
        timed, job = self.decode_speed
        if job.state != "done":
            note = describe_progress(job) if job.active else str(job.error or "")
            return {"before": "–", "after": "–", "note": note}
        whole, pruned = job.result
        note = "" if timed == self.view.mask else f"tokens/s timed without {timed}"
        if whole is None:
            note = "other work came in between: no figure"
        return {"before": describe_speed(whole), "after": describe_speed(pruned), "note": note}
