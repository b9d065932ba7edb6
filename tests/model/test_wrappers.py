"""ModelWrappers: a mask belongs to the work, not to the model; nothing outlives it."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from explorer.errors import UnsupportedModel
from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE, Mask, Site
from explorer.model.loading import LoadedModel
from explorer.model.selfcheck import check_hooks
from explorer.model.wrappers import ModelWrappers
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny


class Recorder:
    """Keeps copies of all it is shown."""

    def __init__(self) -> None:
        self.states: list[np.ndarray] = []
        self.updates: dict[str, list[np.ndarray]] = {"attention": [], "mlp": []}
        self.last: np.ndarray | None = None

    def enter(self, layer: int, hidden: torch.Tensor) -> None:
        assert layer == len(self.states)
        self.states.append(hidden.float().numpy().copy())

    def update(self, site: Site, update: torch.Tensor) -> None:
        self.updates[site.part].append(update.float().numpy().copy())

    def leave(self, layer: int, hidden: torch.Tensor) -> None:
        self.last = hidden.float().numpy().copy()


def _ids(corpus: Corpus) -> np.ndarray:
    return corpus.held_out.ids


def test_masked_logits_equal_brute_force(loaded: LoadedModel, corpus: Corpus) -> None:
    for text in ("0", "a0", "m1", "a1,m2,3"):
        mask = Mask.parse(text)
        with loaded.wrappers.as_variant(mask):
            found = brute_force.logits(loaded.model, _ids(corpus))
        expected = brute_force.logits(brute_force.zeroed(loaded.checkpoint.folder, mask), _ids(corpus))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_observer_sees_what_plain_hooks_see(loaded: LoadedModel, corpus: Corpus) -> None:
    seen = Recorder()
    with loaded.wrappers.observe(seen):
        brute_force.logits(loaded.model, _ids(corpus))
    states, updates = brute_force.hidden_states(brute_force.plain(loaded.checkpoint.folder), _ids(corpus))
    np.testing.assert_array_equal(np.stack([*seen.states, seen.last]), np.stack(states))
    for part in updates:
        np.testing.assert_array_equal(np.stack(seen.updates[part]), np.stack(updates[part]))


def test_observer_under_a_mask_sees_the_masked_stream(loaded: LoadedModel, corpus: Corpus) -> None:
    seen, mask = Recorder(), Mask.parse("a0,m1")
    with loaded.wrappers.observe(seen, mask):
        brute_force.logits(loaded.model, _ids(corpus))
    states, _ = brute_force.hidden_states(brute_force.zeroed(loaded.checkpoint.folder, mask), _ids(corpus))
    np.testing.assert_allclose(np.stack([*seen.states, seen.last]), np.stack(states), rtol=1e-4, atol=1e-4)
    assert not seen.updates["attention"][0].any()
    assert not seen.updates["mlp"][1].any()
    assert seen.updates["mlp"][0].any()


def test_a_site_that_is_off_is_not_run(loaded: LoadedModel, corpus: Corpus) -> None:
    """Its weights may be anything, not numbers even."""
    mask = Mask.parse("0,a1,m2")
    weights = [
        parameter
        for site in mask.sites
        for name in loaded.architecture.modules(site.part)
        for parameter in getattr(loaded.wrappers.layers[site.layer], name).parameters()
    ]
    with loaded.wrappers.as_variant(mask):
        expected = brute_force.logits(loaded.model, _ids(corpus))
    saved = [weight.clone() for weight in weights]
    try:
        for weight in weights:
            weight.fill_(math.nan)
        with loaded.wrappers.as_variant(mask):
            assert torch.equal(brute_force.logits(loaded.model, _ids(corpus)), expected)
        assert brute_force.logits(loaded.model, _ids(corpus)).isnan().any()
    finally:
        for weight, value in zip(weights, saved, strict=True):
            weight.copy_(value)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_mask_survives_an_exception(loaded: LoadedModel, corpus: Corpus, error: type[BaseException]) -> None:
    expected = brute_force.logits(brute_force.plain(loaded.checkpoint.folder), _ids(corpus))

    class Broken(Recorder):
        def enter(self, layer: int, hidden: torch.Tensor) -> None:
            super().enter(layer, hidden)
            if layer == 2:
                raise error("inside the forward pass")

    with pytest.raises(error), loaded.wrappers.observe(Broken(), Mask.parse("0")):
        brute_force.logits(loaded.model, _ids(corpus))
    with pytest.raises(error), loaded.wrappers.as_variant(Mask.parse("a0-3")):
        raise error
    assert torch.equal(brute_force.logits(loaded.model, _ids(corpus)), expected)


def test_masks_nest(llama: LoadedModel, llama_corpus: Corpus) -> None:
    def run() -> torch.Tensor:
        return brute_force.logits(llama.model, _ids(llama_corpus))

    untouched = run()
    with llama.wrappers.as_variant(Mask.parse("1")):
        outer = run()
        with llama.wrappers.as_variant(Mask.parse("a2")):
            assert not torch.equal(run(), outer)
        with llama.wrappers.as_variant(NONE):
            assert torch.equal(run(), untouched)
        assert torch.equal(run(), outer)
    assert torch.equal(run(), untouched)


def _snapshot(model: Any) -> dict[str, dict[str, int]]:
    return {name: {key: id(value) for key, value in vars(module).items()} for name, module in model.named_modules()}


def test_remove_restores_every_module(tiny: Tiny, family: str) -> None:
    model = brute_force.plain(tiny.folder(family)).requires_grad_(False)
    before = _snapshot(model)
    wrappers = ModelWrappers(model, tiny.load(family).architecture)
    assert _snapshot(model) != before
    check_hooks(wrappers)
    wrappers.remove()
    assert _snapshot(model) == before
    wrappers.remove()
    assert _snapshot(model) == before


def test_remove_keeps_a_forward_that_was_there(tiny: Tiny) -> None:
    model = brute_force.plain(tiny.folder("llama"))
    module = model.model.layers[1].mlp
    own = module.__class__.forward.__get__(module)
    vars(module)["forward"] = own
    wrappers = ModelWrappers(model, tiny.load("llama").architecture)
    wrappers.remove()
    assert vars(module)["forward"] is own


def test_a_model_that_cannot_run_is_left_as_it_was(tiny: Tiny) -> None:
    model = brute_force.plain(tiny.folder("llama"))
    before = _snapshot(model)
    handle = model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ModelWrappers(model, tiny.load("llama").architecture)
    handle.remove()
    assert _snapshot(model) == before


@pytest.mark.parametrize(("family", "layer"), [("llama", 0), ("gemma3_text", 1), ("qwen3_moe", 1)])
@pytest.mark.parametrize(("rows", "longer"), [(1, 100), (3, 0)])
def test_a_layer_that_is_another_in_other_batches_is_refused(
    tiny: Tiny, family: str, layer: int, rows: int, longer: int
) -> None:
    """The first one of its form: whose attention sees all, and whose MLP has experts."""
    model = brute_force.plain(tiny.folder(family)).requires_grad_(False)
    own = model.model.layers[layer]
    forward = own.forward

    def other(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        found = forward(hidden, *args, **kwargs)
        return found + 1 if hidden.shape[0] == rows and hidden.shape[1] > longer else found

    own.forward = other
    with pytest.raises(UnsupportedModel, match=f"layer {layer} is not its input plus what its attention and MLP add"):
        check_hooks(ModelWrappers(model, tiny.load(family).architecture))


class _Meeting(Recorder):
    """Waits at every layer for the other thread."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def enter(self, layer: int, hidden: torch.Tensor) -> None:
        self.barrier.wait(30)

    def update(self, site: Site, update: torch.Tensor) -> None:
        pass


def test_two_threads_with_two_masks_get_their_own_numbers(loaded: LoadedModel, corpus: Corpus) -> None:
    masks = [Mask.parse("a0,2"), Mask.parse("m0,1")]
    expected = []
    for mask in masks:
        with loaded.wrappers.as_variant(mask):
            expected.append(brute_force.logits(loaded.model, _ids(corpus)))
    barrier = threading.Barrier(2)

    def run(mask: Mask) -> torch.Tensor:
        with loaded.wrappers.observe(_Meeting(barrier), mask):
            return brute_force.logits(loaded.model, _ids(corpus))

    with ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            for found, right in zip(pool.map(run, masks), expected, strict=True):
                assert torch.equal(found, right)


def test_two_threads_score_two_masks(llama: LoadedModel, llama_corpus: Corpus) -> None:
    masks = [Mask.parse("a0,2"), Mask.parse("m0,1")]
    expected = [score(llama, llama_corpus, [mask], Store(None))[0].nll for mask in masks]
    barrier = threading.Barrier(2)

    def run(mask: Mask) -> np.ndarray:
        barrier.wait(30)
        return score(llama, llama_corpus, [mask], Store(None))[0].nll

    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            for found, right in zip(pool.map(run, masks), expected, strict=True):
                np.testing.assert_array_equal(found, right)


def test_rerunning_layers_gives_the_models_logits(loaded: LoadedModel, corpus: Corpus) -> None:
    ids = torch.from_numpy(_ids(corpus))
    with torch.inference_mode():
        layer_inputs = loaded.wrappers.layer_inputs(ids)
        hidden = layer_inputs.hidden
        for layer, call in enumerate(layer_inputs.calls):
            hidden = loaded.wrappers.run_layer(layer, hidden, call)
        found = loaded.wrappers.logits(loaded.wrappers.finish(hidden).flatten(0, 1)).view(*ids.shape, -1)
    assert found.shape == (*ids.shape, loaded.config.vocab_size)
    assert ids.shape[1] == WINDOW
    assert torch.equal(found, brute_force.logits(loaded.model, _ids(corpus)))


def test_parallel_blocks_are_told_from_sequential(tiny: Tiny) -> None:
    assert tiny.load("gpt_neox_parallel").parallel
    assert not tiny.load("gpt_neox_sequential").parallel
    assert not tiny.load("llama").parallel
