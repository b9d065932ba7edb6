"""The methods: each is found by its name, has the options that it says, and is in the documentation."""

from __future__ import annotations

from dataclasses import fields

import pytest

from explorer.plans.catalogue import METHODS
from explorer.plans.method import UNITS, Method
from explorer.plans.plan import PlanSpec
from tests.support.tables import table
from tests.support.tiny_models import REPOSITORY


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_method_says_what_it_is(method: Method) -> None:
    assert METHODS[method.name] is method
    assert method.label
    assert method.source
    assert method.cost
    assert method.units
    assert set(method.units) <= set(UNITS)
    names = [option.name for option in method.options]
    assert len(set(names)) == len(names)
    assert set(names) <= {field.name for field in fields(PlanSpec)}
    assert all(option.label for option in method.options)


def test_what_width_means_is_said_by_the_method() -> None:
    labels = {
        name: option.label for name, method in METHODS.items() for option in method.options if option.name == "width"
    }
    assert list(labels) == ["shapley", "beam", "evolve"]
    assert len(set(labels.values())) == 3


def test_the_documentation_lists_the_methods() -> None:
    rows = [
        f"| `{name}` | {', '.join(each.units)} | {each.needs or 'nothing'} | {each.cost} | "
        + ", ".join(f"`{option.name}`" for option in each.options)
        + " |"
        for name, each in METHODS.items()
    ]
    assert table("| method | units | needs | cost | options |") == rows
    told = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
    assert not [name for name in METHODS if f"`{name}`" not in told]
