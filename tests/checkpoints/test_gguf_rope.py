"""How a GGUF file scales rotary positions: every angle is as the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, Phi3Config

from explorer.export import export
from explorer.masks.mask import Mask
from explorer.storage.store import Store
from tests.support.gguf_files import (
    IDS,
    LLAMA,
    Change,
    load_gguf,
    read_logits,
    write_model,
)
from tests.support.tiny_models import WINDOW, load_folder, make_model, save


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_model(LlamaConfig(**LLAMA, head_dim=16))


def _with_rope(**rope: Any) -> Any:
    return make_model(LlamaConfig(**{**LLAMA, "rope_parameters": {"rope_theta": 10000.0, **rope}}, head_dim=32))


_LINEAR = {"rope_type": "linear", "factor": 4.0}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
SCALINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": (_LINEAR, {"type": "linear", "factor": 4.0}),
    "linear without its type": (_LINEAR, {"factor": 4.0}),
    "yarn": (_YARN, {"type": "yarn", "factor": 4.0, "original_context_length": 32, "finetuned": True}),
    "yarn with its bounds": (
        {**_YARN, "beta_fast": 16.0, "beta_slow": 2.0},
        {"type": "yarn", "factor": 4.0, "original_context_length": 32, "yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0},
    ),
    "none": ({"rope_type": "default"}, {"type": "none"}),
}


@pytest.mark.parametrize("name", list(SCALINGS))
def test_the_scaling_of_rope_is_read(name: str, tmp_path: Path) -> None:
    rope, scaling = SCALINGS[name]
    model = _with_rope(**rope)
    path = write_model(
        tmp_path / "model.gguf",
        model,
        "llama",
        lambda keys, tensors: keys.update({f"llama.rope.scaling.{key}": value for key, value in scaling.items()}),
    )
    torch.testing.assert_close(read_logits(load_gguf(path).model), read_logits(model), rtol=1e-4, atol=1e-4)


def _put_factors(factors: np.ndarray) -> Change:
    return lambda keys, tensors: tensors.update({"rope_freqs.weight": factors})


@pytest.mark.parametrize("factor", [8.0, 32.0])
@pytest.mark.parametrize("original", [16, 100, 8192])
def test_the_factors_of_llama_3_become_its_scaling(factor: float, original: int, tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": original}  # fmt: skip
    model = _with_rope(**rope)
    plain = 10000.0 ** -(torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    factors = (plain / model.model.rotary_emb.inv_freq.double()).float().numpy()
    loaded = load_gguf(write_model(tmp_path / "model.gguf", model, "llama", _put_factors(factors)))
    assert loaded.config.rope_parameters["rope_type"] == "llama3"
    torch.testing.assert_close(loaded.model.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
    torch.testing.assert_close(read_logits(loaded.model), read_logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factors", [np.linspace(1, 5, 16), np.linspace(5, 1, 16), np.full(16, 2.0), np.full(16, 0.5)])
def test_other_factors_divide_the_frequencies_too(factors: np.ndarray, tmp_path: Path) -> None:
    model = _with_rope(rope_type="default")
    loaded = load_gguf(write_model(tmp_path / "model.gguf", model, "llama", _put_factors(factors)))
    expected = model.model.rotary_emb.inv_freq / torch.tensor(factors, dtype=torch.float32)
    with torch.no_grad():
        loaded.model(IDS)  # some scalings choose their frequencies by the length of a text
    torch.testing.assert_close(loaded.model.model.rotary_emb.inv_freq, expected)


def test_factors_of_one_scale_nothing(llama: Any, tmp_path: Path) -> None:
    loaded = load_gguf(write_model(tmp_path / "model.gguf", llama, "llama", _put_factors(np.ones(8))))
    assert loaded.config.rope_parameters["rope_type"] == "default"


def test_longrope_is_read(tmp_path: Path) -> None:
    long, short = [1.0 + 0.5 * i for i in range(4)], [1.0 + 0.1 * i for i in range(4)]
    rope = {"rope_type": "longrope", "rope_theta": 5000.0, "long_factor": long, "short_factor": short,
            "original_max_position_embeddings": 64, "factor": 2.0, "attention_factor": 1.2}  # fmt: skip
    config = Phi3Config(**{**LLAMA, "rope_parameters": rope}, original_max_position_embeddings=64)
    model = make_model(config)

    def change(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        keys |= {"phi3.rope.scaling.attn_factor": 1.2, "phi3.rope.scaling.original_context_length": 64}
        tensors["rope_factors_long.weight"] = np.array(long)
        tensors["rope_factors_short.weight"] = np.array(short)

    loaded = load_gguf(write_model(tmp_path / "model.gguf", model, "phi3", change))
    torch.testing.assert_close(read_logits(loaded.model), read_logits(model), rtol=1e-4, atol=1e-4)


def test_the_products_own_file_reads_back(tmp_path: Path, store: Store) -> None:
    rope = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}  # fmt: skip
    loaded = load_folder(save(_with_rope(**rope), tmp_path / "model"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask(), tmp_path / "out", corpus, store, format="gguf-f16")
    read = load_gguf(tmp_path / "out" / "model.gguf")
    assert read.config.rope_parameters["rope_type"] == "llama3"
    torch.testing.assert_close(read_logits(read.model), read_logits(loaded.model), rtol=0, atol=0.05)
    assert (read.tokenize("python-docs", WINDOW, WINDOW).held_out.ids == corpus.held_out.ids[:1]).all()
