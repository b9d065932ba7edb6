"""What a server was asked, by programs and on pages, is asked again by the next one: what, how urgently, whether."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.deltas.modifier_spec import read_modifiers
from explorer.errors import TextError
from explorer.execution.engine import Engine
from explorer.execution.healing import ask_healing
from explorer.execution.job import IDLE, SWEEP, Job
from explorer.execution.requests import ask_choices, ask_curve, ask_importance, ask_interactions
from explorer.execution.sparsifying import ask_pruning
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from explorer.plans.plan import PlanSpec
from explorer.verbs.request import Request
from explorer.verbs.served import Requests
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


def test_what_pages_asked_is_the_same_request(tiny: Tiny, tmp_path: Path) -> None:
    view = View(str(tiny.folder("llama")), "python-docs", 4 * WINDOW, WINDOW, "float32", "cpu", "none", NONE)
    spec = PlanSpec.parse("greedy/site;steps=2;seed=3")
    first = Server(tmp_path)
    for _ in range(2):  # a page asks at each of its runs
        ask_interactions(first.engine, "ann", view, "site")
        ask_importance(first.engine, "ann", view, "loss", "slot")
        ask_curve(first.engine, "ann", view, spec)
        ask_choices(first.engine, "ann", view, ("python-docs",), ("perplexity", "kl"), 1)
    first.end()
    second = Server(tmp_path)
    taken = second.take_up()
    assert [second.requests.tell_owner(job) for job in taken] == ["browser"] * 4
    own: list[tuple[str, dict[str, Any]]] = [
        ("interactions", {"unit": "site"}),
        ("measure", {"measures": "loss", "permutations": 4}),
        ("plan", {"method": "greedy", "unit": "site", "steps": 2, "seed": 3}),
        ("choices", {"texts": ["python-docs"], "objectives": "perplexity,kl", "number": 1}),
    ]
    requests = [write_request(tiny, kind, options) for kind, options in own]
    assert {job.key for job in taken} == {request.key for request in requests}
    assert {job.title for job in taken} == {
        "All pairs of sites", "Measuring loss without it", f"Curve of {spec}", "What texts and objectives remove first",
    }  # fmt: skip
    second.end()


def _list_stored(folder: Path) -> set[tuple[Any, ...]]:
    """List what a cache holds of measured values and of what was made."""
    with closing(sqlite3.connect(folder / "scores.sqlite")) as db:
        values = db.execute("SELECT context, window, mask FROM nll").fetchall()
        variants = db.execute("SELECT variant FROM variants").fetchall()
    return {*values, *variants, *((path.name,) for path in (folder / "arrays").iterdir())}


def _ask_plan(engine: Engine, owner: str, view: View) -> Job:
    return engine.plan(owner, replace(view, plan=PlanSpec.parse("greedy/layer;steps=2")))


@pytest.mark.parametrize(
    ("ask", "modify"),
    [
        pytest.param(_ask_plan, "", id="plan"),
        pytest.param(Engine.recover, "refit", id="recovery"),
        pytest.param(ask_healing, "lora;check=2;steps=4", id="training"),
        pytest.param(ask_pruning, "wanda", id="sparsity"),
    ],
)
def test_what_was_taken_up_is_there_when_its_page_asks_again(
    tiny: Tiny, tmp_path: Path, ask: Callable[..., Job], modify: str
) -> None:
    mask, modifiers = Mask.parse("2"), read_modifiers(modify)
    folder, size = str(tiny.folder("llama")), 4 * WINDOW
    view = View(folder, "python-docs", size, WINDOW, "float32", "cpu", "none", mask, modify=modifiers)
    options = {"slot": "slot"} if ask is ask_healing else {}
    first = Server(tmp_path)
    asked = ask(first.engine, "ann", view, **options)
    first.end()
    second = Server(tmp_path)
    (job,) = second.take_up()
    assert (job.title, second.requests.tell_owner(job)) == (asked.title, "browser")
    second.gate.open.set()
    assert wait(job).state == "done", job.error
    stored = _list_stored(tmp_path)
    assert wait(ask(second.engine, "bob", view, **options)).state == "done"
    assert _list_stored(tmp_path) == stored
    second.end()
