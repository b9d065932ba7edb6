"""Pins: what a browser kept is read again, and what it made up is left out."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from explorer.masks.mask import Mask
from ui.compare.pins import Pin, read_pins

LINK = {"model": "org/<b>model</b>", "text": "python-docs", "mask": "1,a2"}
PIN = Pin(
    LINK, 4, 24.5, 20.0, 30.0, 1.15, 0.8, 1.5, 1000, 64.0, 2048.0, (("A <i>prompt</i>", "text & more"),)
)  # fmt: skip


def test_what_was_kept_is_read_again() -> None:
    single = replace(PIN, low=None, high=None, texts=())
    assert read_pins(json.dumps([asdict(PIN), asdict(single)])) == [PIN, single]
    assert len(read_pins(json.dumps([asdict(PIN)] * 20))) == 20


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
    assert PIN.mask == Mask.parse("1,a2")


@pytest.mark.parametrize("text", ["", "{}", "nonsense", "[1, null, []]", "[" * 100_000, '{"a": ' * 5000])
def test_what_is_no_list_of_pins_is_none(text: str) -> None:
    assert read_pins(text) == []
