"""Compare: what is starred outlives the session, a link holds what is compared, rows of the history can be set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from explorer.evaluation.generation import generate
from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE, Mask
from explorer.storage.store import Store
from tests.support.browser import open_page, serve, settle, wait_for_plot
from tests.support.instrument import TOKENS, Instrument
from tests.support.tiny_models import load_folder

MARKUP = "<img src=x onerror=window.hit=1>"
DEEP_ALIVE = "[...document.querySelectorAll('*')].filter((e) => e.shadowRoot?.querySelector('img')).length"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path / "cache")) as address:
        yield address


def link(url: str, model: Path, **more: str) -> str:
    return f"{url}/compare?{urlencode({**TOKENS, 'model': str(model), **more})}"


def find_values(page: Page) -> Locator:
    return page.locator(".comparison .value td")


def click_cell(page: Page, row: int, column: int) -> None:
    """Click into the table, which is a picture: the columns are set, star, compare, name, and so on."""
    table = page.locator(".st-key-history-table .dvn-scroller")
    expect(table).to_be_visible()
    settle(page)
    table.click(position={"x": (50, 137, 227, 345)[column], "y": 35 + 35 * row + 17})


def test_a_star_outlives_the_session_and_the_comparison_has_the_models_numbers(
    browser: Browser, page: Page, url: str, small: Path
) -> None:
    shown = Instrument(page, url, small, mask="1")
    expect(page.get_by_role("button", name="Star this", exact=True)).to_be_enabled()
    page.get_by_role("button", name="Star this", exact=True).click()
    expect(page.get_by_text("1 starred")).to_be_visible()
    shown.switch("attention of layer 3").click()
    shown.removes("1,a3")
    page.get_by_role("button", name="Star this", exact=True).click()
    expect(page.get_by_text("2 starred")).to_be_visible()
    loaded = load_folder(small)
    corpus = loaded.tokenize("python-docs", int(TOKENS["tokens"]), int(TOKENS["window"]))
    masks = [NONE, Mask.parse("1"), Mask.parse("1,a3")]
    expected = [f"{each.perplexity:,.2f}" for each in score(loaded, corpus, masks, Store(None))]
    with open_page(browser) as other:
        other.goto(link(url, small))
        wait_for_plot(other, "history", "plot._fullData.some(each => each.name === 'starred' && each.x.length === 2)")
        other.get_by_role("radio", name="Side by side").click()
        expect(find_values(other)).to_have_text(expected)
        expect(other).to_have_url(re.compile(r"of=1%7E1%2Ca3|of=1~1%2Ca3"))
        sample = other.locator(".comparison .sample").first
        for place, mask in enumerate(masks):
            expect(sample.locator("td").nth(place)).to_have_text(
                generate(loaded, mask, "The capital of France is", 32).text
            )
        other.get_by_role("button", name="Remove: 1", exact=True).click()
        expect(find_values(other)).to_have_count(2)
        other.get_by_role("button", name="Set this: 1,a3").click()
        expect(other).to_have_url(re.compile(r"/\?.*mask=1%2Ca3"))
        expect(other).not_to_have_url(re.compile("of="))
        other.get_by_role("link", name="Compare").first.click()
        expect(find_values(other)).to_have_text([expected[0], expected[2]])


def test_a_link_says_what_is_compared_whatever_is_starred(page: Page, url: str, small: Path) -> None:
    page.goto(link(url, small, of=f"2~a1:mean~{MARKUP}~99"))
    expect(find_values(page)).to_have_count(3)
    expect(page.locator(".comparison .name")).to_have_text(["Unpruned", "2", "a1 + mean"])
    for place in range(3):
        expect(find_values(page).nth(place)).to_have_text(re.compile(r"^[\d.,]+$"))
    expect(page.get_by_text("A variant of the link was skipped").first).to_be_visible()
    assert page.evaluate(DEEP_ALIVE) == 0
    assert page.evaluate("window.hit") is None
    page.get_by_role("combobox", name="Sort by").click()
    page.get_by_role("option", name="Parameters", exact=True).click()
    expect(page.locator(".comparison .name")).to_have_text(["Unpruned", "2", "a1 + mean"])
    with page.expect_download() as taken:
        page.get_by_role("button", name="LaTeX", exact=True).click()
    written = taken.value.path().read_text()
    assert written.startswith("\\begin{tabular}{lrrr}\n\\toprule\n & Unpruned & 2 & a1 + mean \\\\")


def test_a_row_of_the_history_is_starred_and_set(page: Page, url: str, small: Path) -> None:
    Instrument(page, url, small, mask="1,m3")
    page.get_by_role("link", name="Compare").first.click()
    wait_for_plot(page, "history", "plot._fullData.some(each => each.name === 'measured')")
    page.get_by_role("textbox", name="Filter by words").fill("1,m3")
    page.get_by_role("textbox", name="Filter by words").press("Enter")
    expect(page.get_by_text("Variants: 1", exact=True)).to_be_visible()
    click_cell(page, 0, 1)
    wait_for_plot(page, "history", "plot._fullData.some(each => each.name === 'starred')")
    page.get_by_text("Starred only").click()
    expect(page.get_by_text("Variants: 1", exact=True)).to_be_visible()
    click_cell(page, 0, 0)
    expect(page).to_have_url(re.compile(r"/\?.*mask=1%2Cm3"))
    expect(page.get_by_role("button", name="Unstar this")).to_be_visible()


def make_pin(model: Path, mask: str, format: int) -> dict[str, Any]:
    pin = {
        "format": format, "link": {**TOKENS, "model": str(model), "text": "python-docs", "mask": mask}, "layers": 4,
        "perplexity": 20.0, "low": None, "high": None, "difference": 0.5, "difference_low": None,
        "difference_high": None, "parameters": 1000, "kv_bytes": 64.0, "flops": 2048.0, "texts": [["A", "b"]],
        "overflow": "",
    }  # fmt: skip
    return pin if format == 1 else {**pin, "recovered": None, "fitted_on": ""}


def test_pins_of_earlier_versions_are_starred_and_those_of_other_models_wait(page: Page, url: str, small: Path) -> None:
    page.goto(link(url, small))
    expect(page.get_by_role("radio", name="Side by side")).to_be_visible()
    settle(page)
    pins = [make_pin(small, "1", 1), make_pin(small, "2", 2), make_pin(small.parent / "other", "3", 2)]
    page.evaluate("pins => localStorage.setItem('layer-redundancy-explorer/pins', pins)", json.dumps(pins))
    page.goto(link(url, small))
    expect(page.get_by_text("1 pins of other models or texts wait")).to_be_visible()
    page.get_by_role("radio", name="Side by side").click()
    expect(page.locator(".comparison .name")).to_have_text(["Unpruned", "1", "2"])
    kept = "JSON.parse(localStorage.getItem('layer-redundancy-explorer/pins')).map(pin => pin.link.mask)"
    page.wait_for_function(f"{kept}.join() === '3'")
