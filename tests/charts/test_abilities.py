"""The figure of abilities shows the numbers of the evaluations, in their places."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.benchmarks.evaluation import Answers, Evaluation
from explorer.benchmarks.question import Question
from explorer.benchmarks.request import Likelihood
from explorer.charts.abilities import draw_abilities
from explorer.charts.curves import Shares
from explorer.evaluation.scores import Score
from explorer.masks.mask import Mask
from explorer.model.cost_model import Costs
from explorer.plans.abilities import Abilities
from explorer.plans.curve import Curve
from explorer.plans.plan import Plan, PlanSpec
from ui.evaluate.ability_curves import list_abilities, list_losses
from ui.evaluate.flipped_items import list_flipped

SHARES = Shares("layers", 4, lambda mask: Costs(1, 1, 1, 1))
MASKS = tuple(map(Mask.parse, ("none", "1", "1-2")))
RIGHT = ((1, 1, 1, 0), (1, 1, 0, 0), (0, 0, 0, 1))


@pytest.fixture
def found() -> Abilities:
    """Three steps, two of them known, and two tasks of four questions."""
    plan = Plan(PlanSpec(), MASKS, 4)
    scores = {
        step: Score(MASKS[step], np.array([nll]), np.array([2.0]), 2, np.array([9]))
        for step, nll in ((0, 2.0), (2, 3.0))
    }
    evaluations = tuple(
        Evaluation(
            name,
            chance,
            tuple(Question(f"q{place}", (" a", " b"), 1) for place in range(4)),
            {"acc": lambda values: float(np.mean(values))},
            tuple(
                Answers(
                    MASKS[step],
                    {"acc": tuple(map(float, RIGHT[step]))},
                    RIGHT[step],
                    tuple((Likelihood(2.0 + right, 0, 1), Likelihood(3.0 - right, 0, 1)) for right in RIGHT[step]),
                )
                for step in (0, 2)
            ),
        )
        for name, chance in (("one", 0.5), ("two", None))
    )
    return Abilities(Curve(plan, scores, {}), evaluations)


def test_accuracy_is_drawn_against_what_is_removed(found: Abilities) -> None:
    figure = draw_abilities([found, found], ["A", "B"], SHARES)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [(line.name, line.xaxis) for line in lines] == [("A", "x"), ("A", "x2"), ("B", "x"), ("B", "x2")]
    for line in lines:
        assert list(line.x) == [0, 0.5]
        assert list(line.y) == [0.75, 0.25]
        assert list(line.customdata) == ["none", "1-2"]
        interval = found.evaluations[0].measure("acc", 1).interval
        assert interval is not None
        assert line.y[1] + line.error_y.array[1] == pytest.approx(interval[1])
        assert line.y[1] - line.error_y.arrayminus[1] == pytest.approx(interval[0])
    (chance,) = figure.layout.shapes  # of the one task that has it
    assert (chance.y0, chance.y1) == (0.5, 0.5)


def test_tables_have_the_numbers(found: Abilities) -> None:
    table = list_abilities([found], ["A"])
    assert table["task"] == ["one", "one", "two", "two"]
    assert table["step"] == [0, 2, 0, 2]
    assert table["value"] == [0.75, 0.25, 0.75, 0.25]
    assert table["difference"] == [0, -0.5, 0, -0.5]
    assert table["flips"] == [0, 1, 0, 1]
    assert list_losses([found], ["A"])["mask"] == ["none", "1-2"]


def test_questions_that_flip_are_listed_with_both_log_likelihoods(found: Abilities) -> None:
    table = list_flipped(found.evaluations[0], 0, 1)
    assert table["question"] == ["q0", "q1", "q2", "q3"]
    assert table["before"] == [" b", " b", " b", " a"]
    assert table["after"] == [" a", " a", " a", " b"]
    assert table["changed to"] == ["wrong", "wrong", "wrong", "right"]
    assert table["log-likelihood before"] == [-2.0] * 4
    assert list_flipped(found.evaluations[0], 1, 1)["question"] == []
