"""The dashboard in a real browser: from start to ready, from toggle to readout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from playwright.sync_api import Page

from benchmarks.engine import Row
from tests.browser import open_browser, serve

READOUT = ".st-key-readout [data-testid=stMetricValue]"
NUMBER, EXACT = r"\d", r"^[\d.,]+$"


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    start = time.perf_counter()
    with serve() as url, open_browser() as browser:
        page = browser.new_page()
        page.goto(f"{url}/prune")
        _wait_for(page, EXACT, "")
        yield "server start to first readout in the browser", f"{time.perf_counter() - start:.1f} s", ""
        page.locator(".st-key-samples").get_by_text("…").first.wait_for(state="detached", timeout=120_000)
        first, exact = zip(*[_toggle(page, layer) for layer in (3, 24, 12, 6, 21, 15, 9, 18)], strict=True)
        yield "toggle to first estimate", f"{median(first):.2f} s", ""
        yield "toggle to new readout", f"{median(exact):.2f} s", ""
        stored = [_toggle(page, layer)[1] for layer in (18, 9, 15, 21, 6, 12, 24)]
        yield "toggle to a stored readout", f"{median(stored):.2f} s", ""


def _toggle(page: Page, layer: int) -> tuple[float, float]:
    """Toggle a layer; return the seconds to the first number, marked as an estimate or not, and to the exact one."""
    before = page.locator(READOUT).inner_text()
    start = time.perf_counter()
    page.get_by_role("switch", name=f"layer {layer}", exact=True).click()
    _wait_for(page, NUMBER, before)
    first = time.perf_counter() - start
    _wait_for(page, EXACT, before)
    return first, time.perf_counter() - start


def _wait_for(page: Page, pattern: str, before: str) -> None:
    page.wait_for_function(
        f"before => {{ const e = document.querySelector('{READOUT}');"
        f" return e && e.innerText !== before && /{pattern}/.test(e.innerText); }}",
        arg=before,
        timeout=180_000,
    )
