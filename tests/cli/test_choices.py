"""choices on the command line: its JSON, and bad input in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def test_every_cell_says_what_it_removes(run: Command, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(" ".join(str(i * i) for i in range(600)))
    given = [
        "--number",
        "2",
        "--objectives",
        "perplexity,probe:copying",
        "--texts",
        "python-docs",
        "--texts",
        str(other),
    ]
    answer = run("choices", *given)
    assert [(each["text"], each["objective"], each["search"]) for each in answer["cells"]] == [
        (text, objective, search)
        for text in ("python-docs", str(other))
        for objective in ("perplexity", "probe:copying")
        for search in ("one-shot", "greedy")
    ]
    plan = run("plan", "--method", "greedy", "--unit", "layer", "--steps", "2", "--confidence", "1")
    assert answer["cells"][1]["removed"] == plan["steps"][2]["mask"]
    assert [row[place] for place, row in enumerate(answer["agreement"])] == [1] * 8
    assert set(answer["variance"]) == {"text", "objective", "search"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--objectives", "nonsense"], "Unknown criterion"),
        (["--number", "4"], "nothing to compare"),
        (["--unit", "head"], "'head' is none of"),
    ],
)
def test_bad_input_is_one_line(run: Command, words: list[str], said: str) -> None:
    assert said in run("choices", *words, bad=True)
