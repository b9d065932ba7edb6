"""Twenty users of one server: every readout is the command line's value for that mask, and memory is steady."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import psutil

from explorer.masks.mask import PARTS, Mask, Site
from tests.support.browser import serve
from tests.support.protocol import User
from tests.support.tiny_models import WINDOW, Tiny
from ui.parts.number_format import describe_perplexity

USERS, TOGGLES = 20, 10
TEXT = {"tokens": str(10 * WINDOW), "window": str(WINDOW), "dtype": "float32", "device": "cpu"}


def walk(seed: int, n_layers: int = 4) -> list[Mask]:
    """Masks that a user goes through: one site toggled at a time; some start alike."""
    draw, mask, masks = random.Random(seed % 15), Mask(), []
    while len(masks) < TOGGLES:
        mask = Mask(mask.sites ^ {Site(draw.randrange(n_layers), draw.choice(PARTS))})
        masks.append(mask)
    return masks


def ask_command_line(model: str, masks: set[Mask]) -> dict[str, float]:
    options = [f"--{name}={value}" for name, value in {**TEXT, "model": model}.items()]
    asked = [option for mask in masks for option in ("--mask", str(mask))]
    command = [sys.executable, "-m", "explorer", "score", "--json", "--no-cache", *options, *asked]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {score["mask"]: score["perplexity"] for score in found["scores"]}


async def use(
    url: str, model: str, walks: list[list[Mask]], how: dict[str, str] = TEXT
) -> list[tuple[str, str, float]]:
    """Let users walk side by side; return (mask, readout, seconds) of every toggle."""

    async def go(user: User, masks: list[Mask]) -> list[tuple[str, str, float]]:
        return [(str(mask), *await user.turn_off(str(mask))) for mask in masks]

    users = [User(url, model=model, **how) for _ in walks]
    for user in users:
        await user.__aenter__()
    found = await asyncio.gather(*(go(user, masks) for user, masks in zip(users, walks, strict=True)))
    for user in users:
        await user.__aexit__()
        assert user.errors == []
    return [entry for entries in found for entry in entries]


def count_bytes() -> int:
    """Resident memory of the server."""
    return sum(child.memory_info().rss for child in psutil.Process().children(recursive=True))


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
