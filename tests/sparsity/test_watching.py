"""What pruning tells whoever watches, against plain models and slow NumPy; what is asked of it again later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.variant import Variant
from explorer.errors import Cancelled, ModifyError
from explorer.masks.mask import NONE
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import find_begun, modify, repeat_layer
from explorer.sparsity.picture import take_picture
from explorer.sparsity.scores import count_scores, find_scores
from explorer.sparsity.watcher import LayerErrors, Watcher, watching_layers
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.pruning import LINEARS, inputs_of, run_layer
from tests.support.tiny_models import WINDOW

ADAPTING = "wanda++;gradients=no;lr=1e-3;rounds=2;samples=9"
SPECS = ["magnitude", "wanda;pattern=2:4", "sparsegpt;pattern=2:4", ADAPTING]


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=9 * WINDOW)


class Listener(Watcher):
    """Keeps what it is told; stops the work when so many layers are done."""

    def __init__(self, most: int = 99) -> None:
        self.errors: list[LayerErrors] = []
        self.most = most

    def layer(self, layer: int, find_errors: Callable[[], LayerErrors]) -> None:
        self.errors.append(find_errors())
        if len(self.errors) == self.most:
            raise Cancelled


def prune(loaded: LoadedModel, corpus: Corpus, spec: str, store: Store, most: int = 99) -> tuple[Variant, Listener]:
    listener = Listener(most)
    with watching_layers(listener):
        return modify(loaded, corpus, NONE, [spec], store), listener


def put(model: torch.nn.Module, layer: int, weights: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            model.get_submodule(f"model.layers.{layer}.{name}").weight.copy_(torch.from_numpy(weight))


def error(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    difference = sum(float((a - b).double().square().sum()) for a, b in zip(found, wanted, strict=True))
    return float(np.sqrt(difference / sum(float(each.double().square().sum()) for each in wanted)))


@pytest.mark.parametrize("spec", SPECS)
def test_errors_are_those_of_a_plain_model_layer_by_layer(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    variant, listener = prune(llama, corpus, spec, Store(None))
    model = brute_force.plain(llama.checkpoint.folder)
    hidden = [model.model.embed_tokens(torch.from_numpy(row)[None]) for row in corpus.calibration.ids]
    assert [each.layer for each in listener.errors] == [0, 1, 2, 3]
    for told in listener.errors:
        own, made = (
            {name: llama.wrappers.weight(told.layer, f"{name}.weight", deltas).numpy() for name in LINEARS}
            for deltas in ((), variant.deltas)
        )
        wanted = run_layer(model, told.layer, hidden)[0]
        put(model, told.layer, {name: np.where(made[name] == 0, 0, own[name]) for name in LINEARS})
        zeroed = error(run_layer(model, told.layer, hidden)[0], wanted)
        put(model, told.layer, made)
        hidden = run_layer(model, told.layer, hidden)[0]
        assert set(told.matrices) == set(LINEARS)
        assert told.zeroed == pytest.approx(zeroed, rel=1e-4)
        if spec in SPECS[:2]:
            assert told.adapted is None
        else:
            assert told.adapted == pytest.approx(error(hidden, wanted), rel=1e-4)
            assert told.adapted < told.zeroed


@pytest.mark.parametrize("spec", SPECS)
def test_who_watches_changes_nothing_and_costs_nothing_where_nobody_does(
    llama: LoadedModel, corpus: Corpus, spec: str
) -> None:
    with llama.wrappers.counting() as counted:
        alone = modify(llama, corpus, NONE, [spec], Store(None))
    assert prune(llama, corpus, spec, Store(None))[0].deltas == alone.deltas
    if spec == "magnitude":
        assert counted.evaluations == 0


@pytest.mark.parametrize("spec", SPECS)
def test_errors_of_layers_that_were_made_before_are_the_same(
    llama: LoadedModel, corpus: Corpus, tmp_path: Path, spec: str
) -> None:
    store = Store(tmp_path)
    with pytest.raises(Cancelled):
        prune(llama, corpus, spec, store, most=2)
    begun = find_begun(llama, corpus, NONE, [ModifierSpec.parse(spec)], store)
    assert sorted(begun.deltas[0].weights) == [0, 1]
    variant, listener = prune(llama, corpus, spec, store)
    assert find_begun(llama, corpus, NONE, [ModifierSpec.parse(spec)], store).deltas == variant.deltas
    again = Listener()
    with watching_layers(again):
        repeat_layer(llama, corpus, variant, None, store)
    assert again.errors == listener.errors
    assert len(again.errors) == 4


def test_nothing_is_begun_where_nothing_was_asked_for(llama: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    assert find_begun(llama, corpus, NONE, [ModifierSpec.parse("wanda")], Store(tmp_path)).deltas == ()


@pytest.mark.parametrize("half", [False, True])
def test_scores_are_found_again_for_a_layer_that_was_pruned(
    llama: LoadedModel, corpus: Corpus, tmp_path: Path, half: bool
) -> None:
    store, name = Store(tmp_path), "mlp.down_proj"
    variant, _ = prune(llama, corpus, "wanda", store)
    if half:
        made = variant.deltas[0]
        variant = Variant(NONE, (type(made)(made.origin, {0: made.weights[0]}, {}),))
    counts = find_scores(llama, corpus, variant, 0, name, store)
    model = brute_force.plain(llama.checkpoint.folder)
    read = np.concatenate(inputs_of(model, corpus.calibration.ids)[name])
    own = np.abs(llama.wrappers.weight(0, f"{name}.weight").double().numpy())
    scores = own * np.sqrt(np.square(read).sum(0))
    zeros = llama.wrappers.weight(0, f"{name}.weight", variant.deltas).numpy() == 0
    assert counts.zeroed.sum() == zeros.sum() == scores.size // 2
    assert counts.kept.sum() == (~zeros).sum()
    assert 10 ** counts.ends[[0, -1]] == pytest.approx([scores.min(), scores.max()], rel=1e-5)
    assert counts.cut == pytest.approx(np.sort(scores.ravel())[scores.size // 2], rel=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_scores_of_any_method_are_of_the_zeros_that_were_made(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    variant = modify(llama, corpus, NONE, [spec], Store(None))
    for layer in (0, 2):
        counts = find_scores(llama, corpus, variant, layer, "mlp.up_proj", Store(None))
        zeros = llama.wrappers.weight(layer, "mlp.up_proj.weight", variant.deltas) == 0
        assert counts.zeroed.sum() + counts.nothing == int(zeros.sum())
        assert counts.kept[: len(counts.kept) // 4].sum() < counts.zeroed[: len(counts.kept) // 4].sum()


def test_a_matrix_without_scores_is_said(llama: LoadedModel, corpus: Corpus) -> None:
    variant = modify(llama, corpus, NONE, ["wanda;targets=mlp"], Store(None))
    with pytest.raises(ModifyError, match=r"q_proj of layer 1"):
        find_scores(llama, corpus, variant, 1, "self_attn.q_proj", Store(None))
    with pytest.raises(ModifyError, match=r"q_proj of layer 1"):
        take_picture(llama, variant, 1, "self_attn.q_proj")


def test_scores_are_counted_in_equal_steps_of_their_logarithm() -> None:
    scores = torch.tensor([[0.0, 1.0, 10.0, 100.0, 1000.0, 0.0]])
    counts = count_scores(scores, scores < 10, bins=3)
    np.testing.assert_allclose(counts.ends, [0, 1, 2, 3])
    assert (counts.kept.tolist(), counts.zeroed.tolist(), counts.nothing) == ([0, 1, 2], [1, 0, 0], 2)
    assert counts.cut == 10
    equal = count_scores(torch.full((2, 2), 4.0), torch.eye(2).bool())
    assert (equal.kept.sum(), equal.zeroed.sum(), equal.cut) == (2, 2, 4)
    nothing = count_scores(torch.zeros(2, 2), torch.ones(2, 2).bool())
    assert (nothing.kept.sum(), nothing.nothing, nothing.cut) == (0, 4, 0)


@pytest.mark.parametrize("most", [1, 5, 7, 64])
def test_a_picture_has_the_share_of_zeros_in_each_cell(llama: LoadedModel, corpus: Corpus, most: int) -> None:
    variant = modify(llama, corpus, NONE, ["wanda;sparsity=30%"], Store(None))
    picture = take_picture(llama, variant, 1, "mlp.down_proj")
    zeros = llama.wrappers.weight(1, "mlp.down_proj.weight", variant.deltas).numpy() == 0
    down, across = picture.size_cell(most)
    shares = picture.find_shares(most)
    assert max(shares.shape) <= most
    for row in range(shares.shape[0]):
        for column in range(shares.shape[1]):
            cell = zeros[row * down : (row + 1) * down, column * across : (column + 1) * across]
            assert shares[row, column] == pytest.approx(cell.mean())
    assert (picture.cut(30, 3, 9) == zeros[30:39, 3:12]).all()
    assert picture.cut(30, 3, 9).shape == (2, 9)
