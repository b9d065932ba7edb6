"""Fits that are stopped after any of their steps: they go on after it, and end with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.deltas.delta import Delta
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import Cancelled
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.deltas import FitSteps
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import WINDOW


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=10 * WINDOW)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are made, by their numbers."""
    steps: list[int] = []
    inner = FitSteps.keep

    def keep(self: FitSteps, step: int, made: Delta) -> None:
        inner(self, step, made)
        steps.append(step)

    monkeypatch.setattr(FitSteps, "keep", keep)
    return steps


@pytest.mark.parametrize(
    ("spec", "mask", "below"),
    [
        ("refit", "1,3", []),
        ("refit;where=all", "1,m2", []),
        ("refit", "2", ["mean"]),
        ("replaceme", "1,3", []),
        ("replaceme;loss=cosine", "1,3", []),
        ("linear;rank=3", "a0,1,m3", []),
        ("mean", "a0,1,m3", ["linear"]),
        ("scale", "1,3", []),
        ("channels", "1,3", []),
    ],
)
def test_a_fit_goes_on_after_its_last_finished_step(
    llama: LoadedModel, corpus: Corpus, tmp_path: Path, kept: list[int], spec: str, mask: str, below: list[str]
) -> None:
    specs = [ModifierSpec.parse(name) for name in (*below, spec)]
    under = modify(llama, corpus, Mask.parse(mask), specs[:-1], Store(None))
    kept.clear()
    expected = modify(llama, corpus, under, specs[-1:], Store(None))
    n_steps = len(kept)
    assert n_steps > 1
    for stop in range(1, n_steps):
        kept.clear()

        def cancel(*_: object, stop: int = stop) -> None:
            if len(kept) == stop:
                raise Cancelled

        with pytest.raises(Cancelled):
            modify(llama, corpus, under, specs[-1:], Store(tmp_path / f"{stop}"), cancel)
        assert kept == list(range(stop))
        found = modify(llama, corpus, under, specs[-1:], Store(tmp_path / f"{stop}"))
        assert kept == list(range(n_steps)), "no step is made twice"
        assert found == expected
        assert [path.stem.count(".") for path in (tmp_path / f"{stop}" / "deltas").glob("*.safetensors")] == [0]


def test_a_damaged_step_is_made_again(llama: LoadedModel, corpus: Corpus, tmp_path: Path, kept: list[int]) -> None:
    specs, mask = [ModifierSpec.parse("mean")], Mask.parse("a0,1,m3")

    def cancel(*_: object) -> None:
        if len(kept) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        modify(llama, corpus, mask, specs, Store(tmp_path), cancel)
    (path,) = (tmp_path / "deltas").glob("*.0.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    found = modify(llama, corpus, mask, specs, Store(tmp_path))
    assert kept == [0, 1, 0, 2]
    assert found == modify(llama, corpus, mask, specs, Store(None))
