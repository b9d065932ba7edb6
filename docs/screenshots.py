"""Make the pictures of the README, and below screenshots/ one of every page and view to look at.

Those are of the default model, light, dark and 390 pixels wide; and of Explore and Analyse on a model of 126 layers,
light and narrow.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, expect

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from tests.support.browser import VIEWS, open_browser, serve  # noqa: E402
from tests.support.tiny_models import save_deep  # noqa: E402

PAGES = {
    "explore": "?mask=12-15&modify=refit",
    "analyse": "",
    "plans": "",
    "heal": "?mask=12-15",
    "sparsity": "",
    "evaluate": "",
    "export": "?mask=25,a26",
}
COMPARED = ("a25-26", "25,a26,m17", "10-12")
FORMS: dict[str, dict] = {
    "light": {"viewport": {"width": 1440, "height": 900}},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
}
_BUSY = "[data-testid=stProgress], [data-stale=true]"
_AWAITED = re.compile(r"measuring|\((waiting|writing)\)|waiting behind|\d (s|min|h) left$")  # in place of what comes
_NO_TOUR = "localStorage.setItem('explorer-tour', 'seen')"


def main() -> None:
    """Take the pictures."""
    with serve() as url, open_browser() as browser:
        show_readme(open_page(browser, {"viewport": {"width": 1280, "height": 1060}}), url)
        for form, options in FORMS.items():
            page = open_page(browser, options)
            for name, views in VIEWS.items():
                for view in views or ("",):
                    query = {"mask": "12-15", **({"page" if name == "docs" else "view": view} if view else {})}
                    take(page, f"{url}/{name}?{urlencode(query)}", f"{form}-{name or 'explore'}-{view}")
    with tempfile.TemporaryDirectory() as folder, serve(OMP_NUM_THREADS="1") as url, open_browser() as browser:
        model = save_deep(126, Path(folder))
        query = urlencode({"model": model, "mask": "40-52,a70", "tokens": 240, "window": 24})
        for form in ("light", "narrow"):
            page = open_page(browser, FORMS[form])
            for name in ("", "analyse"):
                take(page, f"{url}/{name}?{query}", f"126-{form}-{name or 'explore'}")


def show_readme(page: Page, url: str) -> None:
    """Take the pictures that the README and its pages show."""
    for name, query in PAGES.items():
        page.goto(f"{url}/{'' if name == 'explore' else name}{query}")
        settle(page)
        page.screenshot(path=DOCS / f"{name}.png")
    page.goto(f"{url}/compare?of={'~'.join(COMPARED)}")
    page.locator(".comparison table").wait_for(timeout=60_000)
    settle(page)
    page.screenshot(path=DOCS / "compare.png")


def open_page(browser: Browser, options: dict) -> Page:
    """Open a page as somebody does who was here before."""
    page = browser.new_page(**options)
    page.add_init_script(_NO_TOUR)
    return page


def take(page: Page, address: str, name: str) -> None:
    """Take a picture of all of a page."""
    page.goto(address)
    settle(page)
    name = name.rstrip("-").replace(" ", "-").lower()
    seen = page.viewport_size or {"width": 1440, "height": 900}
    tall = page.locator(".stMain").evaluate("main => main.scrollHeight")  # it is this that scrolls, not the page
    page.set_viewport_size({"width": seen["width"], "height": max(tall, seen["height"])})
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS.parent / "screenshots" / f"{name}.png")
    page.set_viewport_size(seen)


def settle(page: Page) -> None:
    """Wait until the model is there and nothing waits; a page of documentation has neither."""
    if "/docs" in page.url:
        page.locator(".st-key-text-of-document").wait_for(timeout=60_000)
    else:
        frame = page.locator(".st-key-frame")
        frame.get_by_text("bfloat16").or_(page.get_by_text("float32 on")).first.wait_for(timeout=180_000)
        page.locator(".st-key-work").get_by_text("Work: none").wait_for(timeout=900_000)
        page.wait_for_function(f"!document.querySelector('{_BUSY}')", timeout=180_000)
        expect(page.get_by_text(_AWAITED)).to_have_count(0, timeout=180_000)
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    main()
