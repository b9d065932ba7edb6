"""The dashboard in a real browser: from start to ready, from event to paint, from toggle to readout."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page
from transformers import LlamaConfig

from tests.performance.engine import Row
from tests.support.browser import open_browser, open_page, serve
from tests.support.instrument import Instrument, drag
from tests.support.tiny_models import FAMILIES, make_model, save

VALUE, TAG = ".instrument .value", ".instrument .tag"
_WATCH = """box => {
  window.painted = [];
  box.querySelector('[type=range]').addEventListener('input', (event) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => window.painted.push(performance.now() - event.timeStamp);
    port2.postMessage(0);
  }), true);
}"""


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    start = time.perf_counter()
    with serve() as url, open_browser() as browser, open_page(browser) as page:
        page.goto(f"{url}")
        page.locator(TAG).get_by_text("measured").wait_for()
        yield "server start to first readout in the browser", f"{time.perf_counter() - start:.1f} s", ""
        page.locator(".sample .state").first.wait_for(state="detached")
        first, exact = zip(*[_toggle(page, f"layer {layer}") for layer in (3, 24, 12, 6, 21, 15, 9, 18)], strict=True)
        yield "toggle to first number, marked as an estimate", f"{median(first):.2f} s", ""
        yield "toggle to exact value", f"{median(exact):.2f} s", ""
        stored = [_reload(page, url, mask) for mask in ("3", "3,24", "3,12,24", "3,6,12,24")]
        yield "stored value to readout, round trip", f"{1000 * median(stored):.0f} ms", "250 ms"
    with serve(OMP_NUM_THREADS="1") as url, open_browser() as browser:  # tiny layers lose by threads
        for layers in (32, 80):
            yield _time_paints(browser, url, layers)


def _toggle(page: Page, switch: str) -> tuple[float, float]:
    """Toggle a switch; return the seconds to the first number, and to the measured one."""
    before = page.locator(VALUE).inner_text()
    start = time.perf_counter()
    page.get_by_role("switch", name=switch, exact=True).click()
    wait = "([value, tag, before]) => { const [v, t] = [value, tag].map((name) => [...document.querySelectorAll('*')]"
    wait += ".map((e) => e.shadowRoot?.querySelector(name)).find(Boolean)?.textContent);"
    for_any, for_exact = (f"{wait} return v !== before && {test}; }}" for test in ("/\\d/.test(v)", "t === 'measured'"))
    given = [".value", ".tag", before]
    page.wait_for_function(for_any, arg=given)
    first = time.perf_counter() - start
    page.wait_for_function(for_exact, arg=given)
    return first, time.perf_counter() - start


def _reload(page: Page, url: str, mask: str) -> float:
    """Set a stored mask in a session that has never seen it; return the seconds from the last click to its value."""
    *before, last = mask.split(",")
    page.goto(f"{url}/?mask={','.join(before) or 'none'}")
    page.locator(TAG).get_by_text("measured").wait_for()
    page.wait_for_timeout(2000)
    return _toggle(page, f"layer {last}")[1]


def _time_paints(browser: Browser, url: str, layers: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        config = {**FAMILIES["llama"]().to_dict(), "num_hidden_layers": layers, "initializer_range": 0.1}
        model = save(make_model(LlamaConfig(**config)), Path(folder))
        with open_page(browser) as page:
            shown = Instrument(page, url, model)
            shown.wait_for_plan()
            page.locator(".instrument").evaluate(_WATCH)
            for part in (0.95, 0.05, 0.8, 0.2):
                drag(page, shown.slider, part)
            page.wait_for_timeout(300)
            took = sorted(page.evaluate("window.painted"))
    what = f"slider at {layers} layers, event to paint: p50, p95 of {len(took)}"
    return what, f"{median(took):.1f} ms, {took[int(0.95 * len(took))]:.1f} ms", "16 ms"
