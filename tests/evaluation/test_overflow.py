"""A model whose float16 overflows on some tokens: a result of its own, never a crash and never a number."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch

from explorer.evaluation.divergence import measure_divergence
from explorer.evaluation.perplexity import find_stored_scores, score
from explorer.evaluation.scores import Overflow
from explorer.jsonable import to_json
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.catalogue import MEASURES
from explorer.measures.interactions import interact
from explorer.measures.measure import measure_importance
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel
from explorer.numerics.racing import race
from explorer.plans.curve import trace_curve
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny, load_folder
from ui.explore.score_format import write_score
from ui.parts.number_format import describe_score

LAYER = 2  # whose MLP overflows on one token of the text
FREE = Mask.parse(f"m{LAYER}")  # without it nothing does


@pytest.fixture(scope="module")
def folder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama that overflows in float16 where a token of the text is, and on none of the self-check."""
    made = tmp_path_factory.mktemp("overflow") / "model"
    made.mkdir()
    for path in tiny.folder("llama").iterdir():
        if path.is_file():
            (made / path.name).write_bytes(path.read_bytes())
    llama = tiny.load("llama")
    ids = llama.tokenize("python-docs", 5 * WINDOW, WINDOW)
    drawn = torch.randint(llama.wrappers.vocabulary, (2, 8), generator=torch.Generator().manual_seed(0))
    seen = {0, *drawn.flatten().tolist()}
    both = (ids.calibration.ids, ids.held_out.ids)
    elsewhere = {token for windows in both for token in [*windows[0].tolist(), *windows[:, -1].tolist()]}
    rare = {*both[0][3].tolist()} & {*both[1][3].tolist()}
    token = min(rare - seen - elsewhere)
    weights = safetensors.load_file(made / "model.safetensors")
    weights["model.embed_tokens.weight"][token, :16] = 65000
    updates: list[float] = []
    plain = brute_force.plain(made)
    plain.model.layers[LAYER].mlp.register_forward_hook(lambda *call: updates.append(float(call[2].abs().max())))
    brute_force.logits(plain, ids.held_out.ids)
    weights[f"model.layers.{LAYER}.mlp.down_proj.weight"] *= 8000 / updates[0]
    safetensors.save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    return made


@pytest.fixture(scope="module")
def half(folder: Path) -> LoadedModel:
    loaded = load_folder(folder, "float16")
    loaded.batch_shape.tokens = 4 * WINDOW
    return loaded


@pytest.fixture(scope="module")
def corpus(half: LoadedModel) -> Corpus:
    return half.tokenize("python-docs", 5 * WINDOW, WINDOW)


def _finite_by_hand(loaded: LoadedModel, ids: np.ndarray, mask: Mask) -> list[bool]:
    with torch.no_grad(), loaded.wrappers.as_variant(mask):
        return [bool(loaded.model(torch.from_numpy(row)[None], use_cache=False).logits.isfinite().all()) for row in ids]


def test_a_score_says_where_it_overflows_and_is_stored_as_no_number(
    half: LoadedModel, corpus: Corpus, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    later = Mask.parse("3")
    found, free, other = score(half, corpus, [NONE, FREE, later], store)
    sound = _finite_by_hand(half, corpus.held_out.ids, NONE)
    assert 0 < sum(sound) < 5
    assert np.isfinite(found.nll).tolist() == sound
    assert np.isfinite(free.nll).all()
    assert found.perplexity == other.perplexity == math.inf
    assert found.overflow == other.overflow == Overflow("float16", LAYER, 4)
    assert free.overflow is None
    assert free.baseline_overflow == found.overflow
    assert str(found.overflow) == describe_score(found) == f"overflow (float16, from layer {LAYER})"
    assert found.perplexity_ci95 is None
    assert free.delta_ci95 is None
    assert to_json([found.perplexity, found.total_nll, free.delta_nll_per_token]) == [None, None, None]
    assert write_score(found)[:3] == [None, None, None]
    assert write_score(found)[6] == describe_score(found)
    assert json.dumps([write_score(found), write_score(free)], allow_nan=False)
    known = find_stored_scores(half, corpus, [NONE, FREE], store)
    assert known[NONE].overflow == found.overflow
    np.testing.assert_array_equal(known[NONE].nll, found.nll)
    context = half.numerics_key(half.batch_shape.rows(WINDOW))
    rows = store._read("SELECT nll FROM nll WHERE context=? AND mask='none'", (context,))
    assert sorted(value is None for (value,) in rows) == sorted(not each for each in sound)
    store.close()


def test_what_overflows_loses_every_race(half: LoadedModel, corpus: Corpus) -> None:
    masks = [Mask.parse("1"), Mask.parse("a3"), FREE, Mask.parse("3")]
    losses = make_loss_function(half, corpus, Store(None))
    for confidence in (0.5, 0.95, 1.0):
        assert race(masks, losses, 5, confidence).winner == FREE
    table = np.array([[1.0, math.inf, 1.0], [math.inf] * 3, [3.0, 3.0, 3.0], [4.0, 4.0, 4.0]])
    for confidence in (0.5, 0.95, 1.0):
        found = race(masks, lambda some, rows: table[[masks.index(m) for m in some]][:, rows], 3, confidence, keep=3)
        assert found.best[:2] == (FREE, Mask.parse("3"))


@pytest.mark.parametrize("method", ["greedy/mlp", "leave-one-out/layer", "block-influence/layer", "beam/site",
                                    "evolve/site", "similarity-block/layer", "taylor/layer"])  # fmt: skip
def test_plans_are_made_and_their_curves_have_gaps(half: LoadedModel, corpus: Corpus, method: str) -> None:
    store = Store(None)
    plan = make_plan(half, corpus, PlanSpec.parse(f"{method};steps=2"), store)
    curve = trace_curve(half, corpus, plan, store, divergence=True)
    for step, mask in enumerate(plan.masks):
        sound = all(_finite_by_hand(half, corpus.held_out.ids, mask))
        assert math.isfinite(curve.scores[step].perplexity) == sound
        assert (curve.scores[step].overflow is None) == sound
    if method.startswith("greedy"):
        assert plan.masks[1] == FREE


def test_no_measure_calls_what_is_not_finite_the_best(half: LoadedModel, corpus: Corpus) -> None:
    store = Store(None)
    found = measure_similarity(half, corpus, store)
    distances = found.angular_distance("mean")
    for row, best in zip(distances, found.best_starts("mean"), strict=True):
        finite = [start for start, value in enumerate(row) if math.isfinite(value)]
        assert best == (min(finite, key=row.__getitem__) if finite else None)
    assert not np.isfinite(np.concatenate(distances)).all()
    for each in measure_importance(half, corpus, list(MEASURES), store):
        finite = np.isfinite(each.values)
        order = finite[each.order].tolist()
        assert order == sorted(order, reverse=True), each.measure  # what is not finite comes last
        intervals = each.intervals(50)
        assert intervals is None or not np.isfinite(intervals[~finite]).any()
        json.dumps(to_json([each.values, intervals, each.rank_stability(1, 50)]), allow_nan=False)


def test_divergences_and_pairs_that_overflow_have_no_number(half: LoadedModel, corpus: Corpus) -> None:
    (found,) = measure_divergence(half, corpus, [FREE], Store(None))
    sound = _finite_by_hand(half, corpus.held_out.ids, NONE)
    assert np.isfinite(found.kl).tolist() == np.isfinite(found.top1_matches).tolist() == sound
    assert to_json([found.kl_per_token, found.logit_l2_per_token, found.top1_agreement]) == [None, None, None]
    units = find_units(half.n_layers, "layer")
    pairs = interact(units, make_loss_function(half, corpus, Store(None)), 5, WINDOW - 1)
    assert (pairs.windows[0, 1:] == 5).all()
    assert not np.isfinite(pairs.pairs).any()
