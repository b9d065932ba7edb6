"""The figure of trainings: losses over perplexities, a row a text, and lines of what they are held against."""

from __future__ import annotations

import pytest

from explorer.charts.training import TextCurves, draw_training

LOSSES = {"lora": [(1, 3.0), (2, 2.5)], "train": [(1, 3.1)]}
FIRST = TextCurves(
    "docs", {"lora": [(2, 40.0)], "train": []}, {"whole": 20.0, "pruned": 90.0, "recovered by mean": 60.0}
)
SECOND = TextCurves("folder/c4", {"train": [(1, 70.0)]}, {"whole": 30.0, "pruned": 95.0})


def test_every_text_has_a_row_with_its_curves_and_lines() -> None:
    figure = draw_training(LOSSES, [FIRST, SECOND])
    drawn = {(each.name, each.yaxis): list(zip(each.x, each.y, strict=True)) for each in figure.data}
    assert drawn == {
        ("lora", "y"): LOSSES["lora"], ("train", "y"): LOSSES["train"],
        ("lora", "y2"): [(2, 40.0)], ("train", "y2"): [], ("train", "y3"): [(1, 70.0)],
    }  # fmt: skip
    lines = {(shape.yref, shape.y0) for shape in figure.layout.shapes}
    assert lines == {("y2", 20.0), ("y2", 90.0), ("y2", 60.0), ("y3", 30.0), ("y3", 95.0)}
    named = {(each.yref, each.text): 10**each.y for each in figure.layout.annotations}  # places on a log axis
    expected = {
        (axis, words): value for axis, each in (("y2", FIRST), ("y3", SECOND)) for words, value in each.lines.items()
    }
    assert named == pytest.approx(expected)
    assert [figure.layout[axis].title.text for axis in ("yaxis2", "yaxis3")] == [
        "Held-out perplexity<br>docs", "Held-out perplexity<br>c4",
    ]  # fmt: skip
    for name in LOSSES:
        assert len({str(each.line) for each in figure.data if each.name == name}) == 1
    assert draw_training(LOSSES, [FIRST]).layout.yaxis2.title.text == "Held-out perplexity"
