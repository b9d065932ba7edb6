"""Arrays in signatures: what they say is held to while tests run, in one vocabulary, and asks for nothing elsewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from explorer.evaluation.perplexity import score_batch
from explorer.evaluation.scores import Score
from explorer.masks.mask import NONE
from explorer.model.loading import LoadedModel
from explorer.numerics.intervals import t_interval
from explorer.numerics.ridge import fit_ridge
from explorer.text.windows import Windows
from tests.support.shapes import CHECKED
from tests.support.tiny_models import REPOSITORY

#: The axes that arrays have; `chosen`, `known` and `starts` are some of values, windows and layers.
AXES = {
    "batch", "window", "width", "positions", "vocabulary", "layers", "heads", "windows", "masks", "draws",
    "boundaries", "units", "values", "samples", "groups", "rankings", "outputs", "frequencies", "chosen", "known",
    "starts", "rank", "rows", "columns", "bytes", "pairs",
}  # fmt: skip
FILES = sorted((REPOSITORY / "explorer").rglob("*.py"))
_KINDS = re.compile(r"(Float|Int|UInt|Bool|Real|Shaped)\d*")


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="samples"):
        t_interval(np.zeros((2, 3)))


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="ids"):
        Windows(np.zeros((2, 3)), np.zeros(2, dtype=np.int64))


def test_axes_of_one_name_are_of_one_length() -> None:
    x = torch.zeros(4, 3, dtype=torch.float64)
    with pytest.raises(TypeCheckError, match="positions"):
        fit_ridge(x, torch.zeros(5, 3, dtype=torch.float64))
    with pytest.raises(TypeCheckError, match="windows"):
        Score(NONE, np.zeros(2), np.zeros(3), 1, np.zeros(2, dtype=np.int64))


def test_checks_leave_a_generator_in_inference_mode(llama: LoadedModel) -> None:
    seen: list[bool] = []
    with llama.wrappers.checking(lambda: seen.append(torch.is_inference_mode_enabled())):
        assert len(list(score_batch(llama.wrappers, torch.zeros((1, 4), dtype=torch.long), [NONE]))) == 1
    assert len(seen) == llama.n_layers
    assert all(seen)


def test_many_are_checked() -> None:
    assert len(CHECKED) > 30


def _axes(path: Path) -> Iterator[str]:
    """Yield the names of axes in a file, without numbers and signs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Subscript(value=ast.Name(id=kind), slice=ast.Tuple(elts=[_, ast.Constant(value=str(axes))])) if (
                _KINDS.fullmatch(kind)
            ):
                yield from (
                    name for axis in axes.split() if (name := axis.removesuffix("-1")).isidentifier() and name != "_"
                )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_axes_have_names_of_one_vocabulary(path: Path) -> None:
    assert set(_axes(path)) <= AXES


def test_the_vocabulary_is_used() -> None:
    assert {axis for path in FILES for axis in _axes(path)} == AXES


def test_the_program_does_not_need_the_checker() -> None:
    script = "import sys; sys.modules['beartype'] = None; import explorer.execution.measuring, explorer.charts.triangle"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
