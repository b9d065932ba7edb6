"""The Sparsity page: blocks are pruned live, the model so far is scored, a matrix is looked at, the zeros are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import find_plot, serve, wait_for_plot
from tests.support.tiny_models import WINDOW

WAIT = 60_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


def visit(page: Page, url: str, small: Path, calibration: int) -> None:
    tokens = {"tokens": str(5 * WINDOW), "window": str(WINDOW), "calibration_tokens": str(calibration * WINDOW)}
    page.goto(f"{url}/sparsity?{urlencode({'model': str(small), **tokens})}")
    expect(page.get_by_role("button", name="Prune inside the blocks")).to_be_visible(timeout=WAIT)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_blocks_are_pruned_and_a_matrix_is_looked_at(page: Page, url: str, small: Path) -> None:
    visit(page, url, small, 12)
    choose(page, "Method", "SparseGPT")
    page.get_by_role("radio", name="N:M").click()
    page.get_by_role("button", name="Prune inside the blocks").click()
    expect(page.get_by_role("button", name="Keep it")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("2:4 holds in 28 of them")).to_be_visible()
    errors = "plot._fullData.map(each => each.name).includes('survivors adapted') && plot._fullData[0].x.length === 4"
    wait_for_plot(page, "block-errors", errors)
    halves = "[...plot._fullData[1].z].every(row => [...row].slice(0, 4).reduce((a, b) => a + b) === 2)"
    wait_for_plot(page, "zeros", halves)
    page.get_by_role("spinbutton", name="and column").fill("8")
    page.get_by_role("spinbutton", name="and column").press("Enter")
    wait_for_plot(page, "zeros", "plot._fullData[1].x[0] === 8")
    find_plot(page, "scores")
    page.get_by_role("button", name="Look again").click()
    wait_for_plot(page, "equal-size", "plot._fullData.some(each => each.name === 'zeros inside')")
    page.get_by_role("button", name="Keep it").click()
    expect(page).to_have_url(re.compile("modify=sparsegpt"))


def test_the_model_so_far_is_scored_and_a_reload_loses_nothing(page: Page, url: str, small: Path) -> None:
    visit(page, url, small, 4000)
    choose(page, "Method", "Wanda++")
    page.get_by_role("button", name="Prune inside the blocks").click()
    page.get_by_role("button", name="Perplexity so far").click()
    wait_for_plot(page, "block-errors", "plot._fullData.some(each => each.name === 'perplexity so far')")
    page.reload()
    choose(page, "Method", "Wanda++")
    find_plot(page, "block-errors")
    page.get_by_role("button", name=re.compile("^Stop$")).click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible(timeout=WAIT)
