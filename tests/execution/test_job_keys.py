"""Job keys: one for equal work, whatever order sets are in; another for other work; nothing to be read from them."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.deltas.modifier_spec import read_modifiers
from explorer.execution.engine import LASTING, Engine, request_recovery
from explorer.execution.job import SAMPLE, SWEEP
from explorer.execution.job_keys import make_job_key
from explorer.execution.measuring import ask_curve, ask_importance, ask_interactions, ask_passage
from explorer.execution.request import Request
from explorer.execution.view import View
from explorer.masks.mask import NONE, PARTS, Mask, Site
from explorer.measures.catalogue import MEASURES
from explorer.plans.plan import PlanSpec
from tests.support.gates import wait
from tests.support.tiny_models import REPOSITORY

VIEW = View("./no/model", "python-docs", 64, 8, "float32", "cpu", "none", NONE)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path, lambda owner: True)
    yield made
    made.worker.close()


def draw_sites(draw: random.Random) -> list[Site]:
    sites = [Site(layer, part) for layer in range(40) for part in PARTS]
    return draw.sample(sites, draw.randrange(1, 60))


def test_equal_masks_share_one_job_however_they_were_made(engine: Engine) -> None:
    draw, shared = random.Random(7), 0
    for _ in range(200):
        sites = draw_sites(draw)
        one = Mask(frozenset(sites))
        other = NONE
        for site in draw.sample(sites, len(sites)):  # as clicks make them: sets that have grown another way
            other = Mask(other.sites | {site})
        for site in draw_sites(draw):
            other = Mask((other.sites ^ {site}) ^ {site})
        assert one == other
        shared += engine.score("ann", replace(VIEW, mask=one)) is engine.score("bob", replace(VIEW, mask=other))
    assert shared == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "./another"}, {"text": "c4"}, {"tokens": 128}, {"window": 16}, {"dtype": "bfloat16"},
        {"device": "auto"}, {"quantize": "nf4"}, {"mask": Mask.parse("a0")},
    ],
)  # fmt: skip
def test_other_work_has_another_key(engine: Engine, changes: dict[str, Any]) -> None:
    assert engine.score("ann", VIEW).key != engine.score("bob", replace(VIEW, **changes)).key
    assert engine.score("ann", VIEW).key == engine.score("bob", replace(VIEW, plan=PlanSpec("magnitude"))).key


@pytest.mark.parametrize(
    "changes",
    [{"modify": read_modifiers("mean")}, {"modify": ()}, {"calibration": "c4"}, {"calibration_tokens": 128}],
)
def test_recovered_work_has_the_key_of_how_it_is_made(engine: Engine, changes: dict[str, Any], tmp_path: Path) -> None:
    view = replace(VIEW, mask=Mask.parse("a0"), modify=read_modifiers("refit"))
    other = replace(view, **changes)
    assert engine.recover("ann", view).key != engine.recover("bob", other).key
    for kind in ("one", "other"):
        asked = [engine.sample("ann", kind, each, "x", 1, False).key for each in (view, other)]
        assert asked[0] != asked[1]
    assert engine.export("ann", view, "deci", tmp_path, False) is not engine.find_export("ann", other)
    assert engine.score("ann", view).key == engine.score("bob", other).key, "the mask alone is scored as ever"


def test_kinds_and_what_more_they_name_are_told_apart(engine: Engine) -> None:
    specs = [PlanSpec("magnitude"), PlanSpec("magnitude", "site"), PlanSpec("random", seed=1)]
    jobs = [ask_curve(engine, "ann", VIEW, spec) for spec in specs]
    jobs += [engine.plan("ann", replace(VIEW, plan=spec)) for spec in specs]
    jobs += [ask_importance(engine, "ann", VIEW, name, name) for name in ("loss", "kl")]
    jobs += [ask_interactions(engine, "ann", VIEW, unit) for unit in ("layer", "site")]
    jobs += [ask_passage(engine, "ann", VIEW, window) for window in (0, 1)]
    jobs += [engine.sample("ann", f"{n}", VIEW, prompt, n, chat) for prompt, n, chat in
             [("a", 1, False), ("a", 1, True), ("a", 2, False), ("b", 1, False)]]  # fmt: skip
    jobs += [engine.export("ann", VIEW, kind, Path(out), over) for kind, out, over in
             [("deci", "x", False), ("deci", "x", True), ("deci", "y", False), ("gguf", "x", False)]]  # fmt: skip
    assert len({job.key for job in jobs}) == len(jobs)


@pytest.mark.parametrize("name", list(MEASURES))
def test_what_one_pass_gives_does_not_wait_for_sweeps(engine: Engine, name: str) -> None:
    job = ask_importance(engine, "ann", VIEW, name, name)
    long = {"loss", "kl", "logit-l2", "disagreement", "taylor", "coalition", "shapley"}
    assert job.priority == (SWEEP if name in long else SAMPLE)
    assert job.patience == LASTING


def test_a_file_that_changed_is_other_work(engine: Engine, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("once")
    view = replace(VIEW, text=str(text))
    before = engine.score("ann", view).key
    assert engine.score("ann", view).key == before
    text.write_text("twice")
    assert engine.score("ann", view).key != before


def test_whatever_names_hold_is_asked_for_and_read_again(engine: Engine) -> None:
    view = replace(VIEW, model="./m\udcff", text="te\udcffxt", calibration="notes@0", mask=Mask.parse("1"))
    view = replace(view, modify=read_modifiers("refit"))
    job = engine.recover("ann", view)
    request = request_recovery(view)
    assert request.texts == ["te\udcffxt", "notes@0"]
    assert Request.read(request.write(), of_programs=False) == request
    assert wait(job).state == "failed"
    assert "No such text" in str(job.error)


def test_a_key_tells_nothing(engine: Engine, tmp_path: Path) -> None:
    secret = tmp_path / "secret-name.txt"
    secret.write_text("x" * 4321)
    key = engine.score("ann", replace(VIEW, text=str(secret))).key
    assert re.fullmatch("[0-9a-f]{32}", key)


def test_a_key_cannot_be_guessed_by_who_knows_what_it_is_made_of() -> None:
    made = "make_job_key('score', text='/etc/passwd', files=[])"
    script = f"from explorer.execution.job_keys import make_job_key; print({made})"
    command = [sys.executable, "-c", script]
    other = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    assert re.fullmatch("[0-9a-f]{32}", other)
    assert make_job_key("score", text="/etc/passwd", files=[]) != other


@pytest.mark.parametrize("part", [frozenset({1}), Mask.parse("1"), VIEW, Path("x"), object()])
def test_what_has_no_text_of_its_own_is_no_part_of_a_key(part: Any) -> None:
    with pytest.raises(TypeError):
        make_job_key("score", part=part)
