"""Make the pictures of the README: the pages of the dashboard on the default model."""

import sys
from pathlib import Path

from playwright.sync_api import Page

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from tests.support.browser import open_browser, serve  # noqa: E402

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
_BUSY = "[data-testid=stProgress], [data-stale=true]"


def main() -> None:
    """Open each page, wait until nothing is on its way, and take its picture."""
    with serve() as url, open_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1060})
        for name, query in PAGES.items():
            page.goto(f"{url}/{'' if name == 'explore' else name}{query}")
            settle(page)
            page.screenshot(path=DOCS / f"{name}.png")
        page.goto(f"{url}/compare?of={'~'.join(COMPARED)}")
        page.locator(".comparison table").wait_for(timeout=60_000)
        settle(page)
        page.screenshot(path=DOCS / "compare.png")


def settle(page: Page) -> None:
    """Wait until the model is there and nothing waits."""
    frame = page.locator(".st-key-frame")
    frame.get_by_text("bfloat16").or_(page.get_by_text("float32 on")).first.wait_for(timeout=180_000)
    page.locator(".st-key-queue").get_by_text("Queue: empty").wait_for(timeout=900_000)
    page.wait_for_function(
        f"!document.querySelector('{_BUSY}') && !document.body.innerText.match(/measuring|…/)", timeout=180_000
    )
    page.wait_for_timeout(1500)


main()
