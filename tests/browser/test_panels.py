"""Panels are pushed: what a page waits for arrives without the browser asking again, and pages left stay left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from explorer.masks.mask import Mask
from tests.support.browser import serve
from tests.support.instrument import Instrument
from tests.support.many_users import TEXT, ask_command_line
from tests.support.protocol import User
from tests.support.tiny_models import Tiny
from ui.parts.number_format import describe_perplexity


def test_a_readout_comes_without_being_asked_for_again(tiny: Tiny, tmp_path: Path) -> None:
    model, masks = str(tiny.folder("llama")), ["1", "1,a2", "m0"]
    expected = ask_command_line(model, {Mask.parse(mask) for mask in masks})

    async def look(url: str) -> None:
        async with User(url, model=model, **TEXT) as user:
            for mask in masks:
                readout, _ = await user.turn_off(mask)
                assert readout == describe_perplexity(expected[mask])
            assert user.errors == []

    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        asyncio.run(look(url))


def test_a_step_back_that_comes_with_the_bell_of_a_panel_is_taken_by_the_whole_page(tiny: Tiny, tmp_path: Path) -> None:
    async def look(url: str) -> None:
        async with User(url, model=str(tiny.folder("llama")), **TEXT) as user:
            for mask in ("1", "1,a2"):
                await user.turn_off(mask)
            await asyncio.sleep(1)  # until nothing else has panels run
            await user.slip("1", limit=20)
            assert user.errors == []

    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        asyncio.run(look(url))


class Listener(User):
    """A user who remembers which components each panel was told of."""

    told: dict[str, list[str]]

    def _take_component(self, fragment: str, component: Any) -> None:
        self.told.setdefault(fragment, []).append(component.component_name)
        super()._take_component(fragment, component)


def test_the_bell_of_a_panel_is_the_last_that_is_told_of_it(tiny: Tiny, tmp_path: Path) -> None:
    async def look(url: str) -> None:
        user = Listener(url, model=str(tiny.folder("llama")), **TEXT)
        user.told = {}
        async with user:
            await user.turn_off("1")
            await asyncio.sleep(1)
        told = [names for fragment, names in user.told.items() if fragment]
        assert max(map(len, told)) > 1
        assert all(names[-1].endswith("bell") for names in told)

    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        asyncio.run(look(url))


def test_what_a_page_waited_for_does_not_lead_back_to_it(tiny: Tiny, tmp_path: Path) -> None:
    async def look(url: str) -> None:
        async with User(url, model=str(tiny.folder("llama")), **TEXT) as user:
            await user.turn_off("1")
            await asyncio.sleep(0.5)
            await user.leave("export")
            await asyncio.sleep(1)
            assert user.page == user.pages["export"]
            assert user.errors == []

    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        asyncio.run(look(url))


def test_a_panel_that_is_due_as_its_page_is_left_does_not_take_the_next_away(
    page: Page, tiny: Tiny, tmp_path: Path
) -> None:
    link = "[...document.querySelectorAll('a')].find(a => a.textContent.includes('Compare'))"
    news = "JSON.stringify({ run: [...tab.bells].map(([number, bell]) => [number, bell.run]) })"
    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        shown = Instrument(page, url, tiny.folder("llama"))
        for pause in (0, 4, 8, 16, 32):
            shown.wait_for_plan()
            page.evaluate(f"""() => {{
                const tab = window.layerExplorerTab;
                {link}.click();
                setTimeout(() => tab.source.onmessage({{ data: {news} }}), {pause});
            }}""")
            expect(page.get_by_text("Everything that was scored on these windows")).to_be_visible()
            page.get_by_role("link", name="Explore").first.click()
            expect(shown.tag).to_have_text("measured")
