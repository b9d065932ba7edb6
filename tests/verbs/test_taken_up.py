"""What a server was asked, by programs and on pages, is asked again by the next one: what, how urgently, whether."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from explorer.deltas.modifier_spec import read_modifiers
from explorer.errors import TextError
from explorer.execution.engine import Engine
from explorer.execution.healing import Watched, ask_healing, list_healings
from explorer.execution.job import IDLE, SWEEP, Job
from explorer.execution.measuring import (
    ask_abilities,
    ask_attention,
    ask_choices,
    ask_curve,
    ask_importance,
    ask_interactions,
)
from explorer.execution.page_kinds import PAGE_KINDS
from explorer.execution.sparsifying import ask_pruning
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from explorer.plans.plan import Plan, PlanSpec
from explorer.verbs.request import Request
from explorer.verbs.requests import Requests
from tests.support.gates import WAIT, Gate, wait
from tests.support.requests import write_request
from tests.support.tiny_models import WINDOW, Tiny


class Server:
    """A server that is busy, until its gate is opened."""

    def __init__(self, folder: Path) -> None:
        self.engine = Engine(folder, lambda owner: True)
        self.requests, self.gate = Requests(self.engine), Gate()
        self.engine.worker.ask("somebody", "slot", "gate", "in between", self.gate)
        assert self.gate.started.wait(WAIT)

    def take_up(self, check: Callable[[Request], None] = lambda request: None) -> list[Job]:
        self.requests.take_up(check)
        return [job for job in self.requests.list() if job.key != "gate"]

    def end(self) -> None:
        """End as after SIGTERM: all jobs are stopped."""
        self.engine.worker.close()
        self.engine.unfinished.leave()


def test_what_waits_and_runs_is_taken_up_with_low_priority(tiny: Tiny, tmp_path: Path) -> None:
    asked, brief = write_request(tiny, "score", {"mask": ["1"]}), write_request(tiny, "info", {})
    first = Server(tmp_path)
    first.requests.ask(asked)
    first.requests.ask(brief)
    first.end()
    second = Server(tmp_path)
    (job,) = second.take_up()
    assert (job.key, job.title, job.priority, job.state) == (asked.key, "score --mask 1", IDLE, "queued")
    assert second.requests.ask(asked) is job
    assert job.priority == SWEEP, "somebody waits for it now"
    second.gate.open.set()
    wait(job)
    second.end()
    third = Server(tmp_path)
    assert third.take_up() == []
    third.end()


@pytest.mark.parametrize("end", ["stopped", "failed"])
def test_what_was_stopped_or_failed_is_not(tiny: Tiny, tmp_path: Path, end: str) -> None:
    first = Server(tmp_path)
    job = first.requests.ask(write_request(tiny, "score", {"mask": ["1" if end == "stopped" else "9"]}))
    if end == "stopped":
        first.engine.worker.dismiss(job)
    first.gate.open.set()
    wait(job)
    first.end()
    second = Server(tmp_path)
    assert second.take_up() == []
    second.end()


def test_what_may_not_be_asked_any_more_is_let_go(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Server(tmp_path)
    first.requests.ask(write_request(tiny, "score", {}))
    first.end()

    def refuse(request: Request) -> None:
        raise TextError("No", "not here", "Ask elsewhere")

    second = Server(tmp_path)
    assert second.take_up(refuse) == []
    second.end()
    assert capsys.readouterr().err == "Not taken up: score: No: not here. Ask elsewhere.\n"
    third = Server(tmp_path)
    assert third.take_up() == []
    third.end()


Ask = Callable[[Engine, str, View], Job]
SPEC = PlanSpec.parse("greedy/site;steps=2;seed=3")


def _ask_along(ask: Callable[..., Job]) -> Ask:
    """Return what asks for something along a plan."""
    return lambda engine, owner, view: ask(
        engine, owner, view, Plan(SPEC, (NONE, Mask.parse("a1"), Mask.parse("1")), 4)
    )


#: What a training is watched by.
WATCHED = Watched("python-docs", ("The quick",), 4)

#: What pages ask for that another server takes up, and how a view is modified for it.
ASKED: dict[str, tuple[Ask, str]] = {
    "removals": (lambda engine, owner, view: engine.plan(owner, replace(view, plan=SPEC)), ""),
    "scores": (_ask_along(Engine.plan_scores), ""),
    "recovered-scores": (_ask_along(Engine.recovered_scores), "mean"),
    "recovery": (Engine.recover, "refit"),
    "healing": (lambda engine, owner, view: ask_healing(engine, owner, view, "slot", WATCHED), "lora;check=2;steps=4"),
    "pruning": (ask_pruning, "wanda"),
    "importance": (lambda engine, owner, view: ask_importance(engine, owner, view, "loss", "slot"), ""),
    "attention": (ask_attention, ""),
    "pairs": (lambda engine, owner, view: ask_interactions(engine, owner, view, "layer"), ""),
    "curve": (lambda engine, owner, view: ask_curve(engine, owner, view, SPEC), ""),
    "curve of a file's plan": (_ask_along(ask_curve), ""),
    "abilities": (lambda engine, owner, view: ask_abilities(engine, owner, view, SPEC, ("probe:copying",), 4), ""),
    "first-choices": (
        lambda engine, owner, view: ask_choices(engine, owner, view, ("python-docs",), ("perplexity", "kl"), 1), ""
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ASKED)
def test_what_a_page_asked_is_there_when_it_asks_another_server(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    ask, modify = ASKED[kind]
    folder, size = str(tiny.folder("llama")), 4 * WINDOW
    mask = Mask.parse("2") if modify else NONE
    view = View(folder, "python-docs", size, WINDOW, "float32", "cpu", "none", mask, modify=read_modifiers(modify))
    first = Server(tmp_path)
    for _ in range(2):  # a page asks at each of its runs
        asked = ask(first.engine, "ann", view)
    first.end()
    second = Server(tmp_path)
    (job,) = second.take_up()
    assert (job.title, second.requests.tell_owner(job), job.priority) == (asked.title, "browser", IDLE)
    assert ask(second.engine, "bob", view) is job
    assert job.priority == asked.priority, "somebody waits for it now"
    second.gate.open.set()
    assert wait(job).state == "done", job.error
    assert ask(second.engine, "bob", view).result is job.result
    second.end()
    third = Server(tmp_path)
    assert third.take_up() == []
    third.end()


def test_a_training_that_was_taken_up_is_seen_on_its_page(tiny: Tiny, tmp_path: Path) -> None:
    view = View(str(tiny.folder("llama")), "python-docs", 96, WINDOW, "float32", "cpu", "none", Mask.parse("2"))
    asked = replace(view, modify=read_modifiers("lora;check=2;steps=4"))
    first = Server(tmp_path)
    ask_healing(first.engine, "ann", asked, "slot", WATCHED)
    first.end()
    second = Server(tmp_path)
    assert list_healings(second.engine, view) == []
    second.take_up()
    assert list_healings(second.engine, view) == [(asked, WATCHED)]
    second.end()


def test_everything_that_pages_ask_for_is_taken_up_but_for_what_is_brief_or_writes() -> None:
    brief = {"summary", "readout", "similarity", "sample", "passage", "pace", "single-sites", "decode-speed"}
    brief |= {"decode-speeds", "export-preview", "pruned-so-far", "zeros-picture", "zeros-scores", "points", "memory"}
    assert brief | {"export"} | {kind for kind in ASKED if kind in PAGE_KINDS} == PAGE_KINDS
