"""A minute of twenty users, two models, cancels and lost connections: no wrong number, nothing kept for ever."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psutil
import pytest

from explorer.masks import NONE, PARTS, Mask, Site
from tests.browser import serve
from tests.crowd import Held, ask_health, gather, look_at, settle
from tests.protocol import User
from tests.test_many_users import TEXT, ask_command_line
from tests.tiny_models import Tiny
from ui.figures import describe_perplexity

SECONDS, USERS = 60.0, 20
MASKS = [
    NONE,
    *(Mask(frozenset({Site(layer, part)})) for layer in range(4) for part in PARTS),
    *(Mask.of_layers([a, b]) for a in range(4) for b in range(a)),
]


@pytest.mark.stress
def test_a_minute_of_a_crowd_shows_no_wrong_number_and_leaves_nothing_behind(tiny: Tiny, tmp_path: Path) -> None:
    models = [str(tiny.folder(name)) for name in ("llama", "gpt2")]
    expected = {model: ask_command_line(model, set(MASKS)) for model in models}
    environment = {"EXPLORER_CACHE": str(tmp_path), "STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": "2"}
    with serve(OMP_NUM_THREADS="1", **environment) as url:
        (server,) = psutil.Process().children()
        before = asyncio.run(_warm(url, models, server))
        outcome = asyncio.run(gather(url, dict.fromkeys(models, MASKS), TEXT, SECONDS, USERS))
        after = asyncio.run(settle(url, server, before.descriptors + 24))
        health = json.loads(ask_health(url))
    wrong = [
        (model, mask, readout)
        for model, mask, readout in outcome.readouts
        if readout != describe_perplexity(expected[model][mask])
    ]
    assert wrong == []
    assert outcome.errors == []
    assert {model for model, *_ in outcome.readouts} == set(models)
    assert {"wait", "cancel", "page", "drop", "return", "model"} <= outcome.done.keys()
    assert after.bytes - before.bytes < 200e6
    assert after.descriptors <= before.descriptors + 24
    assert health["ok"]


async def _warm(url: str, models: list[str], server: psutil.Process) -> Held:
    """Have each model loaded once; return what the server holds then."""
    for model in models:
        async with User(url, model=model, **TEXT) as user:
            await user.turn_off("none", 900)
    return look_at(server)
