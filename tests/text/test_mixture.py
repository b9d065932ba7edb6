"""Texts by weight: what is written is read again, and a mixture has as much of each as it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.errors import TextError
from explorer.model.loading import LoadedModel
from explorer.text.mixture import read_mixture, write_mixture
from tests.support.tiny_models import WINDOW


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["c4"], {"c4": 1.0}),
        (["wikitext2@2", "c4"], {"wikitext2": 2.0, "c4": 1.0}),
        (["a@b.txt@0.5", "hf:x/y:z"], {"a@b.txt": 0.5, "hf:x/y:z": 1.0}),
    ],
)
def test_names_with_weights_are_read_and_written(names: list[str], weights: dict[str, float]) -> None:
    assert read_mixture(names) == weights
    assert read_mixture(write_mixture(weights)) == weights


def test_a_text_that_counts_nothing_is_refused() -> None:
    with pytest.raises(TextError, match="counts nothing"):
        read_mixture(["c4@0"])


def test_a_mixture_has_of_each_text_as_much_as_it_counts(llama: LoadedModel, tmp_path: Path) -> None:
    texts = {str(tmp_path / f"{letter}.txt"): letter for letter in "ab"}
    for path, letter in texts.items():
        Path(path).write_text(f"{letter} " * 2000)
    tokens = {"tokens": 5 * WINDOW, "window": WINDOW, "calibration_tokens": 12 * WINDOW}
    for weights, expected in (((3.0, 1.0), (9, 3)), ((1.0, 1.0), (6, 6)), ((1.0, 0.5), (8, 4))):
        corpus = llama.tokenize("python-docs", calibration=dict(zip(texts, weights, strict=True)), **tokens)
        read = [llama.tokenizer.decode(row)[0:2].strip() for row in corpus.calibration.ids]
        assert tuple(read.count(letter) for letter in "ab") == expected
    equal = llama.tokenize("python-docs", calibration=list(texts), **tokens)
    assert equal.calibration_names == tuple(texts)
    assert corpus.calibration_names == tuple(
        f"{path}@{weight}" for path, weight in zip(texts, ("1", "0.5"), strict=True)
    )
