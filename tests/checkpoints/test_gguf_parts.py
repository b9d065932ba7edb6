"""GGUF files in parts: read whole, or refused by the name of the part that is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from explorer.checkpoints.resolve import resolve_checkpoint
from explorer.export import export
from explorer.masks.mask import Mask
from explorer.storage.store import Store
from tests.support.gguf_files import LLAMA, load_gguf, read_logits, refuse_gguf, write_parts
from tests.support.tiny_models import WINDOW, make_model


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_model(LlamaConfig(**LLAMA, head_dim=16))


@pytest.mark.parametrize("given", [0, 1, 2])
def test_a_split_file_is_read_whole(given: int, llama: Any, tmp_path: Path) -> None:
    paths = write_parts(tmp_path, llama, 3)
    torch.testing.assert_close(read_logits(load_gguf(paths[given]).model), read_logits(llama), rtol=1e-4, atol=1e-4)


def test_the_part_that_is_missing_is_named(llama: Any, tmp_path: Path) -> None:
    paths = write_parts(tmp_path, llama, 3)
    paths[1].unlink()
    refuse_gguf(paths[0], "big-00002-of-00003.gguf is not beside it")


def test_a_part_that_is_named_otherwise_is_refused(llama: Any, tmp_path: Path) -> None:
    path = write_parts(tmp_path, llama, 2)[0].rename(tmp_path / "renamed.gguf")
    refuse_gguf(path, "part 0 . 1 of 2")


def test_parts_of_two_models_are_refused(llama: Any, tmp_path: Path) -> None:
    paths = write_parts(tmp_path, llama, 2)
    paths[1].write_bytes(paths[0].read_bytes())
    refuse_gguf(paths[0], "not part 2 of 2")


def test_the_digest_follows_every_part(llama: Any, tmp_path: Path) -> None:
    store = Store(None)
    before = resolve_checkpoint(str(write_parts(tmp_path, llama, 2)[0]), store, tmp_path / "cache").digest(store)
    with torch.no_grad():
        llama.lm_head.weight[0, 0] += 1
    after = resolve_checkpoint(str(write_parts(tmp_path, llama, 2)[0]), store, tmp_path / "cache").digest(store)
    assert before != after


def test_a_file_of_two_parts_can_be_exported(llama: Any, tmp_path: Path, store: Store) -> None:
    loaded = load_gguf(write_parts(tmp_path, llama, 2)[0])
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    made = export(loaded, Mask.parse("1"), tmp_path / "out", corpus, store, format="gguf")
    assert made.verification is not None
    assert load_gguf(tmp_path / "out" / "model.gguf").n_layers == 2
