"""Many users of one server: what each does, and what the command line says of it."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import psutil

from explorer.masks.mask import PARTS, Mask, Site
from tests.support.command_line import score_by_command_line
from tests.support.protocol import User
from tests.support.tiny_models import WINDOW

TEXT = {"tokens": str(10 * WINDOW), "window": str(WINDOW), "dtype": "float32", "device": "cpu"}

USERS, TOGGLES = 20, 10


def walk(seed: int, n_layers: int = 4) -> list[Mask]:
    """Masks that a user goes through: one site toggled at a time; some start alike."""
    draw, mask, masks = random.Random(seed % 15), Mask(), []
    while len(masks) < TOGGLES:
        mask = Mask(mask.sites ^ {Site(draw.randrange(n_layers), draw.choice(PARTS))})
        masks.append(mask)
    return masks


def ask_command_line(model: str, masks: set[Mask]) -> dict[str, float]:
    found = score_by_command_line({**TEXT, "model": model}, map(str, masks))
    return {mask: score["perplexity"] for mask, score in found.items()}


def count_bytes() -> int:
    """Resident memory of the server."""
    return sum(child.memory_info().rss for child in psutil.Process().children(recursive=True))


async def use(
    url: str, model: str, walks: list[list[Mask]], how: dict[str, str] = TEXT
) -> list[tuple[str, str, float]]:
    """Let users walk side by side, to their first masks by links, then on the strip.

    Returns (mask, readout, seconds) of each step, those by links first.
    """

    async def come(user: User, masks: list[Mask]) -> list[tuple[str, str, float]]:
        return [(str(mask), *await user.turn_off(str(mask))) for mask in masks[:1]]

    async def go(user: User, masks: list[Mask]) -> list[tuple[str, str, float]]:
        return [(str(mask), *await user.toggle(str(mask))) for mask in masks[1:]]

    async with AsyncExitStack() as there:
        users = [await there.enter_async_context(User(url, model=model, **how)) for _ in walks]
        found = []
        for walk_on in (come, go):
            found += await asyncio.gather(*(walk_on(user, masks) for user, masks in zip(users, walks, strict=True)))
    assert not (errors := [error for user in users for error in user.errors]), errors
    return [entry for entries in found for entry in entries]
