"""Estimates: closed cases, and the browser's own arithmetic, which gives the same numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import playwright
import pytest
from hypothesis import given, settings, strategies

from explorer.masks.mask import NONE, PARTS, Mask, Site
from explorer.plans.estimates import add_damages, find_rate, interpolate_steps, share_won_back
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
    whole = {NONE: 3.0}
    assert add_damages(whole, damages, {}, Mask.parse("a0,m1")) == 3.125
    assert add_damages(whole, damages, {}, NONE) == 3.0
    assert add_damages(whole, damages, {}, Mask.parse("m2")) is None
    assert add_damages(whole, damages, {}, Mask.parse("m0")) is None
    assert add_damages({NONE: None}, damages, {}, Mask.parse("a0")) is None


def test_a_mask_is_estimated_from_the_nearest_measured_one() -> None:
    damages = {Site(0, "attention"): 0.25, Site(1, "mlp"): 0.5}
    known = {NONE: 3.0, Mask.parse("a0,m1,a2"): 5.0}
    assert add_damages(known, damages, {}, Mask.parse("m1,a2")) == 4.75  # what comes back is taken off
    assert add_damages(known, damages, {}, Mask.parse("a0")) == 3.25
    between = {Mask.parse("a0"): 3.0, Mask.parse("m1"): 4.0}
    assert add_damages(between, damages, {}, Mask.parse("a0,m1")) == (3.5 + 4.25) / 2  # of equally near ones the mean


def test_pairs_of_whole_layers_are_added_to_what_their_sites_cost() -> None:
    damages = {Site(layer, part): 0.25 for layer in range(3) for part in PARTS}
    pairs = {(0, 0): 0.5, (0, 1): 0.125, (1, 2): -0.25}
    whole = {NONE: 3.0}
    assert add_damages(whole, damages, {}, Mask.parse("0"), pairs) == 4.0
    assert add_damages(whole, damages, {}, Mask.parse("0-1"), pairs) == 4.625
    assert add_damages(whole, damages, {}, Mask.parse("0,a1"), pairs) == 4.25  # half a layer is in no pair
    assert add_damages({Mask.parse("0-1"): 5.0}, damages, {}, Mask.parse("1"), pairs) == 3.875
    assert add_damages({Mask.parse("1"): 3.5}, damages, {}, Mask.parse("1-2"), pairs) == 3.75


def test_influence_stands_in_for_what_is_not_measured() -> None:
    sites = [Site(layer, "mlp") for layer in range(4)]
    influence = dict(zip(sites, (0.1, 0.2, 0.4, 0.5), strict=True))
    assert find_rate({}, influence) == 1.0
    damages = {sites[0]: 0.2, sites[1]: 0.8, sites[2]: -1.0}  # rates 2 and 4; what helps says nothing
    assert find_rate(damages, influence) == 4.0
    assert add_damages({NONE: 1.0}, damages, influence, Mask.parse("m0,m3")) == 1.0 + 0.2 + 4 * 0.5


def _in_the_browser(calls: list[tuple[str, list[Any]]]) -> list[float | None]:
    """Run the functions of values.js; what they find, of values the nats a token, None for nothing."""
    script = VALUES.read_text(encoding="utf-8") + (
        f"\nconst calls = {json.dumps(calls)}, called = {{ interpolate, addDamages, wonBack }};"
        "\nconst found = calls.map(([name, given]) => called[name](...given));"
        "\nconsole.log(JSON.stringify(found.map((each) => (each?.nll === undefined ? each : each.nll))));"
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


_MASKS = strategies.sets(strategies.integers(0, 2 * LAYERS - 1)).map(frozenset)


@settings(max_examples=15, deadline=None)
@given(
    nll,
    strategies.dictionaries(_MASKS, nll, max_size=4),
    *(strategies.lists(each, min_size=2 * LAYERS, max_size=2 * LAYERS) for each in (nll, nll)),
    _MASKS,
    strategies.none()
    | strategies.tuples(*(strategies.lists(nll, min_size=n, max_size=n) for n in range(LAYERS, 0, -1))),
)
def test_the_browser_adds_the_same_damages(
    baseline: float | None,
    known: dict[frozenset[int], float | None],
    damages: list[float | None],
    influence: list[float | None],
    off: frozenset[int],
    pairs: tuple[list[float | None], ...] | None,
) -> None:
    sites = [Site(layer, part) for part in PARTS for layer in range(LAYERS)]
    keys = {cells: "".join("1" if cell in cells else "0" for cell in range(2 * LAYERS)) for cells in (*known, off)}
    data = {
        "baseline": [baseline],
        "known": {keys[cells]: [each] for cells, each in known.items()},
        "leaveOneOut": [None if each is None else [0, 0, 0, each] for each in damages],
        "influence": {"sites": influence},
        "pairs": pairs,
    }
    (found,) = _in_the_browser([("addDamages", [{"data": data, "steps": []}, keys[off]])])
    masks = {Mask(frozenset(sites[i] for i in cells)): each for cells, each in known.items()}
    if masks.get(NONE) is None:
        masks = {mask: each for mask, each in masks.items() if mask} | {NONE: baseline}
    by_site = [dict(zip(sites, each, strict=True)) for each in (damages, influence)]
    beyond = {
        (layer, layer + ahead): each
        for layer, row in enumerate(pairs or ()) for ahead, each in enumerate(row) if each is not None
    }  # fmt: skip
    expected = add_damages(masks, *by_site, Mask(frozenset(sites[i] for i in off)), beyond)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12, abs=1e-9))


@settings(max_examples=15, deadline=None)
@given(nll, nll, nll)
def test_the_browser_finds_the_same_share(whole: float | None, pruned: float | None, recovered: float | None) -> None:
    (found,) = _in_the_browser([("wonBack", [whole, pruned, recovered])])
    expected = share_won_back(whole, pruned, recovered)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_the_share_is_that_of_the_scores() -> None:
    assert share_won_back(2.0, 4.0, 2.5) == 0.75
    assert share_won_back(2.0, 4.0, 5.0) == -0.5
    assert share_won_back(2.0, 2.0, 2.0) is None


def _recovered_of(key: str, recovery: dict[str, Any], step: int | None = None) -> Any:
    """Ask the browser what it knows of the recovered model under a mask: the kind and the nats."""
    data = {"recovery": {"known": {}, "steps": [], "last": None, "live": None, "why": "why"} | recovery}
    steps = [] if step is None else [[key, step]]
    script = VALUES.read_text(encoding="utf-8") + (
        f"\nconst it = {{ data: {json.dumps(data)}, stepOf: new Map({json.dumps(steps)}) }};"
        f"\nconst {{ kind, nll }} = recoveredOf(it, {json.dumps(key)}); console.log(JSON.stringify([kind, nll]));"
    )
    done = subprocess.run([NODE, "--input-type=module"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_was_made_for_another_mask_is_stale_until_the_mask_is_back() -> None:
    made = {"known": {"0110": [2.5, 2.0, 3.0]}, "last": {"removed": "1", "score": [2.5, 2.0, 3.0]}}
    assert _recovered_of("0110", made) == ["measured", 2.5]
    assert _recovered_of("1110", made) == ["stale", 2.5]
    assert _recovered_of("1110", made | {"live": {"off": "1110", "score": [2.75, None, None]}}) == ["estimated", 2.75]
    assert _recovered_of("1110", {}) == ["none", None]
    along = made | {"steps": [[2.0], None, [3.0]]}
    assert _recovered_of("1110", along, 1) == ["estimated", 2.5]
    assert _recovered_of("1111", along, 2) == ["measured", 3.0]
