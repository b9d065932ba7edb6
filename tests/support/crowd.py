"""A crowd of users who toggle, change their minds, lose their connections and take another model."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from explorer.masks.mask import NONE, PARTS, Mask, Site
from tests.support.browser import serve
from tests.support.many_users import TEXT, ask_command_line
from tests.support.protocol import User
from tests.support.tiny_models import Tiny
from ui.parts.number_format import describe_perplexity

#: What users do before they wait for a readout, and how often.
HABITS = {"wait": 60, "cancel": 15, "page": 5, "drop": 8, "return": 8, "model": 4}


@dataclass
class Outcome:
    """What a crowd saw.

    Args:
        readouts: (model, mask, readout) of everything that was waited for.
        done: how often each thing was done.
        again: how often a readout did not come within a minute and was asked for again.
        errors: what the pages said of errors.
    """

    readouts: list[tuple[str, str, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    again: int = 0
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
    first = list(HABITS)[number % len(HABITS)]  # each is done at least once, however slow the machine
    async with User(url, model=models[number % len(models)], **how) as user:
        while time.monotonic() < until:
            model = user.parameters["model"]
            asked = first or draw.choices(list(HABITS), list(HABITS.values()))[0]
            first = ""
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
            out.readouts.append((model, mask, await _read(user, mask, limit, out)))
            out.done[asked] += 1
            await asyncio.sleep(draw.uniform(0, 0.3))
        out.errors += user.errors


async def _read(user: User, mask: str, limit: float, out: Outcome) -> str:
    """Wait for a mask's readout; ask again after a minute, as a user would load the page again."""
    until = time.monotonic() + limit
    while True:
        try:
            return (await user.turn_off(mask, 60))[0]
        except TimeoutError:
            if time.monotonic() > until:
                raise
            out.again += 1


@dataclass(frozen=True)
class Held:
    """What a server holds: resident bytes and open descriptors."""

    bytes: int
    descriptors: int


def look_at(process: psutil.Process) -> Held:
    """Read what a server holds."""
    return Held(process.memory_info().rss, process.num_fds())


@dataclass(frozen=True)
class Stand:
    """How a server stood a crowd.

    Args:
        wrong: (model, mask, readout) that are not the command line's.
        before, after: what the server held when each model had been loaded once, and when all had left.
        health: what it said of itself at the end.
    """

    outcome: Outcome
    wrong: list[tuple[str, str, str]]
    before: Held
    after: Held
    health: dict[str, Any]


#: Descriptors by which a server may differ from before: sessions that left are kept for two seconds here.
SLACK = 24
USERS = 20
_MASKS = [
    NONE,
    *(Mask(frozenset({Site(layer, part)})) for layer in range(4) for part in PARTS),
    *(Mask.of_layers([a, b]) for a in range(4) for b in range(a)),
]


def stand(tiny: Tiny, cache: Path, seconds: float) -> Stand:
    """Have a server of its own stand a crowd over two tiny models."""
    models = [str(tiny.folder(name)) for name in ("llama", "gpt2")]
    expected = {model: ask_command_line(model, set(_MASKS)) for model in models}
    environment = {"EXPLORER_CACHE": str(cache), "STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": "2"}
    with serve(OMP_NUM_THREADS="1", **environment) as url:
        port = int(url.rpartition(":")[2])
        (server,) = [child for child in psutil.Process().children() if str(port) in child.cmdline()]
        asyncio.run(_warm(url, models))
        before = look_at(server)
        outcome = asyncio.run(gather(url, dict.fromkeys(models, _MASKS), TEXT, seconds, USERS))
        after = asyncio.run(_settle(url, server, before.descriptors + SLACK))
        with urllib.request.urlopen(f"{url}/healthz", timeout=60) as answer:
            health = json.load(answer)
    wrong = [each for each in outcome.readouts if each[2] != describe_perplexity(expected[each[0]][each[1]])]
    return Stand(outcome, wrong, before, after, health)


async def _warm(url: str, models: list[str]) -> None:
    for model in models:
        async with User(url, model=model, **TEXT) as user:
            await _read(user, "none", 900, Outcome())


async def _settle(url: str, process: psutil.Process, descriptors: int, limit: float = 180) -> Held:
    """Wait until a server has let go of the sessions of those who left, down to a number of descriptors."""
    until = time.monotonic() + limit
    while look_at(process).descriptors > descriptors and time.monotonic() < until:
        async with User(url):  # sessions are dropped when others come and go
            await asyncio.sleep(1)
    return look_at(process)
