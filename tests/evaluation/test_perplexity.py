"""Scores: equal to brute force, whatever was asked together, in which order and in what batches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from explorer.errors import Cancelled, DeviceError, MaskError
from explorer.evaluation import nll, perplexity
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.perplexity import LiveScoring, score
from explorer.masks.mask import NONE, PARTS, Mask, Site
from explorer.model.batch_shape import BatchShape, pad_batch, slice_rows
from explorer.model.loading import LoadedModel
from explorer.model.pace import Pace
from explorer.model.wrappers import ModelWrappers
from explorer.progress import hearing_left
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import VOCABULARY, WINDOW, Tiny


def mixed_masks(n_layers: int) -> list[Mask]:
    last = n_layers - 1
    texts = ["none", "0", str(last), "a0", "m0", f"a{last}", f"m{last}", "1-2", "a1,m2", "a0,m1,2", f"a0-{last}",
             f"m0-{last}", f"0-{last}", f"1-{last}", "0-1", "a0-1,m3"]  # fmt: skip
    return [Mask.parse(text) for text in texts]


def test_scores_equal_brute_force(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    masks = mixed_masks(loaded.n_layers)
    scores = score(loaded, corpus, masks, store)
    assert [s.mask for s in scores] == masks
    for s in scores:
        expected = brute_force.window_nll(brute_force.zeroed(loaded.checkpoint.folder, s.mask), corpus.held_out.ids)
        np.testing.assert_allclose(s.nll, expected, rtol=1e-5, err_msg=str(s.mask))
        assert s.tokens == WINDOW - 1
        np.testing.assert_array_equal(s.baseline, scores[0].nll)


def test_every_site_moves_the_loss(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    singles = [Mask(frozenset({site})) for site in loaded.sites]
    for s in score(loaded, corpus, singles, store):
        assert np.abs(s.nll / s.baseline - 1).max() > 1e-3, str(s.mask)


def test_perplexity_is_exp_of_the_models_own_loss(loaded: LoadedModel, store: Store) -> None:
    corpus = loaded.tokenize("python-docs", WINDOW, WINDOW)
    ids = torch.from_numpy(corpus.held_out.ids)
    assert len(ids) == 1
    plain = brute_force.plain(loaded.checkpoint.folder)
    with torch.no_grad():
        loss = float(plain(ids, labels=ids).loss)
    (unpruned,) = score(loaded, corpus, [NONE], store)
    assert unpruned.perplexity == pytest.approx(math.exp(loss), rel=1e-5)


def test_empty_mask_is_the_untouched_model_bitwise(tiny: Tiny, family: str) -> None:
    plain = brute_force.plain(tiny.folder(family))
    loaded = tiny.load(family)
    ids = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW).held_out.ids
    expected = brute_force.logits(plain, ids)
    with loaded.wrappers.as_variant(NONE):
        assert torch.equal(brute_force.logits(loaded.model, ids), expected)
    assert torch.equal(brute_force.logits(loaded.model, ids), expected)
    wrappers = ModelWrappers(plain, loaded.architecture)
    assert torch.equal(brute_force.logits(plain, ids), expected)
    wrappers.remove()
    assert torch.equal(brute_force.logits(plain, ids), expected)


def test_order_and_company_do_not_matter_bitwise(loaded: LoadedModel, corpus: Corpus) -> None:
    masks = mixed_masks(loaded.n_layers)
    together = {s.mask: s.nll for s in score(loaded, corpus, masks, Store(None))}
    for s in score(loaded, corpus, masks[::-1], Store(None)):
        np.testing.assert_array_equal(s.nll, together[s.mask])
    for mask in masks:
        (alone,) = score(loaded, corpus, [mask], Store(None))
        np.testing.assert_array_equal(alone.nll, together[mask])


@pytest.mark.parametrize("at_once", [1, 2 * WINDOW, 3 * WINDOW + 1])
def test_batch_size_does_not_matter(
    loaded: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    masks = mixed_masks(loaded.n_layers)
    whole = score(loaded, corpus, masks, Store(None))
    monkeypatch.setattr(loaded.batch_shape, "tokens", at_once)
    for s, expected in zip(score(loaded, corpus, masks, Store(None)), whole, strict=True):
        np.testing.assert_allclose(s.nll, expected.nll, rtol=1e-6)


@pytest.mark.parametrize("positions", [1, 5, WINDOW - 1, 2 * WINDOW])
def test_positions_at_the_head_do_not_matter(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, positions: int
) -> None:
    (expected,) = score(llama, llama_corpus, [Mask.parse("a1")], Store(None))
    monkeypatch.setitem(nll.LOGIT_BYTES, "cpu", positions * 4 * VOCABULARY)
    (found,) = score(llama, llama_corpus, [Mask.parse("a1")], Store(None))
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-6)


def test_splits_are_scored_apart(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    plain = brute_force.plain(llama.checkpoint.folder)
    for split in ("calibration", "held-out"):
        (found,) = score(llama, llama_corpus, [NONE], store, split)
        expected = brute_force.window_nll(plain, llama_corpus.split(split).ids)
        np.testing.assert_allclose(found.nll, expected, rtol=1e-5)


def test_mask_given_twice_comes_back_twice(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    mask = Mask.parse("1")
    assert [s.mask for s in score(llama, llama_corpus, [mask, NONE, mask], store)] == [mask, NONE, mask]


def test_mask_beyond_the_model_is_refused(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    with pytest.raises(MaskError, match="layer 4"):
        score(llama, llama_corpus, [Mask.parse("4")], store)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every (mask, windows) that is really computed."""
    seen: list[tuple[str, int]] = []
    inner = perplexity.score_batch

    def counted(wrappers: ModelWrappers, ids: torch.Tensor, masks: list[Mask], *rest: object) -> Iterator:
        seen.extend((str(mask), len(ids.unique(dim=0))) for mask in masks)
        return inner(wrappers, ids, masks, *rest)

    monkeypatch.setattr(perplexity, "score_batch", counted)
    return seen


def test_nothing_is_scored_twice(llama: LoadedModel, store: Store, scored: list[tuple[str, int]]) -> None:
    short, long = (llama.tokenize("python-docs", n * WINDOW, WINDOW) for n in (3, 5))
    first = score(llama, short, [Mask.parse("1"), Mask.parse("1")], store)
    assert sorted(scored) == [("1", 3), ("none", 3)]
    scored.clear()
    again = score(llama, short, [Mask.parse("a1,m1"), NONE], store)
    assert scored == []
    np.testing.assert_array_equal(again[0].nll, first[0].nll)
    score(llama, long, [Mask.parse("1"), Mask.parse("a2")], store)
    assert sorted(scored) == [("1", 2), ("a2", 2), ("a2", 3), ("none", 2)]


def test_equal_windows_are_scored_once(llama: LoadedModel, store: Store, scored: list[tuple[str, int]]) -> None:
    corpus = llama.tokenize("python-docs", 2 * WINDOW, WINDOW)
    rows = [0, 1, 0, 0]
    held_out = type(corpus.held_out)(corpus.held_out.ids[rows], corpus.held_out.text_bytes[rows])
    (found,) = score(llama, Corpus("again", corpus.calibration, held_out, False), [NONE], store)
    assert scored == [("none", 2)]
    assert found.nll[0] == found.nll[2] == found.nll[3] != found.nll[1]


def test_dtypes_are_not_mixed_up(tiny: Tiny, llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    from explorer.checkpoints.spec import ModelSpec
    from explorer.model.loading import load

    folder = tiny.folder("llama")
    half = load(ModelSpec(str(folder), "bfloat16", "cpu"), Store(None), folder)
    (full_score,), (half_score,) = (score(m, llama_corpus, [NONE], store) for m in (llama, half))
    assert not np.array_equal(full_score.nll, half_score.nll)
    np.testing.assert_allclose(half_score.nll, full_score.nll, rtol=0.05)


def test_shared_prefix_is_run_once(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", 8 * WINDOW)
    runs: list[int] = []
    handles = [
        layer.mlp.down_proj.register_forward_hook(lambda *_, i=i: runs.append(i))
        for i, layer in enumerate(llama.wrappers.layers)
    ]
    try:
        score(llama, llama_corpus, [Mask.parse("a3"), Mask.parse("m2"), Mask.parse("3")], store)
    finally:
        for handle in handles:
            handle.remove()
    # none, a3, m2, 3: layers 0 and 1 once, layer 2 once (m2 skips it), layer 3 under none, a3, m2
    assert [runs.count(i) for i in range(4)] == [1, 1, 1, 3]


def _fails_beyond(loaded: LoadedModel, limit: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    inner, asked = perplexity.score_batch, []

    def limited(wrappers: ModelWrappers, ids: torch.Tensor, masks: list[Mask], *rest: object) -> Iterator:
        asked.append(len(ids))
        for number, found in enumerate(inner(wrappers, ids, masks, *rest)):
            if len(ids) > limit and number == min(limit, 1):
                raise torch.OutOfMemoryError("full")
            yield found

    monkeypatch.setattr(perplexity, "score_batch", limited)
    return asked


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_out_of_memory_halves_the_batch(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    masks = [Mask.parse("1"), Mask.parse("a2")]
    whole = score(llama, llama_corpus, masks, Store(None))
    asked = _fails_beyond(llama, limit, monkeypatch)
    for s, expected in zip(score(llama, llama_corpus, masks, Store(None)), whole, strict=True):
        np.testing.assert_allclose(s.nll, expected.nll, rtol=1e-6)
        np.testing.assert_allclose(s.baseline, expected.baseline, rtol=1e-6)
    assert asked == {1: [4, 2, 1, 1, 1, 1, 1], 2: [4, 2, 2, 2], 3: [4, 2, 2, 2]}[limit]
    asked.clear()
    score(llama, llama_corpus, [Mask.parse("m3")], Store(None))
    assert asked[0] == 4, "less for one work is not less for the next"


def test_out_of_memory_with_one_window_is_told(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _fails_beyond(llama, 0, monkeypatch)
    with pytest.raises(DeviceError, match=f"window of {WINDOW} tokens"):
        score(llama, llama_corpus, [Mask.parse("1")], store)
    assert asked == [4, 2, 1]


@pytest.mark.parametrize(("window", "rows"), [(256, 2), (128, 4), (100, 4), (512, 1), (4096, 1), (2, 256)])
def test_batches_have_one_size_for_a_window(window: int, rows: int) -> None:
    assert BatchShape(torch.device("cpu"), 1).rows(window) == rows
    assert BatchShape(torch.device("cpu"), 1, one_window_at_a_time=True).rows(window) == 1


def test_batches_cover_every_window_once_and_are_full() -> None:
    ids = np.arange(11 * 3).reshape(11, 3)
    for size in (1, 2, 4, 8, 16):
        parts = list(slice_rows(len(ids), size))
        assert [row for part in parts for row in range(part.start, part.stop)] == list(range(11))
        for part in parts:
            batch = pad_batch(ids[part], size, torch.device("cpu")).numpy()
            assert batch.shape == (size, 3)
            np.testing.assert_array_equal(batch[: part.stop - part.start], ids[part])
            assert {*map(tuple, batch)} == {*map(tuple, ids[part])}


@pytest.mark.parametrize(
    "full", [torch.OutOfMemoryError("full"), MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:118] . "
     "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), RuntimeError("CUDA out of memory.")]
)  # fmt: skip
def test_work_that_runs_out_of_memory_begins_again_with_half(full: Exception) -> None:
    asked: list[int] = []

    def work(size: int) -> str:
        asked.append(size)
        if size > 2:
            raise full
        return "done"

    shape, relieved = BatchShape(torch.device("cpu"), 1), []
    assert shape.run(work, 32, lambda: relieved.append(1)) == "done"
    assert asked == [16, 8, 4, 2]
    assert len(relieved) == 3
    assert shape.rows(32) == 16


def test_other_failures_are_not_taken_for_memory() -> None:
    def work(size: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        BatchShape(torch.device("cpu"), 1).run(work, 24)


def test_scores_of_batches_of_another_size_are_kept_apart(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    score(llama, llama_corpus, [NONE], store)
    digests = llama_corpus.held_out.digests
    assert len(store.nll(llama.numerics_key(4), digests, "none")) == 5
    assert store.nll(llama.numerics_key(2), digests, "none") == {}


def test_time_left_is_told_by_what_such_batches_took(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", WINDOW)
    monkeypatch.setattr(llama, "pace", Pace())
    layers = (4 + 1) + (1 + 1)  # of a batch: all and the head, then the last one and the head once more
    told: list[float] = []
    with hearing_left(told.append):
        score(llama, llama_corpus, [NONE, Mask.parse("3")], Store(None), "calibration")
        assert len(told) == 4, "of five batches; nothing is known before the first"
        llama.pace = Pace()
        llama.pace.note(("score", 1, WINDOW), 1, 1e6)
        score(llama, llama_corpus, [NONE, Mask.parse("3")], Store(None))
    assert told[4] == 5 * layers * 1e6
    assert told[5] == pytest.approx(4 * layers * 1e6 / (1 + layers), rel=1e-3)


def test_cancelled_work_keeps_what_was_stored(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch, scored: list
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", 2 * WINDOW)
    masks = [Mask.parse("1"), Mask.parse(f"0-{llama.n_layers - 1}")]
    before = brute_force.logits(llama.model, llama_corpus.held_out.ids)

    def cancel(done: int, total: int, what: str) -> None:
        assert done <= total
        if done > 6:
            raise Cancelled

    with pytest.raises(Cancelled):
        score(llama, llama_corpus, masks, store, progress=cancel)
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(brute_force.logits(llama.model, llama_corpus.held_out.ids), before)
    scored.clear()
    resumed = score(llama, llama_corpus, masks, store)
    assert sum(n for _, n in scored) == 3 * 5 - 8, "three masks on five windows, less what was stored"
    for s, expected in zip(resumed, score(llama, llama_corpus, masks, Store(None)), strict=True):
        np.testing.assert_array_equal(s.nll, expected.nll)


def test_progress_ends_at_its_total(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    told: list[tuple[int, int]] = []
    masks = [Mask(frozenset({Site(1, part)})) for part in PARTS]
    score(llama, llama_corpus, masks, store, progress=lambda done, total, _: told.append((done, total)))
    assert told[0] == (0, 15)
    assert told[-1] == (15, 15)
    assert told == sorted(told)


def test_windows_of_a_mixture_go_one_by_one_for_experts_see_the_whole_batch(tiny: Tiny) -> None:
    alone = {
        family
        for family in ("llama", "mixtral", "qwen3_moe", "gpt_oss")
        if tiny.load(family).batch_shape.one_window_at_a_time
    }
    assert alone == {"mixtral", "qwen3_moe", "gpt_oss"}


def test_what_else_is_asked_for_changes_no_bit(loaded: LoadedModel, corpus: Corpus) -> None:
    mask = Mask.parse("a1,m2")
    (whole,) = score(loaded, corpus, [mask], Store(None))
    shorter = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    (short,) = score(loaded, shorter, [mask], Store(None))
    np.testing.assert_array_equal(short.nll, whole.nll[:3])
    store = Store(None)
    parts = [score(loaded, corpus, [mask, NONE], store, rows=slice(i, i + 1))[0].nll for i in (3, 0, 4, 2, 1)]
    np.testing.assert_array_equal(np.concatenate(parts), whole.nll[[3, 0, 4, 2, 1]])
    live = LiveScoring(HiddenStateCache(2**20), lambda estimates: None)
    score(loaded, corpus, [Mask.parse("a1")], Store(None), live=live)
    (lived,) = score(loaded, corpus, [mask], Store(None), live=live)
    np.testing.assert_array_equal(lived.nll, whole.nll)
