"""The catalogues: every name leads to its object, the names cost no torch, and the documentation lists them all."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import get_args

import pytest

from explorer.measures.catalogue import CRITERIA, MEASURES
from explorer.measures.measure_type import UNITS, Cost, MeasureSetting, Need
from tests.support.tables import table
from tests.support.tiny_models import REPOSITORY
from ui.parts.measure_help import explain_measure


@pytest.mark.parametrize("name", list(MEASURES))
def test_a_measure_is_found_by_its_name(name: str) -> None:
    found = MEASURES[name]
    assert found.name == name
    assert found.needs in get_args(Need)
    assert found.cost in get_args(Cost)
    assert set(found.units) <= set(UNITS)
    assert set(found.options) <= set(MeasureSetting.__dataclass_fields__)
    assert found.label
    assert found.source


@pytest.mark.parametrize("name", list(MEASURES))
def test_a_measure_has_a_formula_a_source_and_a_direction(name: str) -> None:
    found = MEASURES[name]
    assert re.match(r"\$[^$]+\$", found.formula)
    assert found.formula.count("$") % 2 == 0
    assert re.search(r"arXiv:\d{4}\.\d{5}|\d{4}$|^no paper", found.source)
    assert found.redundant in ("low", "high", None)
    assert (found.redundant is None) == (found.kind == "attention")
    method = " ".join((REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8").split())
    for cited in re.findall(r"arXiv:\d{4}\.\d{5}|\w+ \d+, \d{4}$", found.source):
        assert cited in method


@pytest.mark.parametrize("name", list(MEASURES))
def test_a_measure_is_explained_with_all_of_these(name: str) -> None:
    found, said = MEASURES[name], explain_measure(name)
    assert found.label in said
    assert found.formula in said
    assert {"low": "Low is redundant", "high": "High is redundant", None: "ranks nothing"}[found.redundant] in said
    for number in re.findall(r"arXiv:(\S{10})", found.source):
        assert f"(https://arxiv.org/abs/{number})" in said


@pytest.mark.parametrize("name", list(CRITERIA))
def test_a_criterion_is_found_by_its_name(name: str) -> None:
    found = CRITERIA[name]
    assert found.name == name
    assert found.label
    assert found.unit_of
    assert found.source


def test_a_name_that_is_not_there_is_a_key_error() -> None:
    assert "nosuch" not in MEASURES
    with pytest.raises(KeyError):
        MEASURES["nosuch"]
    assert len(MEASURES) == len(list(MEASURES))


def test_measures_of_one_kind_share_a_function() -> None:
    for kind in ("similarity", "divergence", "attention"):
        assert len({each.function for each in MEASURES.values() if each.kind == kind}) == 1


def test_names_cost_no_torch() -> None:
    code = (
        "import sys; from explorer.measures.catalogue import CRITERIA, MEASURES\n"
        "from explorer.plans.plan import PlanSpec\n"
        "print(len(MEASURES), 'kl' in CRITERIA, PlanSpec.parse('greedy;criterion=last-token-cosine'))\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[1:] == ["[]"], done.stderr


def test_the_documentation_lists_the_measures() -> None:
    rows = [
        f"| `{name}` | {each.label} | {', '.join(each.units)} | {each.needs} | {each.cost} | {each.unit_of} |"
        for name, each in MEASURES.items()
    ]
    assert table("| measure | what | of | needs | cost | in |") == rows


def test_the_documentation_lists_the_criteria() -> None:
    rows = [f"| `{name}` | {each.label} | {each.unit_of} |" for name, each in CRITERIA.items()]
    assert table("| criterion | what | of a window, in |") == rows
