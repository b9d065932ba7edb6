"""Zeros inside matrices: on what they depend, how they stack, what is refused, and that the export has them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.deltas.delta import Delta
from explorer.deltas.variant import Variant
from explorer.errors import Cancelled, MaskError, ModifyError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers import expert_maps
from explorer.modifiers.modify import modify
from explorer.sparsity.region import Region, Weights
from explorer.sparsity.sparsity import METHODS
from explorer.sparsity.zeros import count_zeros, list_zeros
from explorer.storage.store import Store
from explorer.text.windows import Corpus, Windows
from tests.support import brute_force, variants
from tests.support.tiny_models import WINDOW, Tiny, load_folder

#: Each with what makes it quick, and its effect large enough to be seen.
QUICK = {"wanda++": ";rounds=2;samples=3;lr=1e-4"}
SPECS = [f"{name};pattern=2:4{QUICK.get(name, '')}" for name in METHODS]


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=9 * WINDOW)


def make(loaded: LoadedModel, corpus: Corpus, spec: str, mask: str = "none") -> Delta:
    return modify(loaded, corpus, Mask.parse(mask), [spec], Store(None)).deltas[-1]


@pytest.mark.parametrize("spec", [*SPECS, "wanda;allocation=owl", "wanda;variant=yes", "sparsegpt"])
def test_neither_batches_nor_order_change_a_bit(
    llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    first = make(llama, corpus, spec).tensors
    windows = corpus.calibration
    turned = Windows(windows.ids[::-1].copy(), windows.text_bytes[::-1].copy())
    monkeypatch.setattr(llama.batch_shape, "tokens", WINDOW)
    second = make(llama, dataclasses.replace(corpus, calibration=turned), spec).tensors
    assert list(first) == list(second)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("spec", SPECS)
def test_the_model_and_what_is_off_are_left_alone(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    before = {name: parameter.clone() for name, parameter in llama.model.named_parameters()}
    made = make(llama, corpus, spec, "1,a2")
    assert set(made.weights) == {0, 2, 3}
    assert all(name.startswith("mlp.") for name in made.weights[2])
    parameters = dict(llama.model.named_parameters())
    assert all(torch.equal(before[name], parameter) for name, parameter in parameters.items())
    assert not any(parameter.requires_grad for parameter in parameters.values())


def test_targets_are_named_by_parts(llama: LoadedModel, corpus: Corpus) -> None:
    made = make(llama, corpus, "magnitude;targets=up_proj+self_attn.o")
    assert {name for named in made.weights.values() for name in named} == {
        "mlp.up_proj.weight", "self_attn.o_proj.weight",
    }  # fmt: skip


def test_layers_are_named(llama: LoadedModel, corpus: Corpus) -> None:
    assert set(make(llama, corpus, "wanda;layers=0-1+3").weights) == {0, 1, 3}
    with pytest.raises(MaskError, match="layer 7"):
        make(llama, corpus, "wanda;layers=7")


@pytest.mark.parametrize("spec", SPECS)
def test_one_window_is_enough(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    poor = dataclasses.replace(corpus, calibration=corpus.calibration[slice(0, 1)])
    variant = modify(llama, poor, Mask.parse("none"), [spec], Store(None))
    (found,) = score(llama, corpus, [variant], Store(None))
    assert np.isfinite(found.nll).all()
    counts = count_zeros(list_zeros(llama, variant))
    assert counts is not None
    assert (counts.matrices, counts.pattern, counts.holding) == (28, "2:4", 28)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("wanda;pattern=4:2", "keeps all"),
        ("wanda;pattern=2:5", "5 divides"),
        ("wanda;pattern=2-4", "Write it like 2:4"),
        ("wanda;sparsity=50", "Write it like 50%"),
        ("wanda;sparsity=50%;pattern=2:4", "sparsity or pattern"),
        ("wanda;variant=yes;pattern=2:4", "variant has no pattern"),
        ("wanda;allocation=owl;pattern=2:4", "one share for all layers"),
        ("wanda;allocation=owl;sparsity=99%", "out of range"),
        ("wanda++;rounds=1.5", "Write it like 5"),
        ("magnitude;targets=nothing", "nothing to prune"),
    ],
)
def test_what_cannot_be_is_refused(llama: LoadedModel, corpus: Corpus, spec: str, words: str) -> None:
    with pytest.raises(ModifyError, match=words):
        make(llama, corpus, spec)


def test_weights_that_diverge_are_said(llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(self: Region, optimiser: object, weights: Weights, windows: object) -> None:
        for weight in weights.values():
            weight.data.fill_(float("nan"))

    monkeypatch.setattr(Region, "approach", diverge)
    with pytest.raises(ModifyError, match="smaller lr"):
        make(llama, corpus, "wanda++")


def test_experts_that_are_not_told_apart_are_refused_by_name(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny.load("mixtral")
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    monkeypatch.setattr(expert_maps, "_INTERFACE", ("of_another_library",))
    with pytest.raises(ModifyError, match=r"mlp.experts.*targets=attn"):
        make(loaded, corpus, "wanda")
    assert make(loaded, corpus, "wanda;targets=attn").weights


def test_quantized_weights_are_refused(llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "spec", dataclasses.replace(llama.spec, quantize="nf4"))
    for spec in SPECS:
        with pytest.raises(ModifyError, match="quantized"):
            make(llama, corpus, spec)


def test_overflow_is_said(tiny: Tiny) -> None:
    loaded = load_folder(tiny.folder("llama"), "float16")
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    with torch.no_grad():
        loaded.wrappers.layers[1].mlp.down_proj.weight.fill_(6e4)
    for spec in SPECS[1:]:
        with pytest.raises(ModifyError, match="overflows in float16"):
            make(loaded, corpus, spec)


@pytest.mark.parametrize("spec", SPECS)
def test_it_can_be_stopped_at_a_layer(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    told: list[str] = []

    def stop(done: int, total: int, what: str) -> None:
        told.append(what)
        if len(told) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        modify(llama, corpus, Mask.parse("none"), [spec], Store(None), stop)
    assert len(set(told)) == 3


@pytest.mark.parametrize("spec", SPECS[1:])
def test_what_was_cut_off_goes_on_where_it_was(llama: LoadedModel, corpus: Corpus, tmp_path: Path, spec: str) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 2:
            raise Cancelled

    with llama.wrappers.counting() as whole:
        expected = make(llama, corpus, spec)
    with pytest.raises(Cancelled):
        modify(llama, corpus, Mask.parse("none"), [spec], Store(tmp_path), stop)
    assert len(list((tmp_path / "deltas").iterdir())) == 2
    with llama.wrappers.counting() as rest:
        again = modify(llama, corpus, Mask.parse("none"), [spec], Store(tmp_path)).deltas[0]
    assert again == expected
    assert rest.evaluations < whole.evaluations
    assert len(list((tmp_path / "deltas").iterdir())) == 1


@pytest.mark.parametrize("spec", SPECS)
def test_it_runs_the_layers_as_often_as_it_says(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    passes = make(llama, corpus, spec).origin.forwards
    assert passes <= {"magnitude": 0, "wanda": 2, "sparsegpt": 2}.get(spec.partition(";")[0], 3 + 2 * 3 / 9)


def test_survivors_that_adapt_give_less_error(llama: LoadedModel, corpus: Corpus) -> None:
    """Of the first layer's output, on the windows that it adapted to."""
    model, ids = brute_force.plain(llama.checkpoint.folder), corpus.calibration.ids
    wanted = brute_force.hidden_states(model, ids)[0][1]
    errors = []
    for spec in ("wanda;pattern=2:4", "wanda++;gradients=no;pattern=2:4;samples=9;lr=1e-3"):
        variant = modify(llama, corpus, Mask.parse("none"), [spec], Store(None))
        found = brute_force.hidden_states(variants.overwritten(llama.checkpoint.folder, variant), ids)[0][1]
        errors.append(float(np.square(found - wanted).sum()))
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("format", ["transformers", "gguf", "gguf-q8_0"])
def test_the_export_has_the_zeros(
    llama: LoadedModel,
    corpus: Corpus,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: str,
    format: str,
) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)
    variant = modify(llama, corpus, Mask.parse("2"), ["refit", spec], store)
    assert isinstance(variant, Variant)
    made = export(llama, variant, tmp_path / "out", corpus, store, format=format)
    zeros = json.loads((tmp_path / "out" / "recipe.json").read_text())["measured"]["verify"]["zeros"]
    assert (zeros["matrices"], zeros["pattern"], zeros["holding"], zeros["share"]) == (21, "2:4", 21, 0.5)
    assert "2:4 holds in 21 of them" in (tmp_path / "out" / "README.md").read_text()
    if format == "transformers":
        expected = brute_force.logits(variants.overwritten(llama.checkpoint.folder, variant), corpus.held_out.ids)
        found = brute_force.logits(brute_force.plain(made.out), corpus.held_out.ids)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
