"""Estimates: closed cases, and the browser's own arithmetic, which gives the same numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import playwright
import pytest
from hypothesis import given, settings, strategies

from explorer.masks.mask import PARTS, Mask, Site
from explorer.plans.estimates import add_damages, interpolate_steps
from tests.support.tiny_models import REPOSITORY

NODE = Path(playwright.__file__).parent / "driver" / "node"
VALUES = REPOSITORY / "ui" / "browser" / "values.js"
LAYERS = 5
nll = strategies.one_of(strategies.none(), strategies.floats(0.5, 12))


@pytest.mark.parametrize(
    ("known", "step", "expected"),
    [
        ([2.0, None, None, 5.0], 1, 3.0),
        ([2.0, None, None, 5.0], 2, 4.0),
        ([2.0, 2.5, None, 5.0], 1, 2.5),
        ([None, None, 3.0], 1, None),
        ([2.0, None], 1, None),
    ],
)
def test_a_step_lies_on_the_line_between_its_neighbours(
    known: list[float | None], step: int, expected: float | None
) -> None:
    assert interpolate_steps(known, step) == expected


def test_damages_add_up() -> None:
    damages = {Site(0, "attention"): 0.25, Site(1, "mlp"): -0.125, Site(2, "mlp"): None}
    assert add_damages(3.0, damages, Mask.parse("a0,m1")) == 3.125
    assert add_damages(3.0, damages, Mask()) == 3.0
    assert add_damages(3.0, damages, Mask.parse("m2")) is None
    assert add_damages(3.0, damages, Mask.parse("m0")) is None
    assert add_damages(None, damages, Mask.parse("a0")) is None


def _in_the_browser(calls: list[tuple[str, list[Any]]]) -> list[float | None]:
    """Run the functions of values.js; what they find in nats a token, None for nothing."""
    script = VALUES.read_text(encoding="utf-8").replace("export ", "") + (
        f"\nconst calls = {json.dumps(calls)}, called = {{ interpolate, addDamages }};"
        "\nconsole.log(JSON.stringify(calls.map(([name, given]) => called[name](...given)?.nll ?? null)));"
    )
    done = subprocess.run([NODE, "--input-type=module"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@settings(max_examples=15, deadline=None)
@given(strategies.lists(nll, min_size=1, max_size=9))
def test_the_browser_draws_the_same_line(known: list[float | None]) -> None:
    """A step of the plan that overflowed is known to the browser, which draws no line to it; here it is left out."""
    scores = [None if each is None else [each] for each in known]
    steps = range(len(known))
    drawn = _in_the_browser([("interpolate", [{"data": {"plan": {"scores": scores}}}, step]) for step in steps])
    for step, found in zip(steps, drawn, strict=True):
        expected = interpolate_steps(known, step)
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


@settings(max_examples=15, deadline=None)
@given(nll, strategies.lists(nll, min_size=2 * LAYERS, max_size=2 * LAYERS), strategies.sets(strategies.integers(0, 9)))
def test_the_browser_adds_the_same_damages(baseline: float | None, damages: list[float | None], off: set[int]) -> None:
    sites = [Site(layer, part) for part in PARTS for layer in range(LAYERS)]
    data = {"baseline": [baseline], "leaveOneOut": [[0, 0, 0, each] for each in damages]}
    key = "".join("1" if cell in off else "0" for cell in range(2 * LAYERS))
    (found,) = _in_the_browser([("addDamages", [{"data": data}, key])])
    expected = add_damages(baseline, dict(zip(sites, damages, strict=True)), Mask(frozenset(sites[i] for i in off)))
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))
