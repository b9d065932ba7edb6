"""Make the pictures of the README: the pages of the dashboard on the default model."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from tests.browser import open_browser, serve  # noqa: E402

PAGES = {"redundancy": "", "prune": "?mask=25,a26,m17", "overview": "", "export": "?mask=25,a26"}
_BUSY = "[data-testid=stProgress], [data-stale=true]"


def main() -> None:
    """Open each page, wait until nothing is on its way, and take its picture."""
    with serve() as url, open_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        for name, query in PAGES.items():
            page.goto(f"{url}/{'' if name == 'overview' else name}{query}")
            page.locator(".st-key-frame").get_by_text("bfloat16").or_(page.get_by_text("float32 on")).first.wait_for(
                timeout=180_000
            )
            page.wait_for_function(
                f"!document.querySelector('{_BUSY}') && !document.body.innerText.match(/measuring|…/)", timeout=180_000
            )
            page.wait_for_timeout(1500)
            page.screenshot(path=DOCS / f"{name}.png")


main()
