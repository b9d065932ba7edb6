"""What was chosen on a page is there when one comes back to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import serve, settle

QUICK = {"tokens": "240", "window": "24", "dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def url(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield f"{address}/{{}}?{urlencode({**QUICK, 'model': str(small)})}"


def leave_and_return(page: Page, name: str) -> None:
    settle(page)
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_role("radio", name="Layer", exact=True)).to_have_count(0)
    settle(page)
    page.get_by_role("link", name=name, exact=True).click()


def test_plans_keep_their_methods_and_options(page: Page, url: str) -> None:
    page.goto(url.format("plans"))
    expect(page.get_by_role("radio", name="Attention and MLPs")).to_be_visible()
    page.get_by_role("radio", name="Attention and MLPs").click()
    methods = page.get_by_role("combobox", name="Methods")
    expect(methods).to_be_visible()
    settle(page)
    methods.click()
    page.get_by_role("option", name="Greedy").click()
    page.keyboard.press("Escape")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Layers that stay", exact=True).fill("first")
    page.get_by_label("Layers that stay", exact=True).press("Enter")
    leave_and_return(page, "Plans")
    expect(page.get_by_role("radio", name="Attention and MLPs")).to_be_checked()
    expect(page.locator(".st-key-plans, [data-testid=stMultiSelect]").first).to_contain_text("Greedy")
    page.get_by_text("Options", exact=True).click()
    expect(page.get_by_label("Layers that stay", exact=True)).to_have_value("first")


def test_analyse_keeps_its_view_and_its_measures(page: Page, url: str) -> None:
    page.goto(url.format("analyse"))
    page.get_by_role("radio", name="Measures").click()
    page.get_by_role("radio", name="Attention").click()
    settle(page)
    page.get_by_text("Kendall's τ").click()
    leave_and_return(page, "Analyse")
    expect(page.get_by_role("radio", name="Measures")).to_be_checked()
    expect(page.get_by_role("radio", name="Attention")).to_be_checked()
    expect(page.get_by_label("Kendall's τ", exact=True)).to_be_checked()
