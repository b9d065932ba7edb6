"""What this session has recovered: for which masks, with which numbers; what of it the instrument shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from explorer.deltas import write_modifiers
from explorer.evaluation import Score
from explorer.execution import Job, Recovery, View
from explorer.masks import NONE, Mask
from explorer.modifiers import MODIFIERS
from explorer.plans import PlanSpec
from ui import session
from ui.live import get_engine, get_owner, rerun_panels, watch

_REMEMBERED = 32  # masks whose recovered numbers are shown at once


@dataclass(frozen=True, kw_only=True)
class Recoveries:
    """What was recovered one way, in one model, by one text.

    Args:
        how: the view without its mask and plan.
        wanted: the masks for which it was asked for.
        made: what was won back, by mask, the last one last.
        steps: recovered scores of a plan's masks.
        asked: whether it was asked for since, for the mask that is set when all callbacks are through.
    """

    how: View | None = None
    wanted: frozenset[Mask] = frozenset()
    made: Mapping[Mask, Recovery] = field(default_factory=dict)
    steps: Mapping[Mask, Score] = field(default_factory=dict)
    asked: bool = False

    def stands_for(self, mask: Mask) -> bool:
        """Tell whether a mask's variant was asked for, or is there because a plan leads over it."""
        return mask in self.wanted or mask in self.steps

    def describe_stale(self, mask: Mask) -> str:
        """Say for which mask there is a number, where there is none for this one."""
        made = list(self.made)
        return f"made for {made[-1]}; now {mask} is off" if made else f"not made for {mask} yet"

    def list_steps(
        self, masks: Sequence[Mask], whole: Score | None, more: Mapping[Mask, Score] | None
    ) -> list[Score | None]:
        """List the recovered scores of masks, as far as they are known; where nothing is off, the model's.

        Args:
            more: those that came since.
        """
        known = {mask: made.score for mask, made in self.made.items()} | dict(self.steps) | dict(more or {})
        return [known.get(mask) if mask else whole for mask in masks]


def get_recoveries(view: View) -> Recoveries:
    """Return what was recovered the view's way; what a link brings is wanted for the link's mask."""
    how, found = replace(view, mask=NONE, plan=PlanSpec()), session.read(Recoveries)
    if found.how == how:
        return found
    return session.change(Recoveries, how=how, wanted=frozenset({view.mask}), made={}, steps={})


def want_recovery() -> None:
    """Have what is removed made up for; for callbacks.

    Of which mask is known when all callbacks are through: the one that moves the mask may come after this one.
    """
    session.change(Recoveries, asked=True)
    rerun_panels("instrument", "recovery", "samples", "pins")


def ask_recovery(view: View) -> Job | None:
    """Ask for what the view recovers if that is wanted for its mask, and have the panel watch it."""
    if session.read(Recoveries).asked:
        session.change(Recoveries, wanted=get_recoveries(view).wanted | {view.mask}, asked=False)
    if not view.recovers or not get_recoveries(view).stands_for(view.mask):
        get_engine().worker.release(get_owner(), ["recover"])  # that of another mask
        return None
    job = watch(get_engine().recover(get_owner(), view))
    if job.state == "done":
        made = {mask: kept for mask, kept in get_recoveries(view).made.items() if mask != view.mask}
        made[view.mask] = job.result
        session.change(Recoveries, made=dict(list(made.items())[-_REMEMBERED:]))
    return job


def find_recovery(view: View) -> Recovery | None:
    """Return what this session knows to be won back at the view's mask."""
    return get_recoveries(view).made.get(view.mask) if view.recovers else None


def name_modifiers(view: View) -> str:
    """Name what makes up for what is off, as on the page."""
    (spec, *more) = view.modify
    return write_modifiers(view.modify) if more or spec.options else MODIFIERS[spec.name].label


def ask_steps(view: View, plan: Job) -> Job | None:
    """Ask for the recovered scores of the plan's masks, and have the panel watch it."""
    trains = any(MODIFIERS[spec.name].trains for spec in view.modify)  # of a plan's masks, that would take hours
    if not view.modify or trains or plan.state != "done":
        get_engine().worker.release(get_owner(), ["recovered-scores"])
        return None
    job = watch(get_engine().recovered_scores(get_owner(), view, plan.result))
    get_recoveries(view)  # whatever was recovered another way is forgotten first
    session.change(Recoveries, steps=job.result or job.partial or {})
    return job
