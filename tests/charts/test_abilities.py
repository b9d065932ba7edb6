"""The figure of abilities shows the numbers of the evaluations, in their places."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.benchmarks.evaluation import Answers, Evaluation
from explorer.benchmarks.question import Question
from explorer.benchmarks.request import Likelihood
from explorer.charts.abilities import draw_abilities
from explorer.charts.choices import draw_choices, draw_variance
from explorer.charts.curves import Shares
from explorer.evaluation.scores import Score
from explorer.masks.mask import Mask
from explorer.model.cost_model import Costs
from explorer.plans.abilities import Abilities
from explorer.plans.choices import Choices
from explorer.plans.curve import Curve
from explorer.plans.plan import Plan, PlanSpec
from ui.evaluate.ability_curves import list_abilities, list_losses
from ui.evaluate.choice_matrix import list_choices, list_variance
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


def test_agreement_and_variance_are_drawn_as_they_are() -> None:
    removed = np.random.default_rng(0).random((2, 2, 2, 6)).argsort(axis=-1) < 2
    found = Choices(("x", "y"), ("kl", "perplexity"), tuple(Mask.of_layers([i]) for i in range(6)), removed)
    (matrix,) = draw_choices(found).data
    assert matrix.z.shape == (8, 8)
    assert matrix.y[1] == "x, kl, greedy"
    assert matrix.z[0, 1] == (removed[0, 0, 0] & removed[0, 0, 1]).sum() / 2
    (bars,) = draw_variance(found).data
    assert list(bars.x) == [each.share for each in found.variance.values()] == list_variance(found)["share"]
    table = list_choices(found)
    assert table["removed"][5] == str(found.find(1, 0, 1))
    assert table["y, kl, greedy"][5] == 1
