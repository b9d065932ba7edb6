"""What keeps those who cannot see or point from a page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def find_barriers(page: Page) -> list[str]:
    """List what axe calls serious or critical."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{v['id']} {node['target']} {node.get('failureSummary')}"
        for v in found if v["impact"] in ("serious", "critical") for node in v["nodes"]
    ]  # fmt: skip
