"""Log-likelihoods of requests against plain transformers, whatever is shared, stored, or asked together."""

from __future__ import annotations

import pytest
import torch

from explorer.benchmarks.likelihoods import find_likelihoods
from explorer.benchmarks.request import Item, Likelihood, Request, RequestEncoder
from explorer.benchmarks.shared_contexts import find_reach
from explorer.benchmarks.token_tree import plant
from explorer.deltas.variant import Variant
from explorer.errors import Cancelled, MaskError
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.tiny_models import SLIDING, Tiny

MASKS = [NONE, Mask.parse("1"), Mask.parse("a1,m2"), Mask.parse("2,a3")]


def make_items(loaded: LoadedModel) -> list[Item]:
    """Choices of which one begins with another, contexts that differ, no context, one choice, a long one."""
    encoder = RequestEncoder.of(loaded)
    choices = ("a bat", "a batter", "x", " and then it ran away")
    return [
        tuple(encoder.pair("the cat in the hat ", choice) for choice in choices),
        tuple(encoder.pair(f"a man in {where}", " was in the street") for where in ("the rain", "her coat")),
        (encoder.pair("", "hello there"),),
        tuple(encoder.pair("no", choice) for choice in (" x" * 20, " x" * 9 + " y")),
    ]


@torch.no_grad()
def judge_plainly(model: torch.nn.Module, unpruned: torch.nn.Module, request: Request) -> Likelihood:
    """One request alone through plain models, in float64 from the logits on."""
    ids = torch.tensor([[*request.context, *request.continuation]])
    n, targets = len(request.continuation), torch.tensor(request.continuation)
    q, p = (each(ids[:, :-1], use_cache=False).logits[0, -n:].double().softmax(-1) for each in (model, unpruned))
    nll = -q.gather(1, targets[:, None]).log().sum()
    return Likelihood(float(nll), float((q.argmax(-1) == targets).all()), float(torch.minimum(p, q).sum()))


def test_every_family_gives_what_plain_transformers_gives(tiny: Tiny, family: str) -> None:
    loaded = tiny.load(family)
    items = make_items(loaded)
    found = find_likelihoods(loaded, items, MASKS, Store(None))
    unpruned = brute_force.plain(tiny.folder(family))
    for mask, answers in zip(MASKS, found, strict=True):
        model = brute_force.zeroed(tiny.folder(family), mask)
        for item, likelihoods in zip(items, answers, strict=True):
            for request, likelihood in zip(item, likelihoods, strict=True):
                assert likelihood == pytest.approx(judge_plainly(model, unpruned, request), abs=1e-4)


def test_what_is_modified_is_judged_as_such(tiny: Tiny, llama: LoadedModel, llama_corpus: Corpus) -> None:
    variant: Variant = variants.make(llama, llama_corpus, "2", "mean", "linear;rank=4")
    items = make_items(llama)
    (found,) = find_likelihoods(llama, items, [variant], Store(None))
    model, unpruned = brute_force.modified(tiny.folder("llama"), variant), brute_force.plain(tiny.folder("llama"))
    for item, likelihoods in zip(items, found, strict=True):
        for request, likelihood in zip(item, likelihoods, strict=True):
            assert likelihood == pytest.approx(judge_plainly(model, unpruned, request), abs=1e-4)


def test_contexts_are_shared_where_the_model_reads_trees(tiny: Tiny, llama: LoadedModel) -> None:
    assert find_reach(llama) == llama.positions
    assert find_reach(tiny.load("gemma2")) == SLIDING
    assert find_reach(tiny.load("bloom")) == 0  # its positions are biases that it makes of a mask of two axes
    items = make_items(llama)[:1]
    with llama.wrappers.counting() as count:
        find_likelihoods(llama, items, [NONE], Store(None))
    assert count.evaluations == llama.n_layers * llama.batch_shape.limited(128).rows(48)


def test_an_answer_depends_on_nothing_but_its_item_and_variant(
    tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a model's numbers depend on how many rows are in the batch."""
    plain = torch.nn.Embedding.forward
    monkeypatch.setattr(torch.nn.Embedding, "forward", lambda self, ids: plain(self, ids) * (1 + ids.shape[0] / 1000))
    loaded = tiny.load(family)
    items = make_items(loaded)
    together = find_likelihoods(loaded, items, MASKS, Store(None))
    assert (
        find_likelihoods(loaded, items[::-1] * 3, MASKS[::-1], Store(None))
        == [each[::-1] * 3 for each in together][::-1]
    )
    for number, mask in enumerate(MASKS):
        store = Store(None)
        alone = [find_likelihoods(loaded, [item], [mask], store)[0][0] for item in items]
        assert alone == together[number]


def test_killed_it_goes_on_and_asked_again_it_answers_at_once(llama: LoadedModel, store: Store) -> None:
    items = make_items(llama)

    def stop(done: int, total: int, what: str) -> None:
        assert (total, what) == (4, "Answering as 4 variants")
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        find_likelihoods(llama, items, MASKS, store, stop)
    with llama.wrappers.counting() as count:
        found = find_likelihoods(llama, items, MASKS, store)
        went_on = count.evaluations
        assert find_likelihoods(llama, items, MASKS[2:], store) == found[2:]
        assert 0 < count.evaluations == went_on
        assert found == find_likelihoods(llama, items, MASKS, Store(None))
        assert count.evaluations > 2 * went_on


def test_memory_that_runs_out_halves_the_batch(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [make_items(llama)[2]] * 2
    items[1] = (Request(items[0][0].context, items[0][0].continuation[::-1]),)
    whole = find_likelihoods(llama, items, MASKS, Store(None))
    plain = torch.nn.Embedding.forward

    def embed(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        if len(ids) > 1:
            raise torch.OutOfMemoryError
        return plain(self, ids)

    find_reach(llama)
    monkeypatch.setattr(torch.nn.Embedding, "forward", embed)
    halved = find_likelihoods(llama, items, MASKS, Store(None))
    for before, after in zip(whole, halved, strict=True):
        assert [each[0] for each in after] == [pytest.approx(each[0], abs=1e-4) for each in before]


def test_a_mask_of_another_model_is_refused(llama: LoadedModel, store: Store) -> None:
    with pytest.raises(MaskError):
        find_likelihoods(llama, make_items(llama), [Mask.parse("9")], store)


def test_an_empty_continuation_is_certain(llama: LoadedModel, store: Store) -> None:
    item = (Request((5, 6), ()), Request((5, 6), (7,)))
    for (found,) in find_likelihoods(llama, [item], MASKS, store):
        assert found[0] == Likelihood(0.0, 1.0, 0.0)
        assert found[1].nll > 0


def test_a_tree_holds_each_beginning_once() -> None:
    tree = plant([Request((1, 2), (3, 4)), Request((1, 2), (3, 5, 6)), Request((1, 7), (3,)), Request((1, 2), (9,))])
    assert tree.ids == (1, 2, 3, 5, 7)
    assert tree.parents == (-1, 0, 1, 2, 0)
    assert tree.asked == (((1, 3), (2, 4)), ((1, 3), (2, 5), (3, 6)), ((4, 3),), ((1, 9),))
    assert tree.depths.tolist() == [0, 1, 2, 3, 1]
    assert tree.sees.astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 1],
    ]  # fmt: skip
    assert not tree.is_path
    assert plant([Request((1, 2), (3, 4)), Request((1,), (2,))]).is_path
