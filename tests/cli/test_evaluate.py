"""evaluate on the command line: its JSON, what it says, and bad input in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.task_files import write_tasks

Command = Callable[..., Any]


def test_masks_steps_and_what_is_modified_are_compared(run: Command, tmp_path: Path) -> None:
    folder, plan = str(write_tasks(tmp_path)), str(tmp_path / "plan.json")
    run("plan", "--method", "deepest", "--out", plan)
    given = ["--tasks", "animals,probe:copying", "--include", folder, "--limit", "5"]
    answer = run("evaluate", *given, "--mask", "a1", "--plan", plan, "--steps", "0,1", "--modify", "mean")
    assert list(answer["tasks"]) == ["probe:copying", "animals"]
    animals = answer["tasks"]["animals"]
    assert (animals["n"], animals["chance"]) == (5, 0.25)
    assert [each["variant"] for each in animals["results"]] == ["none", "a1", "2", "a1 + mean", "2 + mean"]
    for number, result in enumerate(animals["results"]):
        for name in ("acc", "acc_norm"):
            metric = result["metrics"][name]
            assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]
            assert metric["delta"] == pytest.approx(metric["value"] - animals["results"][0]["metrics"][name]["value"])
            assert metric["delta_ci95"][0] <= metric["delta"] <= metric["delta_ci95"][1]
            assert (metric["verdict"] is None) == (number == 0)
        assert 0 <= result["flips"] <= 1
        assert result["kl"] >= 0
        assert 0 < result["acceptance"] <= 1
    assert (animals["results"][0]["kl"], animals["results"][0]["acceptance"]) == (0, 1)
    assert run("evaluate", *given, "--mask", "a1", "--plan", plan, "--steps", "0,1", "--modify", "mean") == answer


def test_a_speed_up_follows_from_decode_speed(run: Command) -> None:
    answer = run("evaluate", "--tasks", "probe:addition", "--limit", "2", "--mask", "1-2", "--decode-speed")
    for result in answer["tasks"]["probe:addition"]["results"]:
        assert result["speed_up"] is None or result["speed_up"] >= 1


def test_the_program_says_that_no_difference_can_be_seen(run: Command) -> None:
    answer = run("evaluate", "--tasks", "probe:comparison", "--limit", "4", "--mask", "a1")
    result = answer["tasks"]["probe:comparison"]["results"][1]
    assert "4 items" in result["metrics"]["acc"]["verdict"]
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "probe:nonsense"], "Unknown probe"),
        (["--tasks", " , "], "names no task"),
        (["--tasks", "animals", "--include", "/nonexistent"], "No such folder of tasks"),
        (["--steps", "0,1"], "Steps of no plan"),
        (["--limit", "0"], "limit"),
        (["--mask", "9"], "Mask out of range"),
    ],
)
def test_bad_input_is_one_line(run: Command, words: list[str], said: str) -> None:
    assert said in run("evaluate", *words, bad=True)
