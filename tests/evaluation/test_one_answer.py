"""The same question has one answer, to the last bit: whoever asks, with whom, how, and whatever was asked before.

Some processors compute a window otherwise in a batch of another shape. This one may not, so the tests on tiny models
make every model do so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.evaluation import decode_speed
from explorer.evaluation.divergence import measure_divergence
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.perplexity import LiveScoring, score, score_tokens
from explorer.export import export
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.interactions import interact
from explorer.measures.measure import measure_importance
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel
from explorer.numerics.racing import race
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import WINDOW

TEXT = "python-docs"


@pytest.fixture
def shape_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every model's numbers depend on how many windows are in the batch."""
    plain = torch.nn.Embedding.forward
    monkeypatch.setattr(
        torch.nn.Embedding, "forward", lambda self, ids: plain(self, ids) * (1 + ids.shape[0] / 1000)
    )  # fmt: skip


def check_one_answer(loaded: LoadedModel, window: int, mask: Mask, others: list[Mask]) -> np.ndarray:
    """Ask for a mask's nats on three windows in every way there is; return them."""
    three, five = (loaded.tokenize(TEXT, n * window, window) for n in (3, 5))
    (alone,) = score(loaded, three, [mask], Store(None))
    asked = {
        "in a crowd": score(loaded, three, [*others, mask, NONE], Store(None))[-2].nll,
        "with more tokens": score(loaded, five, [mask], Store(None))[0].nll[:3],
        "window by window": np.concatenate(
            [score(loaded, three, [mask], Store(None), rows=slice(i, i + 1))[0].nll for i in range(3)]
        ),
        "token by token": score_tokens(loaded, three.held_out.ids, mask).sum(1),
    }
    live = LiveScoring(HiddenStateCache(2**28), lambda estimates: None)
    for each in others:
        score(loaded, three, [each], Store(None), live=live)
    asked["live, on kept states"] = score(loaded, three, [mask], Store(None), live=live)[0].nll
    live.state_cache.budget = 0
    live.state_cache.shrink()
    asked["after eviction"] = score(loaded, three, [mask], Store(None), live=live)[0].nll
    store = Store(None)
    measure_divergence(loaded, three, [mask], store)
    asked["with its divergence"] = score(loaded, three, [mask], store)[0].nll
    turned = Corpus("turned", three.held_out, three.calibration, False)
    losses = make_loss_function(loaded, turned, Store(None))
    raced = race([*others, mask], losses, 3, 1.0, keep=len(others) + 1)
    asked["raced"] = raced.losses[raced.best.index(mask)]
    for how, nll in asked.items():
        np.testing.assert_array_equal(nll, alone.nll, err_msg=how)
    return alone.nll


def test_tiny_models_give_one_answer(loaded: LoadedModel, shape_matters: None) -> None:
    masks = [Mask.parse(text) for text in ("a1", "m2", "1", "a1,m3")]
    check_one_answer(loaded, WINDOW, Mask.parse("a1,m2"), masks)


def test_the_other_shape_would_be_seen(
    llama: LoadedModel, shape_matters: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = llama.tokenize(TEXT, 3 * WINDOW, WINDOW)
    (four,) = score(llama, corpus, [NONE], Store(None))
    monkeypatch.setattr(llama.batch_shape, "tokens", 2 * WINDOW)
    (two,) = score(llama, corpus, [NONE], Store(None))
    assert not np.array_equal(four.nll, two.nll)


def test_measures_and_plans_do_not_depend_on_the_last_batch(
    llama: LoadedModel, shape_matters: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, four = (llama.tokenize(TEXT, n * WINDOW, WINDOW) for n in (3, 4))
    short, long = (measure_similarity(llama, corpus, Store(None)) for corpus in (three, four))
    for token in short.angular:
        np.testing.assert_array_equal(short.angular[token], long.angular[token][:3])
    names = ["loss", "kl", "attention-sink"]
    for a, b in zip(*(measure_importance(llama, c, names, Store(None)) for c in (three, four)), strict=True):
        assert a.samples is not None and b.samples is not None  # noqa: PT018
        np.testing.assert_array_equal(a.samples, b.samples[:3])
    units = find_units(llama.n_layers, "layer")
    pairs = interact(units, make_loss_function(llama, three, Store(None)), 3, WINDOW - 1)
    direct = score(llama, three, [NONE, units[0], units[2], units[0] | units[2]], Store(None), "calibration")
    none, first, second, both = (found.total_nll / found.n_tokens for found in direct)
    assert pairs.pairs[0, 2] == pytest.approx(both - first - second + none, abs=1e-12)
    plans = [make_plan(llama, three, PlanSpec.parse("greedy/site;steps=3;confidence=1.0"), Store(None)) for _ in "ab"]
    best = min(find_units(llama.n_layers, "site"), key=lambda unit: _loss(llama, three, unit))
    assert plans[0].masks == plans[1].masks
    assert plans[0].masks[1] == best


def _loss(loaded: LoadedModel, corpus: Corpus, mask: Mask) -> float:
    return score(loaded, corpus, [mask], Store(None), "calibration")[0].total_nll


@pytest.mark.parametrize(
    ("format", "off"), [("transformers", "1"), ("transformers-zeroed", "1,a2"), ("pruned-remote-code", "1,a2")]
)
def test_an_honest_export_is_proven_where_shapes_matter(
    llama: LoadedModel,
    llama_corpus: Corpus,
    shape_matters: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
    off: str,
) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)
    mask = Mask.parse(off)
    made = export(llama, mask, tmp_path / "out", llama_corpus, Store(None), format=format)
    (measured,) = score(llama, llama_corpus, [mask], Store(None))
    assert made.verification.max_abs_logit_difference == 0
    assert made.verification.perplexity_masked == made.verification.perplexity_reloaded == measured.perplexity


@pytest.mark.parametrize("real", ["bfloat16"], indirect=True)
def test_the_real_model_gives_one_answer(real: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = Mask.parse("13-15,17,a3")
    nll = check_one_answer(real, 256, mask, [Mask.parse("a3,13-16")])
    monkeypatch.setattr(decode_speed, "TOKENS", 2)
    corpus = real.tokenize(TEXT, 3 * 256, 256)
    made = export(real, mask, tmp_path / "out", corpus, Store(None), format="transformers-zeroed")
    proof = made.verification
    assert proof.max_abs_logit_difference == 0
    assert proof.perplexity_reloaded == proof.perplexity_masked == made.evidence.score.perplexity
    np.testing.assert_array_equal(made.evidence.score.nll, nll)
