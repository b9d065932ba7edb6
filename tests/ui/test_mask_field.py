"""What the field on Explore reads beside masks and amounts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from explorer.errors import PlanError
from explorer.execution import ModelSummary
from ui.explore.mask_field import find_mask
from ui.view.session import DEFAULT_VIEW

TRIANGLE = {"values": [[0.3, None, 0.1, 0.2], [0.5, 0.4, 0.4], [None, None], [0.9]]}
SUMMARY = cast(ModelSummary, SimpleNamespace(n_layers=4))


@pytest.mark.parametrize(
    ("text", "mask"),
    [("best block of 1", "2"), ("Best block of 2 layers", "1-2"), (" the best block of 4 ", "0-3")],
)
def test_the_best_block_of_a_size_is_the_one_that_the_triangle_outlines(text: str, mask: str) -> None:
    assert str(find_mask(text, DEFAULT_VIEW, SUMMARY, TRIANGLE)) == mask


@pytest.mark.parametrize(
    ("size", "triangle", "words"),
    [
        (3, TRIANGLE, "no such block"),
        (5, TRIANGLE, "Use 1 to 4"),
        (0, TRIANGLE, "no such block"),
        (2, None, "not measured"),
    ],
)
def test_a_block_that_is_not_there_is_refused(size: int, triangle: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        find_mask(f"best block of {size}", DEFAULT_VIEW, SUMMARY, triangle)
