"""Pins: what a browser kept is read again, and what it made up is left out."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from explorer.evaluation.recovered import find_recovered
from explorer.evaluation.scores import Score
from explorer.execution.recovery import Recovery
from explorer.masks.mask import Mask
from explorer.model.cost_model import Costs
from ui.compare.comparison import describe_pin
from ui.compare.pins import MOST, Pin, read_pins

LINK = {"model": "org/<b>model</b>", "text": "python-docs", "mask": "1,a2"}
SCORE = Score(Mask.parse("1,a2"), np.array([30.0, 34.0]), np.array([20.0, 21.0]), 10, np.array([40, 40]))
PIN = Pin.of(LINK, 4, SCORE, Costs(1000, 2000, 64, 2048), [("A <i>prompt</i>", "text & more")])


def test_a_pin_has_the_numbers_of_its_score() -> None:
    assert PIN.perplexity == pytest.approx(np.exp(3.2))
    assert PIN.difference == pytest.approx(1.15)
    assert PIN.mask == Mask.parse("1,a2")
    assert (PIN.low, PIN.high) == SCORE.perplexity_ci95


def test_what_was_kept_is_read_again() -> None:
    single = replace(PIN, low=None, high=None, texts=())
    assert read_pins(json.dumps([asdict(PIN), asdict(single)])) == [PIN, single]
    assert len(read_pins(json.dumps([asdict(PIN)] * 20))) == MOST


@pytest.mark.parametrize(
    "change",
    [
        {"link": {"model": "x"}}, {"link": {"mask": "9"}}, {"link": {"mask": "x"}}, {"link": 3}, {"layers": 0},
        {"layers": "many"}, {"perplexity": None}, {"perplexity": {}}, {"texts": [1]}, {"texts": 7},
    ],
)  # fmt: skip
def test_what_is_no_pin_is_left_out(change: dict[str, Any]) -> None:
    assert read_pins(json.dumps([asdict(PIN) | change, asdict(PIN)])) == [PIN]


def test_a_pin_says_its_format_and_those_before_had_none() -> None:
    written = replace(PIN, perplexity=float("inf")).describe()
    assert (written["format"], written["perplexity"]) == (2, 1e308)
    assert read_pins(json.dumps([PIN.describe(), asdict(PIN)])) == [PIN, PIN]
    with pytest.raises(ValueError, match="it is of format 3, and this version reads up to 2"):
        Pin.read(PIN.describe() | {"format": 3})


def test_a_pin_of_the_first_format_recovers_nothing() -> None:
    names = ("recovered", "share", "fitted_on")
    old = {key: value for key, value in asdict(PIN).items() if not key.startswith(names)} | {"format": 1}
    assert read_pins(json.dumps([old])) == [PIN]
    assert ("Lost nats won back", "–") in describe_pin(PIN, [], recovers=True)["rows"]
    assert "Lost nats won back" not in dict(describe_pin(PIN, [])["rows"])


def test_a_pin_has_what_was_recovered() -> None:
    better = replace(SCORE, nll=np.array([25.0, 27.0]))
    found = Recovery(SCORE, better, find_recovered(SCORE, better), "python-docs", 2048, 3.0, 100)
    pin = Pin.of(LINK | {"modify": "refit"}, 4, SCORE, Costs(1000, 2000, 64, 2048), [], found)
    assert read_pins(json.dumps([pin.describe()])) == [pin]
    rows = dict(describe_pin(pin, [], recovers=True)["rows"])
    assert rows["Perplexity, recovered"] == f"{np.exp(2.6):.2f}"
    assert rows["Recovered by"] == "refit"
    assert rows["Fitted on"] == "2,048 tokens of python-docs"
    assert rows["Lost nats won back"].startswith("52.2% [")
    assert pin.parameters == 1100


@pytest.mark.parametrize("text", ["", "{}", "nonsense", "[1, null, []]", "[" * 100_000, '{"a": ' * 5000])
def test_what_is_no_list_of_pins_is_none(text: str) -> None:
    assert read_pins(text) == []
