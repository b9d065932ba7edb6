"""The modifiers: named without torch, told in the documentation as they are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import ModifyError
from explorer.modifiers.catalogue import MODIFIERS, find_modifier
from tests.support.tables import table
from tests.support.tiny_models import REPOSITORY


def test_the_documentation_lists_them_as_they_are() -> None:
    expected = []
    for name, modifier in MODIFIERS.items():
        options = ", ".join(f"`{option.name}` ({option.label}; {option.default})" for option in modifier.options)
        expected.append(f"| `{name}` | {modifier.label} | {modifier.makes} | {modifier.cost} | {options} |")
    assert table("| modifier | what | makes | cost | options, each with what it is if not given |") == expected


def test_each_has_its_own_name() -> None:
    assert [modifier.name for modifier in MODIFIERS.values()] == list(MODIFIERS)


def test_names_are_known_without_torch() -> None:
    script = (
        "import sys; from explorer.modifiers import MODIFIERS; 'refit' in MODIFIERS; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_options_that_are_not_given_have_their_default() -> None:
    spec = ModifierSpec.parse("refit;where=all")
    assert find_modifier(spec).read(spec) == {"where": "all", "penalty": "auto"}


@pytest.mark.parametrize("text", ["refit;penalty=-1", "refit;penalty=x", "linear;rank=nan", "mean;x=1", "none"])
def test_what_an_option_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ModifyError):
        find_modifier(ModifierSpec.parse(text))
