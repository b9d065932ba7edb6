"""The triangle of blocks in a real browser: aiming at a block, what is said of it, removing it; by keyboard, too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import serve
from tests.support.command_line import ask
from tests.support.instrument import TOKENS, Instrument

LAYERS = 4


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


def middle_of(page: Page, start: int, size: int) -> tuple[float, float]:
    """Where a block's cell is: over the middle of its layers, one row a size from the foot up."""
    canvas = page.locator("[data-part=blocks]")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    across = (start + (size - 1) / 2 + 0.5) * (box["width"] + 2) / LAYERS
    return box["x"] + across, box["y"] + box["height"] * (1 - (size - 0.5) / LAYERS)


def list_aimed(page: Page) -> list[str]:
    return [cell.get_attribute("aria-label") or "" for cell in page.locator(".cell[data-aimed]").all()]


def test_a_block_is_shown_in_the_strip_and_removed(page: Page, url: str, small: Path) -> None:
    shown = Instrument(page, url, small)
    shown.wait_for_plan()
    aimed = page.locator("[data-part=aimed]")
    page.mouse.move(*middle_of(page, 1, 2))
    distance = ask({**TOKENS, "model": small}, "measure")["angular_distance"]["last_token"][1][1]
    expect(aimed).to_contain_text(
        re.compile(r"Layers 1-2 \(2\)\s+angular distance [\d.]+\s+off: perplexity [≈~]? ?[\d.,]+")
    )
    said = float(re.search(r"distance ([\d.e-]+)", aimed.inner_text())[1])  # type: ignore[index]
    assert said == pytest.approx(distance, rel=1e-2)
    assert list_aimed(page) == [f"{part} of layer {layer}" for part in ("attention", "MLP") for layer in (1, 2)]
    page.mouse.click(*middle_of(page, 1, 2))
    shown.removes("1-2")
    expect(aimed).to_contain_text("back: perplexity")
    page.mouse.click(*middle_of(page, 0, 3))
    shown.removes("0-2")
    page.mouse.click(*middle_of(page, 1, 2))
    shown.removes("0")
    page.mouse.move(1, 1)
    assert list_aimed(page) == []
    page.get_by_role("button", name="Undo").click()
    shown.removes("0-2")


def test_the_triangle_is_walked_by_keyboard(page: Page, url: str, small: Path) -> None:
    shown = Instrument(page, url, small)
    shown.wait_for_plan()
    aimed = page.locator("[data-part=aimed]")
    page.locator("[data-part=blocks]").focus()
    page.keyboard.press("Home")  # the first key aims at the best layer
    page.keyboard.press("Home")
    expect(aimed).to_contain_text("Layer 0")
    page.keyboard.press("ArrowUp")
    expect(aimed).to_contain_text("Layers 0-1 (2)")
    page.keyboard.press("ArrowRight")
    expect(aimed).to_contain_text("Layers 1-2 (2)")
    expect(page.get_by_role("status").filter(has_text="Layers 1-2 (2), angular distance")).to_have_count(1)
    page.keyboard.press("b")
    row = ask({**TOKENS, "model": small}, "measure")["angular_distance"]["last_token"][1]
    best = row.index(min(row))
    expect(aimed).to_contain_text(f"Layers {best}-{best + 1} (2)")
    page.keyboard.press("Enter")
    shown.removes(f"{best}-{best + 1}")


def test_another_measure_colours_blocks_as_sums_of_layers(page: Page, url: str, small: Path) -> None:
    shown = Instrument(page, url, small)
    shown.wait_for_plan()
    page.get_by_role("combobox", name="Colour by").click()
    page.get_by_role("option", name="Block influence", exact=True).click()
    influence = ask({**TOKENS, "model": small}, "measure")["block_influence"]["layer"]
    page.locator("[data-part=scale]").get_by_text("Block influence, summed over layers").wait_for()
    page.mouse.move(*middle_of(page, 1, 3))
    aimed = page.locator("[data-part=aimed]")
    expect(aimed).to_contain_text("sum of block influence")
    said = float(re.search(r"influence ([\d.e-]+)", aimed.inner_text())[1])  # type: ignore[index]
    assert said == pytest.approx(sum(influence[1:4]), rel=1e-2)


def test_the_strip_is_on_the_first_screen(page: Page, url: str, small: Path) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    shown = Instrument(page, url, small)
    for place in (shown.switch("MLP of layer 0"), shown.slider, page.locator("[data-part=curve]")):
        box = place.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900
    curve, costs = (page.locator(part).bounding_box() for part in ("[data-part=curve]", ".meter"))
    assert curve is not None
    assert costs is not None
    assert costs["height"] < curve["height"]
    assert costs["width"] < curve["width"]
    assert costs["x"] + costs["width"] <= 1440 - 16, "it keeps the page's margin"
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_words_never_lie_on_the_triangle(page: Page, url: str, small: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    Instrument(page, url, small).wait_for_plan()
    top = page.locator("[data-part=blocks]").bounding_box()
    for part, words in (("aimed", "Each cell is a block"), ("scale", "Angular distance")):
        said = page.locator(f"[data-part={part}]")
        expect(said).to_contain_text(words)
        box = said.bounding_box()
        assert box is not None
        assert top is not None
        assert box["y"] + box["height"] <= top["y"] + 1
        assert box["x"] + box["width"] <= 390
