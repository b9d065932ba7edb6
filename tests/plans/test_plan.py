"""Plans: their text form and file are inverse; what is malformed is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from explorer.errors import ExplorerError, PlanError
from explorer.masks.mask import NONE, Mask
from explorer.measures.catalogue import CRITERIA
from explorer.plans.catalogue import METHODS
from explorer.plans.plan import Effort, Plan, PlanSpec


@st.composite
def specs(draw: st.DrawFn) -> PlanSpec:
    name = draw(st.sampled_from(list(METHODS)))
    return PlanSpec(
        name,
        draw(st.sampled_from(METHODS[name].units)),
        METHODS[name].iterative and draw(st.booleans()),
        draw(st.sampled_from(["none", "0-3,28", "1"])),
        draw(st.sampled_from(list(CRITERIA))),
        draw(st.integers(0, 99)),
        draw(st.integers(1, 9)),
        draw(st.floats(0.01, 1)),
        draw(st.integers(0, 99)),
    )


@given(specs())
def test_parse_and_print_are_inverse(spec: PlanSpec) -> None:
    assert PlanSpec.parse(str(spec)) == spec


def test_only_what_is_not_the_default_is_written() -> None:
    assert str(PlanSpec()) == "block-influence/layer"
    assert str(PlanSpec("greedy", "site", criterion="kl")) == "greedy/site;criterion=kl"
    assert PlanSpec.parse("greedy") == PlanSpec("greedy", "site")


@pytest.mark.parametrize(
    "text",
    ["", "nosuch/layer", "deepest/site", "deepest/layer;iterative=yes", "block-influence;iterative=true",
     "greedy/site;criterion=bleu", "greedy;seed",
     "greedy;seed=x", "greedy;confidence=0", "greedy;width=0", "greedy;nosuch=1", "greedy;protect=x",
     "greedy;modify=nosuch", "greedy;modify=refit,mean", "deepest;modify=refit"],
)  # fmt: skip
def test_malformed_specs_are_one_line(text: str) -> None:
    with pytest.raises(ExplorerError) as error:
        PlanSpec.parse(text)
    assert "\n" not in str(error.value)


def plan_of(*masks: str) -> Plan:
    return Plan(PlanSpec("greedy", "site"), tuple(map(Mask.parse, masks)), 6, "m", "t", Effort(12, 1.5))


def test_order_is_what_each_step_removes() -> None:
    assert plan_of("none", "a2", "a2,3", "2,3").order == ("a2", "3", "m2")
    assert plan_of("none", "a2", "3").order is None


def test_a_file_holds_the_plan(tmp_path: Path) -> None:
    plan, path = plan_of("none", "a2", "a2,m3"), tmp_path / "plan.json"
    path.write_text(json.dumps(plan.describe()))
    found = Plan.load(path)
    assert found == plan
    assert found.effort == plan.effort
    assert found.at(2) == Mask.parse("a2,m3")
    assert found.at(0) == NONE
    for step in (-1, 3):
        with pytest.raises(ExplorerError, match=f"step {step} of 2"):
            found.at(step)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"steps": 3}', '{"steps": [{"mask": "x"}], "plan": "greedy", "layers": 4}',
     '{"steps": [{"mask": "none"}], "plan": "greedy;protect=x-", "layers": 4}',
     '{"steps": [{"mask": "a1"}], "plan": "greedy", "layers": 4}',
     '{"steps": [{"mask": "none"}, {"mask": "a9"}], "plan": "greedy", "layers": 4}', "[" * 9999,
     '{"steps": [{"mask": "none"}], "plan": "greedy", "layers": Infinity}'],
)  # fmt: skip
def test_what_is_no_plan_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(PlanError) as error:
        Plan.load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ExplorerError, match="Cannot read the plan"):
        Plan.load(tmp_path / "nosuch.json")


def test_a_file_says_its_format_and_those_before_had_none(tmp_path: Path) -> None:
    plan = plan_of("none", "a2")
    written = plan.describe()
    assert written.pop("format") == 1
    assert Plan.read(written) == plan
    assert Plan.read(written | {"cost": {}, "more": 1}).effort == Effort()
    with pytest.raises(PlanError, match=r"Not a plan: it is of format 2, and this version reads up to 1\. "):
        Plan.read(written | {"format": 2, "steps": "of another kind"})
    for number in ("1", None, 0, True):
        with pytest.raises(PlanError, match="format is "):
            Plan.read(written | {"format": number})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"layers": "many"}, "layers is 'many'"),
        ({"layers": 0}, "layers is 0"),
        ({"plan": None}, "plan is None"),
        ({"steps": [{"mask": "none"}, {"mask": 3}]}, r"steps\.1\.mask is 3"),
        ({"steps": [{"mask": "none"}] * 20_002}, "20002 steps"),
        ({"steps": [{"mask": "none"}] + [{"mask": "0-5"}] * 20_000, "layers": 6}, None),
        ({"steps": [{"mask": "none"}] + [{"mask": "0-999"}] * 20_000, "layers": 1000}, "more than 1000000 sites"),
        ({"cost": {"seconds": []}}, r"cost\.seconds is \[\]"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(change: dict[str, Any], found: str | None) -> None:
    document = plan_of("none", "a2").describe() | change
    if found is None:
        assert len(Plan.read(document).masks) == 20_001
        return
    with pytest.raises(PlanError, match=f"Not a plan: .*{found}") as error:
        Plan.read(document)
    assert len(str(error.value)) < 500
