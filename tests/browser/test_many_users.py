"""Twenty users of one server: every readout is the command line's value for that mask, and memory is steady."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.browser import serve
from tests.support.many_users import TOGGLES, USERS, ask_command_line, count_bytes, use, walk
from tests.support.tiny_models import Tiny
from ui.parts.number_format import describe_perplexity


def test_every_readout_of_every_user_is_the_command_lines(tiny: Tiny, tmp_path: Path) -> None:
    model = str(tiny.folder("llama"))
    walks = [walk(seed) for seed in range(USERS)]
    expected = ask_command_line(model, {mask for masks in walks for mask in masks})
    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        first = asyncio.run(use(url, model, [masks[: TOGGLES // 2] for masks in walks]))
        halfway = count_bytes()
        second = asyncio.run(use(url, model, [masks[TOGGLES // 2 :] for masks in walks]))
        grown = count_bytes() - halfway
    assert len(first) + len(second) == USERS * TOGGLES
    for mask, readout, _ in first + second:
        assert readout == describe_perplexity(expected[mask]), mask
    assert grown < 2**26
