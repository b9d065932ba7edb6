"""Budgets: read from text, met by what really goes."""

from __future__ import annotations

import math

import pytest

from explorer.errors import PlanError
from explorer.masks.mask import Mask
from explorer.model.cost_model import CostModel
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.plans.budgets import Budget

CONTEXT = 24


@pytest.fixture
def cost_model(llama: LoadedModel) -> CostModel:
    return count_parameters(llama.model, llama.architecture)


def met(text: str, mask: str, cost_model: CostModel) -> bool:
    return Budget.parse(text).met(Mask.parse(mask), cost_model, CONTEXT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("layers=8", Budget("layers", 8)), ("sites=12", Budget("sites", 12)),
     (" parameters=20% ", Budget("parameters", 0.2)),
     ("bytes=6GiB", Budget("bytes", 6 * 2**30, True)), ("bytes=1.5GB", Budget("bytes", 1.5e9, True)),
     ("bytes=30%", Budget("bytes", 0.3)), ("kv=30%", Budget("kv", 0.3)), ("flops=2.5%", Budget("flops", 0.025))],
)  # fmt: skip
def test_budgets_are_read(text: str, expected: Budget) -> None:
    found = Budget.parse(text)
    assert (found.of, found.fits) == (expected.of, expected.fits)
    assert found.amount == pytest.approx(expected.amount)


@pytest.mark.parametrize(
    "text",
    ["", "layers", "layers=", "layers=0", "layers=1.5", "layers=10%", "sites=-2", "parameters=0%", "parameters=100%",
     "parameters=20", "parameters=1e9", "bytes=6", "bytes=6XB", "bytes=0GiB", "kv=2GiB", "speed=20%", "kv=nan%",
     "layers=8 9"],
)  # fmt: skip
def test_malformed_budgets_are_one_line(text: str) -> None:
    with pytest.raises(PlanError) as error:
        Budget.parse(text)
    assert "\n" not in str(error.value)


def test_layers_are_whole_and_sites_are_sites(cost_model: CostModel) -> None:
    assert met("layers=1", "2", cost_model)
    assert not met("layers=1", "a0-3", cost_model)
    assert met("sites=2", "2", cost_model)
    assert met("sites=2", "a0,m3", cost_model)
    assert not met("sites=3", "2", cost_model)


def test_shares_are_of_the_whole_model(llama: LoadedModel, cost_model: CostModel) -> None:
    whole = sum(p.numel() for p in llama.model.parameters())
    gone = sum(p.numel() for p in llama.wrappers.layers[1].parameters())
    share = 100 * gone / whole
    for of in ("parameters", "bytes"):
        assert met(f"{of}={share - 0.1:.3f}%", "1", cost_model)
        assert not met(f"{of}={share + 0.1:.3f}%", "1", cost_model)
    assert met(f"bytes={4 * (whole - gone) / 1000:.3f}kB", "1", cost_model)
    assert not met(f"bytes={4 * (whole - gone) / 1000 - 0.01:.3f}kB", "1", cost_model)
    assert met(f"bytes={4 * whole / 1000:.3f}kB", "none", cost_model)
    flops = [cost_model.costs(Mask.parse(mask), CONTEXT).flops_per_token for mask in ("none", "a1")]
    assert met(f"flops={100 * (1 - flops[1] / flops[0]) - 0.1:.3f}%", "a1", cost_model)
    assert not met(f"flops={100 * (1 - flops[1] / flops[0]) + 0.1:.3f}%", "a1", cost_model)


def test_only_attention_has_a_cache(cost_model: CostModel) -> None:
    assert met("kv=25%", "a2", cost_model)
    assert not met("kv=25%", "m0-3", cost_model)
    assert not met("kv=26%", "a2", cost_model)


@pytest.mark.parametrize("n_layers", [3, 10, 30, 80, 100])
def test_shares_that_come_out_even_are_met(n_layers: int) -> None:
    """As 90% of ten layers by nine of them, however 0.9 is rounded."""
    even = CostModel(
        1, 1, 0, *(((0, 0, 0),) * n_layers,) * 2, ((0, 0),) * n_layers, (math.inf,) * n_layers,
        (2 * 3 * 64,) * n_layers, (0,) * n_layers, (64,) * n_layers, 2,
    )  # fmt: skip
    for percent in range(1, 100):
        enough = -(-n_layers * percent // 100)
        for gone in (enough - 1, enough):
            mask = Mask.parse(f"a0-{gone - 1}" if gone else "none")
            assert met(f"kv={percent}%", str(mask), even) == (gone == enough), (percent, gone)
