"""Models on a hub by a few words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from explorer.checkpoints.hub import search_hub
from explorer.errors import ModelError
from tests.support.hub_search import play_hub


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with play_hub() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield


def test_names_are_found() -> None:
    assert search_hub("llama") == ["lab/small-llama", "lab/large-llama"]
    assert search_hub("llama", most=1) == ["lab/small-llama"]
    assert search_hub("no such") == []


@pytest.mark.parametrize("words", ["down", "torn"])
def test_a_hub_that_is_not_well_is_told_of(words: str) -> None:
    with pytest.raises(ModelError, match="Cannot search the hub"):
        search_hub(words)


def test_no_hub_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="Cannot search the hub"):
        search_hub("llama")
