"""Every kind of job inside every kind of lower priority: the numbers are those of the job alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.execution.engine import Engine
from explorer.execution.job import Job
from explorer.execution.measuring import (
    ask_attention,
    ask_curve,
    ask_decode_speeds,
    ask_importance,
    ask_interactions,
    ask_passage,
)
from explorer.execution.readouts import list_single_sites
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from explorer.plans.plan import Plan, PlanSpec
from tests.support.gates import WAIT
from tests.support.tiny_models import WINDOW, Tiny

MASK, OTHER = Mask.parse("a1,3"), Mask.parse("m0,a2")
PROMPT = "The quick brown fox"
TIMES = ("decode_speed", "decode_speeds")  # what is timed is another number every time

Ask = Callable[[Engine, str, View, Path], Job]


def importance(name: str) -> Ask:
    return lambda engine, owner, view, out: ask_importance(engine, owner, view, name, "importance")


def plan(text: str) -> Ask:
    return lambda engine, owner, view, out: engine.plan(owner, replace(view, plan=PlanSpec.parse(text)))


def plan_scores(engine: Engine, owner: str, view: View, out: Path) -> Job:
    return engine.plan_scores(owner, view, Plan(PlanSpec(), (NONE, *list_single_sites(4)[:4], MASK), 4))


KINDS: dict[str, Ask] = {
    "summary": lambda engine, owner, view, out: engine.summary(owner, view),
    "score": lambda engine, owner, view, out: engine.score(owner, view),
    "passage": lambda engine, owner, view, out: ask_passage(engine, owner, view, 1),
    "decode_speed": lambda engine, owner, view, out: engine.decode_speed(owner, view, 1),
    "preview": lambda engine, owner, view, out: engine.preview(owner, view, ("transformers", "transformers-zeroed")),
    "sample": lambda engine, owner, view, out: engine.sample(owner, "sample", view, PROMPT, 8, False),
    "redundancy": lambda engine, owner, view, out: engine.redundancy(owner, view),
    "block-influence": importance("block-influence"),
    "taylor": importance("taylor"),
    "magnitude": importance("magnitude"),
    "linear": importance("replaceability"),
    "entropy": importance("entropy"),
    "loss": importance("loss"),
    "kl": importance("kl"),
    "coalition": importance("coalition"),
    "heads": lambda engine, owner, view, out: ask_attention(engine, owner, view),
    "greedy": plan("greedy/site"),
    "by taylor": plan("taylor/layer"),
    "plan_scores": plan_scores,
    "curve": lambda engine, owner, view, out: ask_curve(engine, owner, view, PlanSpec.parse("block-influence/layer")),
    "decode_speeds": lambda engine, owner, view, out: ask_decode_speeds(engine, owner, view, [NONE, MASK]),
    "export": lambda engine, owner, view, out: engine.export(owner, view, "transformers-zeroed", out, False),
    "leave_one_out": lambda engine, owner, view, out: engine.leave_one_out(owner, view, 4),
    "pairs": lambda engine, owner, view, out: ask_interactions(engine, owner, view, "layer"),
}
#: Those that run the model's layers, so that they can be held up in the midst of one.
HOSTS = [kind for kind in KINDS if kind not in ("summary", "score", "passage", "decode_speed", "preview", "magnitude")]


@pytest.fixture(scope="module")
def view(tiny: Tiny) -> View:
    return View(str(tiny.folder("llama")), "python-docs", 5 * WINDOW, WINDOW, "float32", "cpu", "none", MASK)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "cache", lambda owner: True)
    yield made
    made.worker.close()


def end(job: Job) -> Any:
    for _ in range(WAIT * 1000):
        if not job.active:
            break
        threading.Event().wait(0.005)
    assert job.state == "done", f"{job.title}: {job.state}, {job.error}"
    return job.result


@pytest.fixture(scope="module")
def alone(view: View, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of every kind, one after the other, with nothing stored between them."""
    found = {}
    for kind, ask in KINDS.items():
        folder = tmp_path_factory.mktemp("alone")
        engine = Engine(folder / "cache", lambda owner: True)
        found[kind] = end(ask(engine, "ann", view, folder / "out"))
        engine.worker.close()
    return found


def numbers(found: Any) -> Iterator[Any]:
    """All numbers and texts of a result, but for times and places."""
    if is_dataclass(found) and not isinstance(found, Mask):
        for field in fields(found):
            if field.name not in ("seconds", "effort", "speed_before", "speed_after", "out", "command"):
                yield from numbers(getattr(found, field.name))
    elif isinstance(found, dict):
        for key in sorted(found, key=str):
            yield str(key)
            yield from numbers(found[key])
    elif isinstance(found, (list, tuple)):
        for each in found:
            yield from numbers(each)
    else:
        yield found if isinstance(found, (np.ndarray, float, int)) else str(found)


def same(found: Any, expected: Any, what: str) -> None:
    one, other = list(numbers(found)), list(numbers(expected))
    assert len(one) == len(other) > 0, what
    for a, b in zip(one, other, strict=True):
        if isinstance(b, str):
            assert a == b or " object at 0x" in b, what
        else:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=what)


@pytest.mark.parametrize("host", HOSTS)
def test_what_runs_inside_finds_the_same_as_alone_and_so_does_its_host(
    host: str, engine: Engine, view: View, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(engine.summary("ann", replace(view, mask=OTHER)))
    assert engine.resident.loaded is not None
    reached, go_on = threading.Event(), threading.Event()
    act = engine.resident.loaded.wrappers.layers[1].mlp.act_fn
    inner = act.forward

    def hold_up(*args: Any) -> Any:
        if not reached.is_set():
            reached.set()
            assert go_on.wait(WAIT)
        return inner(*args)

    monkeypatch.setattr(act, "forward", hold_up)
    outer = KINDS[host](engine, "host", view, tmp_path / "host")
    assert reached.wait(WAIT)
    guests: dict[str, Job] = {}
    for kind, ask in KINDS.items():
        guest = ask(engine, f"guest {kind}", view, tmp_path / "guest")
        if guest is not outer and guest.priority < outer.priority:
            guests[kind] = guest
        elif guest is not outer:
            engine.worker.cancel_for(f"guest {kind}", guest)
    go_on.set()
    end(outer)
    for kind, guest in guests.items():
        if kind not in TIMES:
            same(end(guest), alone[kind], f"{kind} inside {host}")
        assert guest.ended < outer.ended, f"{kind} did not run inside {host}"
    assert guests
    if host not in TIMES:
        same(outer.result, alone[host], f"{host} around others")
