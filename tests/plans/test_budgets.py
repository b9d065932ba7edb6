"""Budgets: read from text, met by what really goes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from transformers import OpenAIGPTConfig

from explorer.errors import PlanError
from explorer.evaluation import decode_speed
from explorer.evaluation.token_rate import TokenRate
from explorer.masks.mask import PARTS, Mask, Site
from explorer.model.cost_model import CostModel
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.plans.budgets import Budget
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import VOCABULARY, load_folder, make_model, save

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
     ("bytes=30%", Budget("bytes", 0.3)), ("kv=30%", Budget("kv", 0.3)), ("flops=2.5%", Budget("flops", 0.025)),
     ("decode=80%", Budget("decode", 0.8, True)), ("6 layers", Budget("layers", 6)), ("12  sites", Budget("sites", 12)),
     ("20% of parameters", Budget("parameters", 0.2)), ("2.5% of the flops", Budget("flops", 0.025)),
     (" 4 GiB", Budget("bytes", 2**32, True)), ("1.5GB", Budget("bytes", 1.5e9, True))],
)  # fmt: skip
def test_budgets_are_read(text: str, expected: Budget) -> None:
    found = Budget.parse(text)
    assert (found.of, found.fits) == (expected.of, expected.fits)
    assert found.amount == pytest.approx(expected.amount)


@pytest.mark.parametrize(
    "text",
    ["", "layers", "layers=", "layers=0", "layers=1.5", "layers=10%", "sites=-2", "parameters=0%", "parameters=100%",
     "parameters=20", "parameters=1e9", "bytes=6", "bytes=6XB", "bytes=0GiB", "kv=2GiB", "speed=20%", "kv=nan%",
     "decode=80", "decode=100%",
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


def _take(mask: Mask) -> float:
    """Seconds of a token where an attention takes 2, and an MLP of an even layer 3, of an odd one 5."""
    return 10 + sum(2 if part == "attention" else (3, 5)[layer % 2] for layer in range(4) for part in _on(mask, layer))


def _on(mask: Mask, layer: int) -> list[str]:
    return [part for part, off in zip(PARTS, mask.off(layer), strict=True) if not off]


def _decode(loaded: LoadedModel, masks: list[Mask], progress: object) -> list[TokenRate | None]:
    return [TokenRate(1 / _take(mask), (0.9 / _take(mask), 1.1 / _take(mask))) for mask in masks]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, llama: LoadedModel) -> None:
    """A model whose even and odd layers are not alike, and take their time."""
    monkeypatch.setattr(decode_speed, "measure_decode_speed", _decode)
    kind = CostModel.kind
    monkeypatch.setattr(CostModel, "kind", lambda self, layer: (layer % 2, *kind(self, layer)))


@pytest.mark.usefixtures("clock")
def test_sites_take_what_a_token_is_quicker_without_them(llama: LoadedModel) -> None:
    found = decode_speed.measure_decode_times(llama)
    assert found is not None
    assert found.whole == pytest.approx(10 + 4 * 2 + 2 * 3 + 2 * 5)
    assert {site: round(seconds, 9) for site, seconds in found.sites.items()} == {
        Site(layer, part): 2 if part == "attention" else (3, 5)[layer % 2] for layer in range(4) for part in PARTS
    }
    assert found.share(Mask.parse("1,m2")) == pytest.approx(_take(Mask.parse("1,m2")) / found.whole)


@pytest.mark.usefixtures("clock")
def test_a_plan_ends_where_decoding_takes_no_more_than_asked(llama: LoadedModel, llama_corpus: Corpus) -> None:
    for percent in (95, 70, 52):
        plan = make_plan(llama, llama_corpus, PlanSpec.parse(f"deepest;budget=decode={percent}%"), Store(None))
        shares = [_take(mask) / _take(Mask()) for mask in plan.masks]
        assert shares[-1] <= percent / 100 < shares[-2]
    with pytest.raises(PlanError, match="The budget cannot be met"):
        make_plan(llama, llama_corpus, PlanSpec.parse("deepest;budget=decode=20%"), Store(None))


def test_with_other_work_in_between_there_is_no_budget_of_seconds(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_speed, "measure_decode_speed", lambda loaded, masks, progress: [None] * len(masks))
    with pytest.raises(PlanError, match="other work came in between"):
        make_plan(llama, llama_corpus, PlanSpec.parse("deepest;budget=decode=80%"), Store(None))


def test_what_is_left_out_to_time_it_leaves_an_attention(llama: LoadedModel) -> None:
    left_out = decode_speed._group(llama)
    assert [str(mask) for mask in left_out] == ["a1-3", "m0-3"]
    assert [str(mask) for mask in left_out.values()] == ["a0-3", "m0-3"]


def test_of_whole_layers_one_is_left_to_time_them(tmp_path: Path) -> None:
    config = OpenAIGPTConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=64)
    loaded = load_folder(save(make_model(config), tmp_path / "model"))
    assert [(str(out), str(of)) for out, of in decode_speed._group(loaded).items()] == [("1-2", "0-2")]
    found = decode_speed.measure_decode_times(loaded)
    assert found is not None
    assert set(found.sites) == {Site(layer, part) for layer in range(3) for part in PARTS}
