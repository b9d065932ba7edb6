"""A GGUF file's tokenizer: it cuts a text, and begins it, as llama.cpp does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig

from tests.support.gguf_files import (
    LLAMA,
    load_gguf,
    write_model,
)
from tests.support.tiny_models import VOCABULARY, WINDOW, make_model


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_model(LlamaConfig(**LLAMA, head_dim=16))


@pytest.mark.parametrize(
    ("pre", "said", "bos"),
    [
        ("gpt-2", None, False), ("gpt-2", True, True), ("smollm", None, False), ("qwen2", None, False),
        ("llama-bpe", None, True), ("llama-bpe", False, False), ("tekken", None, True), (None, None, False),
    ],
)  # fmt: skip
def test_bos_is_as_the_file_says_else_as_in_llama_cpp(
    pre: str | None, said: bool | None, bos: bool, llama: Any, tmp_path: Path
) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        for key, value in (("tokenizer.ggml.pre", pre), ("tokenizer.ggml.add_bos_token", said)):
            keys.pop(key)
            if value is not None:
                keys[key] = value

    loaded = load_gguf(write_model(tmp_path / "model.gguf", llama, "llama", change))
    assert (loaded.tokenizer("a").input_ids[0] == 256) == bos
    assert loaded.tokenize("python-docs", WINDOW, WINDOW).bos == bos


@pytest.mark.parametrize("prefix", [None, True, False])
def test_sentencepiece_takes_bos_and_a_blank_unless_the_file_says_otherwise(
    prefix: bool | None, llama: Any, tmp_path: Path
) -> None:
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["▁", "a", "b", "▁a", "ab", "▁ab"]
    tokens = ["<unk>", "<s>", "</s>", *letters, *pieces]
    tokens += [f"[PAD{number}]" for number in range(len(tokens), VOCABULARY)]

    def change(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        for key in [key for key in keys if key.startswith("tokenizer.")]:
            del keys[key]
        keys |= {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [-float(number) for number in range(VOCABULARY)],
            "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 6 + [5] * (VOCABULARY - 265),
        }
        if prefix is not None:
            keys["tokenizer.ggml.add_space_prefix"] = prefix

    loaded = load_gguf(write_model(tmp_path / "model.gguf", llama, "llama", change))
    found = loaded.tokenizer.convert_ids_to_tokens(loaded.tokenizer("ab").input_ids)
    assert found == ["<s>", "ab" if prefix is False else "▁ab"]
    assert loaded.config.eos_token_id == 2


def test_no_token_is_beyond_the_embedding(llama: Any, tmp_path: Path) -> None:
    loaded = load_gguf(write_model(tmp_path / "model.gguf", llama, "llama"))
    assert max(loaded.tokenizer.get_vocab().values()) < VOCABULARY
    assert len(loaded.tokenizer("<|endoftext|>").input_ids) > 1


def test_digits_are_apart_where_the_file_says_so(llama: Any, tmp_path: Path) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        keys["tokenizer.ggml.pre"] = "smollm"
        keys["tokenizer.ggml.merges"].append("Ġ 1")
        keys["tokenizer.ggml.tokens"][264] = "Ġ1"

    loaded = load_gguf(write_model(tmp_path / "model.gguf", llama, "llama", change))
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.tokenizer("a 12").input_ids) == ["a", "Ġ", "1", "2"]
