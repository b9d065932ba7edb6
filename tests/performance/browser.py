"""The dashboard in a real browser: from start to ready, from event to paint, from toggle to readout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, expect

from tests.performance.engine import Row
from tests.support.browser import WAIT, open_browser, open_page, serve
from tests.support.instrument import Instrument, drag
from tests.support.tiny_models import save_deep

VALUE, TAG = ".instrument .value", ".instrument .tag"
_WATCH = """box => {
  window.painted = [];
  box.querySelector('[type=range]').addEventListener('input', (event) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => window.painted.push(performance.now() - event.timeStamp);
    port2.postMessage(0);
  }), true);
}"""


#: Notes how long after a press the readout says another number.
_WATCH_FIRST = """box => {
  window.firsts = [];
  const value = box.querySelector('.value');
  box.addEventListener('pointerdown', ({ timeStamp }) => {
    const before = value.textContent;
    const look = () => value.textContent !== before && /\\d/.test(value.textContent)
      ? window.firsts.push(performance.now() - timeStamp) : requestAnimationFrame(look);
    look();
  }, true);
}"""
_TOGGLED = (3, 24, 12, 6, 21, 15, 9, 18)


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    yield from walk()
    start = time.perf_counter()
    with serve() as url, open_browser() as browser, open_page(browser) as page:
        page.goto(f"{url}")
        page.locator(TAG).get_by_text("measured").wait_for()
        yield "server start to first readout in the browser", f"{time.perf_counter() - start:.1f} s", ""
        page.locator(".sample .state").first.wait_for(state="detached")
        page.locator(".instrument").evaluate(_WATCH_FIRST)
        exact = [_toggle(page, f"layer {layer}") for layer in _TOGGLED]
        first = sorted(page.evaluate("window.firsts"))
        what = f"toggle to first number, whatever it is marked as: p50, p95 of {len(first)}"
        yield what, f"{median(first):.0f} ms, {first[int(0.95 * len(first))]:.0f} ms", "100 ms"
        yield "toggle to exact value", f"{median(exact):.2f} s", ""
        stored = [_reload(page, url, mask) for mask in ("3", "3,24", "3,12,24", "3,6,12,24")]
        yield "stored value to readout, round trip", f"{1000 * median(stored):.0f} ms", "250 ms"
    with serve(OMP_NUM_THREADS="1") as url, open_browser() as browser:  # tiny layers lose by threads
        for layers in (32, 126):
            yield _time_paints(browser, url, layers)


def walk() -> Iterator[Row]:
    """Walk from a machine that has only the files to an exported checkpoint, as somebody who is new here does."""
    with tempfile.TemporaryDirectory() as folder:
        places = {f"EXPLORER_{name}": str(Path(folder) / name.lower()) for name in ("CACHE", "EXPORTS")}
        laps = _Laps()
        subprocess.run([sys.executable, "-m", "explorer", "prepare"], env=os.environ | places, check=True)
        with serve(**places) as url, open_browser() as browser, open_page(browser) as page:
            yield "first minutes: the default model converted, and served", laps.lap(), "60 s"
            page.goto(url)
            slider, tag = page.get_by_role("slider", name="Pruned along the plan"), page.locator(TAG)
            seen = _note(
                page,
                heatmap=page.locator("[data-part=scale]").get_by_text("Angular distance").is_visible,
                loaded=page.locator(".st-key-frame").get_by_text(re.compile("float.* on ")).first.is_visible,
                measured=tag.get_by_text("measured", exact=True).is_visible,
                plan=lambda: slider.count() == 1 and slider.is_enabled(),
            )
            yield "then the first heatmap", laps.lap(seen["heatmap"]), "10 s"
            waited = seen["measured"] - seen["loaded"]
            yield "first visit, cold: model in memory to a measured perplexity", f"{waited:.1f} s", "5 s"
            yield "then the plan, so that the slider can be dragged", laps.lap(), ""
            drag(page, slider, 0.2)
            released = time.perf_counter()
            pruned = page.locator(".sample").first.locator(".side").nth(1)
            seen = _note(
                page,
                measured=tag.get_by_text("measured", exact=True).is_visible,
                sample=lambda: pruned.count() == 1 and "repetition" in pruned.locator(".note").inner_text(),
            )
            yield "then a slider drag measured", laps.lap(seen["measured"]), "5 s"
            yield "the first pruned sample, after its release", f"{seen['sample'] - released:.1f} s", "8 s"
            laps.lap()
            page.get_by_role("link", name="Export", exact=True).first.click()
            page.get_by_role("button", name="Export", exact=True).click()
            page.get_by_text("Wrote ").first.wait_for()
            yield "then an export, written and proven", laps.lap(), "30 s"


class _Laps:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self, until: float | None = None) -> str:
        """Return the seconds since the last, until a time that was noted or now."""
        before, self._last = self._last, until or time.perf_counter()
        return f"{self._last - before:.1f} s"


def _note(page: Page, **conditions: Callable[[], bool]) -> dict[str, float]:
    """Wait until each condition held once; return when each did first."""
    seen: dict[str, float] = {}
    deadline = time.perf_counter() + WAIT / 1000
    while len(seen) < len(conditions) and time.perf_counter() < deadline:
        seen |= {name: time.perf_counter() for name, holds in conditions.items() if name not in seen and holds()}
        page.wait_for_timeout(20)
    return seen


def _toggle(page: Page, switch: str) -> float:
    """Toggle a switch; return the seconds to the measured number."""
    before = page.locator(VALUE).inner_text()
    start = time.perf_counter()
    page.get_by_role("switch", name=switch, exact=True).click()
    expect(page.locator(VALUE)).not_to_have_text(before)
    expect(page.locator(TAG)).to_have_text("measured")
    return time.perf_counter() - start


def _reload(page: Page, url: str, mask: str) -> float:
    """Set a stored mask in a session that has never seen it; return the seconds from the last click to its value."""
    *before, last = mask.split(",")
    page.goto(f"{url}/?mask={','.join(before) or 'none'}")
    page.locator(TAG).get_by_text("measured").wait_for()
    page.wait_for_timeout(2000)
    return _toggle(page, f"layer {last}")


def _time_paints(browser: Browser, url: str, layers: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        model = save_deep(layers, Path(folder))
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


if __name__ == "__main__":
    for row in run():
        print("| " + " | ".join(row) + " |", flush=True)
