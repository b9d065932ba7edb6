"""The keystone on the real model: masked = brute force = exported and reloaded, to the token."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.errors import TextError
from explorer.evaluation.generation import generate
from explorer.evaluation.perplexity import score
from explorer.export import export
from explorer.masks.mask import NONE, Mask
from explorer.measures.measure import measure_importance
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import DTYPES, LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force

WINDOW = 128
TEXTS = ("20-25", "a5,a11,a28", "m3,m17", "0,a1,m2,29", "10,a12-15,m20-21,27")
MASKS = [Mask.parse(text) for text in TEXTS]
PROMPT = "The capital of France is"
RELATIVE = {"float32": 1e-5, "bfloat16": 1e-3}
in_float32 = pytest.mark.parametrize("real", ["float32"], indirect=True)


@pytest.fixture
def corpus(real: LoadedModel) -> Corpus:
    return real.tokenize("python-docs", 2 * WINDOW, WINDOW)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_masked_is_brute_force(real: LoadedModel, corpus: Corpus, store: Store) -> None:
    assert real.n_layers == 30
    scores = score(real, corpus, [NONE, *MASKS, Mask.parse("0-29")], store)
    assert 5 < scores[0].perplexity < 50
    for found in scores:
        oracle = brute_force.zeroed(real.checkpoint.folder, found.mask, DTYPES[real.dtype])
        rows = real.batch_shape.rows(WINDOW)  # some processors compute otherwise in a batch of another shape
        nll = brute_force.window_nll(oracle, corpus.held_out.ids, rows)
        np.testing.assert_allclose(found.nll, nll, rtol=RELATIVE[real.dtype], err_msg=str(found.mask))
        assert found.perplexity == pytest.approx(
            brute_force.perplexity(oracle, corpus.held_out.ids, rows), rel=RELATIVE[real.dtype]
        )
        if found.mask:
            assert found.delta_nll_per_token > 0.01


@in_float32
@pytest.mark.parametrize("mask", MASKS, ids=TEXTS)
def test_exported_is_masked_token_for_token(
    real: LoadedModel, corpus: Corpus, store: Store, out: Path, mask: Mask
) -> None:
    made = export(real, mask, out, corpus, store)
    assert made.layers == 30 - len(mask.whole_layers)
    (masked,) = score(real, corpus, [mask], store)
    reloaded = brute_force.plain(out)
    assert brute_force.perplexity(reloaded, corpus.held_out.ids) == pytest.approx(masked.perplexity, rel=1e-5)
    prompt = real.tokenizer(PROMPT, return_tensors="pt")
    written = reloaded.generate(**prompt, do_sample=False, max_new_tokens=16)[0, prompt.input_ids.shape[1] :]
    assert list(generate(real, mask, PROMPT, 16).token_ids) == written.tolist()


@pytest.mark.parametrize("real", ["bfloat16"], indirect=True)
def test_exported_is_masked_in_bfloat16(real: LoadedModel, corpus: Corpus, store: Store, out: Path) -> None:
    mask = MASKS[-1]
    made = export(real, mask, out, corpus, store)
    reloaded = brute_force.plain(out, torch.bfloat16)
    rows = real.batch_shape.rows(WINDOW)
    assert brute_force.perplexity(reloaded, corpus.held_out.ids, rows) == pytest.approx(
        made.verification.perplexity_masked, rel=1e-3
    )


@in_float32
def test_heatmap_is_slow_numpy(real: LoadedModel, store: Store) -> None:
    corpus = real.tokenize("python-docs", 32, 16)
    found = measure_similarity(real, corpus, store)
    plain = brute_force.plain(real.checkpoint.folder)
    states, _ = brute_force.hidden_states(plain, corpus.calibration.ids)
    for choice in ("last_token", "mean", "mean_without_first"):
        for row, right in zip(
            found.angular_distance(choice), brute_force.angular_distances(states, choice), strict=True
        ):
            np.testing.assert_allclose(row, right, atol=1e-4)
    for unit, right in brute_force.influences(plain, corpus.calibration.ids).items():
        np.testing.assert_allclose(found.block_influence(unit), right, atol=1e-4)


@in_float32
def test_attention_rests_where_transformers_says(real: LoadedModel, store: Store) -> None:
    corpus = real.tokenize("python-docs", 32, 16)
    (found,) = measure_importance(real, corpus, ["attention-sink"], store)
    eager = brute_force.plain(real.checkpoint.folder, attn_implementation="eager")
    with torch.inference_mode():
        weights = eager(torch.from_numpy(corpus.calibration.ids), output_attentions=True).attentions
    right = [float(layer[:, :, 1:, 0].double().mean()) for layer in weights]
    np.testing.assert_allclose(found.values, right, atol=1e-4)
    assert max(right) > 0.5  # heads of a real model rest on the first token


@in_float32
def test_chat_answers_and_text_grows(real: LoadedModel) -> None:
    told: list[str] = []
    sample = generate(real, NONE, "What is the capital of France?", 12, chat=True, listener=told.append)
    assert "Paris" in sample.text
    assert all(after.startswith(before) for before, after in pairwise(told))


@in_float32
def test_windows_beyond_the_positions_are_refused(real: LoadedModel) -> None:
    with pytest.raises(TextError, match=f"> {real.positions}"):
        real.tokenize("python-docs", 20_000, 10_000)
