"""What a first load found by experiment is taken from the store by the next, and found anew where it misleads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from explorer.checkpoints.spec import ModelSpec
from explorer.model import dissection, found_architectures
from explorer.model.architecture import Architecture
from explorer.model.found_architectures import wrap_as_found
from explorer.storage.store import Store
from tests.support.tiny_models import FAMILIES, make_model

ONE_OF_EACH = ("llama", "gemma2", "granite", "gpt2", "opt", "bloom", "falcon_sequential", "mixtral")


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that were experimented on."""
    seen: list[Any] = []

    def find(model: Any, architecture: Architecture) -> Architecture:
        seen.append(model)
        return dissection.find_updates(model, architecture)

    monkeypatch.setattr(found_architectures, "find_updates", find)
    return seen


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_the_second_load_knows_what_the_first_found(family: str, store: Store, experiments: list[Any]) -> None:
    model = make_model(FAMILIES[family]())
    (first, parallel), (second, again) = (wrap_as_found(model, "digest", ModelSpec("m"), store) for _ in range(2))
    assert len(experiments) == 1
    assert parallel == again
    assert second.architecture == replace(first.architecture, known=True)


def test_what_no_longer_holds_is_found_anew(
    store: Store, experiments: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(FAMILIES["gemma2"]())
    monkeypatch.setattr(found_architectures, "_recall", lambda *_: replace(Architecture(), known=True))
    monkeypatch.setattr("explorer.model.selfcheck.find_updates", found_architectures.find_updates)
    wrappers, _ = wrap_as_found(model, "digest", ModelSpec("m"), store)
    assert len(experiments) == 1
    assert wrappers.architecture.mlp_norm == "post_feedforward_layernorm"


def test_the_code_that_a_model_brings_is_experimented_on_each_time(store: Store, experiments: list[Any]) -> None:
    model = make_model(FAMILIES["llama"]())
    for _ in range(2):
        wrap_as_found(model, "digest", ModelSpec("m", trust_remote_code=True), store)
    assert len(experiments) == 2


def test_a_finding_is_of_one_dtype(store: Store, experiments: list[Any]) -> None:
    model = make_model(FAMILIES["llama"]())
    wrap_as_found(model, "digest", ModelSpec("m"), store)
    wrap_as_found(model.bfloat16(), "digest", ModelSpec("m"), store)
    assert len(experiments) == 2


def test_a_residual_stream_that_is_added_inside_is_found(store: Store) -> None:
    for family, inside in (("bloom", True), ("falcon_sequential", False), ("llama", False)):
        wrappers, _ = wrap_as_found(make_model(FAMILIES[family]()), family, ModelSpec("m"), store)
        assert wrappers.architecture.residual_inside is inside, family
