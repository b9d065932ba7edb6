"""Panels are pushed: what a page waits for arrives without the browser asking again, and pages left stay left."""

from __future__ import annotations

import asyncio
from pathlib import Path

from explorer.masks.mask import Mask
from tests.support.browser import serve
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
