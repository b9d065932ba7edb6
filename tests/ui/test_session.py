"""A view and its link: what is written is read again, what is not valid is reported and skipped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from explorer.deltas.modifier_spec import read_modifiers
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from ui.explore.strip import read_cells, write_cells
from ui.view.session import DEFAULT_VIEW, describe_view, read_view

VIEWS = [
    DEFAULT_VIEW,
    replace(DEFAULT_VIEW, mask=Mask.parse("2-4,a7,m9")),
    replace(DEFAULT_VIEW, mask=Mask.parse("1"), modify=read_modifiers("linear;rank=8,refit")),
    replace(DEFAULT_VIEW, calibration="hf:a:b:c:d", calibration_tokens=16384),
    View("org/model", "hf:a:b:c:d", 4096, 512, "float32", "map:0=2GiB", "nf4", Mask.parse("a0")),
]


@pytest.mark.parametrize("view", VIEWS)
def test_a_link_restores_the_view(view: View) -> None:
    assert read_view(describe_view(view)) == (view, [])


def test_a_short_link_has_model_text_and_mask() -> None:
    assert describe_view(DEFAULT_VIEW) == {"model": DEFAULT_VIEW.model, "text": "python-docs", "mask": "none"}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"mask": "5-3"}, "mask was skipped"),
        ({"tokens": "many"}, "'many' is not a whole number"),
        ({"window": "1"}, "'1' is not"),
        ({"tokens": "9" * 20}, "from 2 to"),
        ({"modify": "nonsense"}, "modify was skipped. Unknown modifier"),
        ({"modify": "refit,"}, "modify was skipped. Malformed modifier"),
        ({"modify": "refit;where=nowhere"}, "modify was skipped. where has no such value"),
        ({"calibration_tokens": "-1"}, "'-1' is not a whole number"),
    ],
)
def test_what_is_not_valid_is_skipped_and_said(parameters: dict[str, str], said: str) -> None:
    view, notices = read_view({"model": "other", **parameters})
    assert view == replace(DEFAULT_VIEW, model="other")
    assert len(notices) == 1
    assert said in notices[0]


def test_a_link_says_what_is_recovered_and_how() -> None:
    view = replace(DEFAULT_VIEW, modify=read_modifiers("refit"), calibration="c4", calibration_tokens=8192)
    more = {"modify": "refit", "calibration": "c4", "calibration_tokens": "8192"}
    assert describe_view(view) == describe_view(DEFAULT_VIEW) | more


def test_a_link_never_lets_a_model_run_its_own_code() -> None:
    view, _ = read_view({"model": "x", "trust_remote_code": "true"})
    assert view.spec.trust_remote_code is False


@pytest.mark.parametrize("text", ["none", "0", "a0,m3", "0-3", "1,a2-3,m0"])
def test_cells_and_masks_are_the_same(text: str) -> None:
    mask = Mask.parse(text)
    cells = write_cells(mask, 4)
    assert len(cells) == 8
    assert cells.count("1") == len(mask.sites)
    assert read_cells(cells, 4) == mask
    assert read_cells("", 4) == NONE
