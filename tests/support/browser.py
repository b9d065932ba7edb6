"""A real server and a real browser, for the tests of the dashboard and the benchmarks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from plotly.graph_objects import Figure

#: Milliseconds that a test waits for what it expects to see, far longer than it takes on a machine that is free.
WAIT = 180_000

#: The pages by their address, and the views of each.
VIEWS: dict[str, tuple[str, ...]] = {
    "": (),
    "analyse": ("Blocks", "Layers", "Measures", "Pairs", "Tokens", "Side by side"),
    "plans": (),
    "heal": (),
    "sparsity": (),
    "evaluate": ("Abilities", "Text and objective"),
    "compare": ("History", "Side by side"),
    "export": (),
    "docs": (),
}
_FOLDERS = os.pathsep.join([tempfile.gettempdir(), "."])
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def serve(*, log: Path | None = None, descriptors: int | None = None, **environment: str) -> Iterator[str]:
    """Serve the dashboard on a free port of this machine; give its address. Links may read temporary folders too.

    Args:
        log: where what the server says goes, if anywhere.
        descriptors: that the server may have open, if fewer than this process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    limit = ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"] if descriptors else []
    with open(log or os.devnull, "wb") as said:
        server = subprocess.Popen(
            [*limit, sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
            cwd=Path(__file__).parent.parent.parent,
            env={**os.environ, "EXPLORER_MODELS": _FOLDERS, "EXPLORER_TEXTS": _FOLDERS, **environment},
            stdout=said,
            stderr=said,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_healthy(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health"):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"The dashboard did not start (exit status {server.poll()})")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, scheme: Literal["light", "dark"] = "light") -> Iterator[Page]:
    """Open a page of its own, as a browser that was never here; it waits as long as `WAIT` says."""
    expect.set_options(timeout=WAIT)
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(WAIT)
    yield context.new_page()
    context.close()


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, on white, a thousand pixels wide unless it says otherwise."""
    figure.update_layout(template="plotly_white", width=figure.layout.width or 1000)
    size = {"width": int(figure.layout.width), "height": int(figure.layout.height)}
    with open_browser() as browser:
        page = browser.new_page(viewport=size)
        page.set_content(figure.to_html(config={"staticPlot": True}))
        page.locator(".main-svg").first.wait_for()
        page.screenshot(path=path)


def settle(page: Page) -> None:
    """Wait until the page's last run is over and drawn, as somebody does who looks before clicking again."""
    expect(page.locator("[data-test-script-state]")).to_have_attribute("data-test-script-state", "notRunning")
    page.wait_for_timeout(500)


def open_choice(page: Page) -> Locator:
    """Open the dialog of model and text; return it."""
    button = page.locator(".st-key-choose_model button:visible")  # one for each width of screen is there
    expect(button).to_have_count(1)
    button.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Model", exact=True)).to_be_visible()
    return dialog


def find_plot(page: Page, name: str) -> Locator:
    """Return a figure of `draw_plot` as soon as it is there, alone: what a run replaces stays until the run ends."""
    found = page.locator(f".st-key-plot-{name} .js-plotly-plot")
    expect(found).to_have_count(1)
    expect(found).to_be_visible()
    return found


def wait_for_plot(page: Page, name: str, condition: str) -> Locator:
    """Return a figure as soon as a condition holds of it, a JavaScript expression of `plot`."""
    script = f"""() => {{
        const found = document.querySelectorAll(".st-key-plot-{name} .js-plotly-plot"), plot = found[0];
        return found.length === 1 && plot._fullData && ({condition});
    }}"""
    page.wait_for_function(script)
    return find_plot(page, name)
