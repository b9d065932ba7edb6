"""Every page and view by its address: no barrier, no error in the console, nothing too wide, all by the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.barriers import find_barriers
from tests.support.browser import VIEWS, open_page, serve, settle
from tests.support.instrument import TOKENS

#: Marks what has the focus, inside of components too; tells whether it is the page itself.
MARK = """() => {
    let found = document.activeElement;
    while (found?.shadowRoot?.activeElement) found = found.shadowRoot.activeElement;
    found.dataset.reached = "yes";
    return found === document.body;
}"""
#: Lists what can be used and was not reached; of a group that is moved in by arrows one will do.
MISSED = """() => {
    const walk = (root) =>
        [...root.querySelectorAll("*")].flatMap((e) => [e, ...(e.shadowRoot ? walk(e.shadowRoot) : [])]);
    const group = (e) => e.closest("[role=radiogroup], [role=toolbar], [role=group]") ?? e;
    const reached = (e) => e.dataset.reached || group(e).querySelector("[data-reached]");
    return walk(document.querySelector(".stMain"))
        .filter((e) => e.matches("button, a[href], input, select, textarea, summary, [role=switch], [role=slider]"))
        .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility() && e.getBoundingClientRect().width > 1)
        .filter((e) => !reached(e))
        .map((e) => e.outerHTML.slice(0, 200));
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


def open_link(page: Page, url: str, small: Path, name: str) -> list[str]:
    """Open a page by a link; return what its console says is wrong, which grows."""
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{url}/{name}?{urlencode({**TOKENS, 'model': str(small), 'mask': '1,a2'})}")
    rest(page, name)
    return wrong


def rest(page: Page, name: str) -> None:
    """Wait until nothing is on its way."""
    if name == "docs":
        expect(page.locator(".st-key-text-of-document")).to_be_visible()
    else:
        expect(page.locator(".st-key-work")).to_have_text("Work: none")
    settle(page)


def show_each(page: Page, name: str) -> Iterator[str]:
    """Show each view of a page; yield where that is."""
    for view in VIEWS[name] or ("",):
        if view:
            page.get_by_role("radio", name=view, exact=True).click()
            rest(page, name)
        yield f"{name} {view}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS)
def test_a_page_by_its_own_address(
    browser: Browser, url: str, small: Path, name: str, scheme: Literal["light", "dark"]
) -> None:
    with open_page(browser, scheme) as page:
        wrong = open_link(page, url, small, name)
        for where in show_each(page, name):
            assert find_barriers(page) == [], where
        assert wrong == []
        page.set_viewport_size({"width": 390, "height": 844})
        for where in show_each(page, name):
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, where


def test_an_address_of_an_earlier_version_leads_on_and_its_console_is_silent(page: Page, url: str, small: Path) -> None:
    wrong = open_link(page, url, small, "prune")
    expect(page.get_by_role("slider", name="Pruned along the plan")).to_be_visible()
    assert wrong == []


@pytest.mark.parametrize("name", VIEWS)
def test_all_of_a_page_is_reached_by_the_keyboard(page: Page, url: str, small: Path, name: str) -> None:
    open_link(page, url, small, name)
    for where in show_each(page, name):
        wraps = 0  # the first Tab goes on from what was clicked
        for _ in range(600):
            page.keyboard.press("Tab")
            wraps += page.evaluate(MARK)
            if wraps == 2:
                break
        assert page.evaluate(MISSED) == [], where
