"""The Explore page's instrument, as a person finds and moves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Page, expect

from tests.support.tiny_models import WINDOW

TOKENS = {"tokens": str(3 * WINDOW), "window": str(WINDOW), "dtype": "float32", "device": "cpu"}


class Instrument:
    """The Explore page of a model, and the frames that its browser sends."""

    def __init__(self, page: Page, url: str, model: Path, mask: str = "none", **more: str) -> None:
        self.page, self.sent = page, 0
        page.on("websocket", lambda socket: socket.on("framesent", lambda _: self._count()))
        query = urlencode({**TOKENS, "model": str(model), "mask": mask, **more})
        page.goto(f"{url}/?{query}")
        self.value, self.tag = page.locator(".instrument .value"), page.locator(".instrument .tag")
        self.slider = page.get_by_role("slider", name="Pruned along the plan")
        expect(self.tag).to_have_text("measured")

    def _count(self) -> None:
        self.sent += 1

    def wait_for_plan(self) -> None:
        """Wait until every step of the plan is scored, and nothing else is on its way."""
        expect(self.slider).to_be_enabled()
        expect(self.page.locator("[data-part=progress]")).to_have_text("")
        expect(self.page.locator(".st-key-work")).to_have_text("Work: none")
        self.page.wait_for_timeout(500)

    def switch(self, name: str) -> Any:
        return self.page.get_by_role("switch", name=name, exact=True)

    def removes(self, mask: str) -> None:
        expect(self.page.locator(".st-key-frame")).to_contain_text(f"Removed{mask}Perplexity")


def drag(page: Page, slider: Any, part: float, release: bool = True) -> list[str]:
    """Drag the slider's thumb from where it is to a part of the way; return the readouts on the way."""
    box = slider.bounding_box()
    assert box is not None
    value, most = (float(slider.evaluate(f"e => e.{name}")) for name in ("value", "max"))
    x = lambda share: box["x"] + 8 + (box["width"] - 16) * share  # noqa: E731
    page.mouse.move(x(value / most), box["y"] + box["height"] / 2)
    page.mouse.down()
    seen = []
    for step in range(1, 21):
        page.mouse.move(x(value / most + (part - value / most) * step / 20), box["y"] + box["height"] / 2)
        seen.append(page.locator(".instrument .value").inner_text())
    if release:
        page.mouse.up()
    return seen
