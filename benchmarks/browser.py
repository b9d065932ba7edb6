"""The dashboard in a real browser: from start to ready, from toggle to readout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from benchmarks.engine import Row
from tests.browser import open_browser, serve


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    start = time.perf_counter()
    with serve() as url, open_browser() as browser:
        page = browser.new_page()
        page.goto(f"{url}/prune")
        readout = page.locator(".st-key-readout [data-testid=stMetricValue]")
        readout.wait_for(timeout=120_000)
        yield "server start to first readout in the browser", f"{time.perf_counter() - start:.1f} s", ""
        page.locator(".st-key-samples").get_by_text("…").wait_for(state="detached", timeout=120_000)
        yield "toggle to new readout", f"{median(_toggle(page, layer) for layer in range(3, 27, 3)):.2f} s", ""
        yield "toggle to a stored readout", f"{median(_toggle(page, layer) for layer in range(24, 2, -3)):.2f} s", ""


def _toggle(page, layer: int) -> float:  # type: ignore[no-untyped-def]
    """Toggle a layer and wait for the frame to show its mask and the readout its perplexity."""
    readout = page.locator(".st-key-readout [data-testid=stMetricValue]")
    before = readout.inner_text()
    start = time.perf_counter()
    page.get_by_role("switch", name=f"layer {layer}", exact=True).click()
    page.wait_for_function(
        "before => { const e = document.querySelector('.st-key-readout [data-testid=stMetricValue]');"
        " return e && e.innerText !== before; }",
        arg=before,
        timeout=120_000,
    )
    return time.perf_counter() - start
