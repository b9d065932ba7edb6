"""A crowd of users who toggle, change their minds, lose their connections and take another model."""

from __future__ import annotations

import asyncio
import random
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import psutil

from explorer.masks import Mask
from tests.protocol import User


@dataclass
class Outcome:
    """What a crowd saw.

    Args:
        readouts: (model, mask, readout) of everything that was waited for.
        done: how often each thing was done.
        errors: what the pages said of errors.
    """

    readouts: list[tuple[str, str, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


async def gather(
    url: str, masks: dict[str, list[Mask]], how: dict[str, str], seconds: float, users: int, limit: float = 900
) -> Outcome:
    """Let users go about a server side by side for some time.

    Args:
        masks: those that may be asked for, by model.
        how: the rest of the link.
        limit: seconds that one readout may take; a busy machine is no fault.
    """
    outcome, until = Outcome(), time.monotonic() + seconds
    await asyncio.gather(*(_go(url, number, masks, how, until, limit, outcome) for number in range(users)))
    return outcome


async def _go(
    url: str, number: int, masks: dict[str, list[Mask]], how: dict[str, str], until: float, limit: float, out: Outcome
) -> None:
    draw = random.Random(number)
    models = list(masks)
    async with User(url, model=models[number % len(models)], **how) as user:
        while time.monotonic() < until:
            model = user.parameters["model"]
            asked = draw.choices(("wait", "cancel", "page", "drop", "return", "model"), (60, 15, 5, 8, 8, 4))[0]
            if asked in ("cancel", "drop", "return"):
                await user.hurry(str(draw.choice(masks[model])))
                await asyncio.sleep(draw.uniform(0, 0.5))
            if asked in ("drop", "return"):
                await user.drop(come_back=asked == "return")
            elif asked == "page":
                await user.leave("plans")
                await asyncio.sleep(draw.uniform(0, 0.5))
            elif asked == "model":
                model = user.parameters["model"] = draw.choice(models)
            mask = str(draw.choice(masks[model]))
            readout, _ = await user.turn_off(mask, limit)
            out.readouts.append((model, mask, readout))
            out.done[asked] += 1
            await asyncio.sleep(draw.uniform(0, 0.3))
        out.errors += user.errors


@dataclass(frozen=True)
class Held:
    """What a server holds: resident bytes and open descriptors."""

    bytes: int
    descriptors: int


def look_at(process: psutil.Process) -> Held:
    """Read what a server holds."""
    return Held(process.memory_info().rss, process.num_fds())


async def settle(url: str, process: psutil.Process, descriptors: int, limit: float = 180) -> Held:
    """Wait until a server has let go of the sessions of those who left, down to a number of descriptors."""
    until = time.monotonic() + limit
    while look_at(process).descriptors > descriptors and time.monotonic() < until:
        async with User(url):  # sessions are dropped when others come and go
            await asyncio.sleep(1)
    return look_at(process)


def ask_health(url: str) -> bytes:
    """Ask a server whether it is well."""
    with urllib.request.urlopen(f"{url}/healthz", timeout=60) as answer:
        return answer.read()
