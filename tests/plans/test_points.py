"""Points of size and perplexity: what the store lists is what was scored; sizes and front by counting."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.charts.points import SIZES, draw_points
from explorer.deltas.modifier_spec import read_modifiers
from explorer.evaluation.measured import list_measured
from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE, Mask
from explorer.model.config_only import count_parameters_of_config
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.modifiers.modify import modify
from explorer.plans.points import Point, find_bits, find_front, find_half, list_points, make_point
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import variants
from tests.support.tiny_models import WINDOW
from ui.sparsity.equal_size import list_rows

LLAMA_2_70B = Path(__file__).parent.parent / "model" / "configs" / "llama-2-70b.json"


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW)


def test_every_variant_that_was_scored_is_listed(llama: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    store, chain = Store(tmp_path), ["refit", "wanda;pattern=2:4"]
    made = modify(llama, corpus, Mask.parse("1"), chain, store)
    asked = [Mask.parse("2"), Mask.parse("a1,m3"), made, modify(llama, corpus, NONE, ["sparsegpt"], store)]
    scores = score(llama, corpus, asked, store)
    score(llama, corpus, [Mask.parse("3")], store, rows=slice(0, 1))  # not on every window
    score(llama, corpus, [Mask.parse("0")], store, "calibration")
    found = {str(each): each for each in list_points(llama, corpus, Store(tmp_path))}
    expected = {
        "2 + 32 bits": scores[0], "m3,a1 + 32 bits": scores[1], "1 + refit + wanda;pattern=2:4 + 32 bits": scores[2],
        "sparsegpt + 32 bits": scores[3], "unpruned + 32 bits": scores[0].unpruned,
    }  # fmt: skip
    measured = {name: each for name, each in found.items() if each.perplexity is not None}
    assert {name.replace("a1,m3", "m3,a1"): each.perplexity for name, each in measured.items()} == {
        name: each.perplexity for name, each in expected.items()
    }
    assert set(found) - set(measured) == {"unpruned + 8 bits", "unpruned + 4 bits", "1-2 + 4 bits"}
    point = measured["1 + refit + wanda;pattern=2:4 + 32 bits"]
    assert point.modifiers == read_modifiers("refit,wanda,pattern=2:4")
    plain = variants.overwritten(llama.checkpoint.folder, made)
    kept = [each for name, each in plain.named_parameters() if "layers.1." not in name]
    assert point.bytes == 4 * sum(int(each.count_nonzero()) for each in kept)


def test_what_nobody_noted_and_what_overflowed_is_left_out(llama: LoadedModel, corpus: Corpus) -> None:
    store = Store(None)
    score(llama, corpus, [Mask.parse("1")], store)
    context = llama.numerics_key(llama.batch_shape.rows(WINDOW))
    digests = corpus.held_out.digests
    store.add_nll(context, [(digest, "1+feed", 3.0) for digest in digests])
    store.add_nll(context, [(digest, "2", float("inf")) for digest in digests])
    assert {str(each.score.mask) for each in list_measured(llama, corpus, ["none"], store)} == {"none", "1"}


def test_what_was_measured_in_four_bits_is_a_point_of_four_bits(llama: LoadedModel, corpus: Corpus) -> None:
    store, mask = Store(None), find_half(llama.n_layers)
    context = llama.numerics_key(llama.batch_shape.rows(WINDOW), "nf4")
    for each in ("none", str(mask)):
        store.add_nll(context, [(digest, each, 46.0) for digest in corpus.held_out.digests])
    found = {str(each): each.perplexity for each in list_points(llama, corpus, store)}
    assert found["unpruned + 4 bits"] == found["1-2 + 4 bits"] == pytest.approx(np.exp(46 / (WINDOW - 1)))
    assert found["unpruned + 8 bits"] is None


def test_bits_are_the_mean_of_the_layers_that_are_on() -> None:
    for modifiers, mask, expected in (
        ("round", "none", 4), ("round,bits=8", "1", 8), ("round,bits=8,layers=0-1", "none", 12),
        ("round,layers=0-1", "0", 12), ("wanda", "none", 16), ("round", "0-3", 16),
    ):  # fmt: skip
        assert find_bits(read_modifiers(modifiers), Mask.parse(mask), 4, 16) == expected


def test_multiplications_are_those_that_are_not_by_zero(llama: LoadedModel, corpus: Corpus) -> None:
    """Of a matrix half of whose entries are zero half are left; attention looks back at a whole window."""
    cost_model = count_parameters(llama.model, llama.architecture)
    matrices = [each for each in llama.model.modules() if isinstance(each, torch.nn.Linear)]
    products = sum(each.weight.numel() for each in matrices)
    whole, half = (make_point(cost_model, WINDOW, 16, zeros=zeros) for zeros in (0, products // 2))
    assert whole.multiplications - half.multiplications == pytest.approx(products / 2)
    assert whole.bytes - half.bytes == 2 * (products // 2)


def test_half_of_the_layers_and_four_bits_of_a_70b(tmp_path: Path) -> None:
    _, cost_model = count_parameters_of_config(str(LLAMA_2_70B), "bfloat16", Store(None), tmp_path)
    assert str(find_half(80)) == "39-78"
    assert make_point(cost_model, 4096, 16).bytes == pytest.approx(140e9, rel=0.02)
    assert make_point(cost_model, 4096, 4, find_half(80)).bytes == pytest.approx(17.5e9, rel=0.02)


def test_the_front_is_of_those_that_none_beats() -> None:
    generator = np.random.default_rng(0)
    points = generator.integers(0, 9, (40, 2)).astype(float)
    found = find_front(*points.T.tolist())
    kept = {tuple(points[place]) for place in found}
    beaten = {
        tuple(one) for one, other in itertools.product(points, points) if (other <= one).all() and (other < one).any()
    }
    assert kept == {tuple(each) for each in points} - beaten
    assert len(found) == len(kept)


def test_the_figure_has_every_point_with_its_variant() -> None:
    wanda = read_modifiers("wanda")
    points = [
        Point(NONE, (), 16, 200.0, 90.0, 20.0),
        Point(Mask.parse("1"), (), 16, 100.0, 50.0, 40.0),
        Point(NONE, wanda, 16, 110.0, 55.0, 30.0),
        Point(NONE, (), 4, 50.0, 90.0, None),
    ]
    for of, (title, size) in SIZES.items():
        figure = draw_points(points, of)
        drawn = {
            (x, y, *carried)
            for trace in figure.data if trace.mode == "markers"
            for x, y, carried in zip(trace.x, trace.y, trace.customdata, strict=True)
        }  # fmt: skip
        assert drawn == {
            (size(each), each.perplexity or 20.0, str(each.mask), "wanda" if each.modifiers else "") for each in points
        }
        assert figure.data[-1].y == (40.0, 30.0, 20.0)
        assert figure.layout.xaxis.title.text == title
    assert list_rows(points)["perplexity"] == [20.0, 40.0, 30.0, None]
