"""A GGUF file as the model: it is the model that was written, or it is refused by the name of what has no place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from explorer.checkpoints.resolve import resolve_checkpoint
from explorer.checkpoints.spec import ModelSpec
from explorer.errors import ModelError
from explorer.export import export
from explorer.masks.mask import Mask
from explorer.model.loading import load
from explorer.storage.store import Store
from tests.support.gguf_configs import ARCHITECTURES
from tests.support.gguf_files import (
    LLAMA,
    describe_tokens,
    load_gguf,
    read_logits,
    read_tensors,
    refuse_gguf,
    write,
    write_model,
)
from tests.support.tiny_models import WINDOW, make_model


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_model(ARCHITECTURES["llama"]())


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_file_is_the_model(architecture: str, tmp_path: Path) -> None:
    model = make_model(ARCHITECTURES[architecture]())
    loaded = load_gguf(write_model(tmp_path / "model.gguf", model, architecture))
    own, read = model.state_dict(), loaded.model.state_dict()
    assert own.keys() == read.keys()
    assert all(torch.allclose(own[name], read[name], rtol=0, atol=1e-6) for name in own)
    close = 1e-4 * float(read_logits(model).abs().max())
    torch.testing.assert_close(read_logits(loaded.model), read_logits(model), rtol=0, atol=close)
    again = AutoModelForCausalLM.from_pretrained(loaded.checkpoint.folder, dtype=torch.float32).eval()
    torch.testing.assert_close(read_logits(again), read_logits(model), rtol=0, atol=close)


@pytest.mark.parametrize("name", ["model.GGUF", "Model.Gguf"])
def test_the_suffix_may_be_in_capitals(name: str, llama: Any, tmp_path: Path) -> None:
    assert load_gguf(write_model(tmp_path / name, llama, "llama")).n_layers == 3


def test_biases_of_attention_and_mlp_are_read(tmp_path: Path) -> None:
    model = make_model(LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True))
    loaded = load_gguf(write_model(tmp_path / "model.gguf", model, "llama"))
    torch.testing.assert_close(read_logits(loaded.model), read_logits(model), rtol=1e-4, atol=1e-4)


def test_a_bias_that_the_file_lacks_is_zero(tmp_path: Path) -> None:
    model = make_model(LlamaConfig(**LLAMA, attention_bias=True))

    def only_queries_and_keys(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.endswith(("attn_v.bias", "attn_output.bias"))]:
            del tensors[name]

    loaded = load_gguf(write_model(tmp_path / "model.gguf", model, "llama", only_queries_and_keys))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.bias.zero_()
            layer.self_attn.o_proj.bias.zero_()
    torch.testing.assert_close(read_logits(loaded.model), read_logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "key", "value", "match"),
    [
        ("llama", "llama.logit_scale", 2.0, "llama.logit_scale = 2.0"),
        ("llama", "llama.expert_count", 8, "llama.expert_count is 8"),
        ("llama", "llama.attention.sliding_window", 16, "attention.sliding_window is 16"),
        ("llama", "llama.attention.causal", False, "attention.causal is False"),
        ("llama", "llama.rope.scaling.type", "swirl", "swirl"),
        ("llama", "llama.rope.scaling.yarn_log_multiplier", 0.1, "yarn_log_multiplier"),
        ("llama", "llama.rope.dimension_count", 8, "rotates 8 of the 16"),
        ("llama", "llama.attention.value_length", 8, "keys and values"),
        ("llama", "llama.attention.head_count", [4, 4, 0], "head_count differs from layer to layer"),
        ("llama", "llama.attention.layer_norm_rms_epsilon", "small", "layer_norm_rms_epsilon is small"),
        ("llama", "llama.vocab_size", 299, "300 rows"),
        ("llama", "llama.block_count", 2**31, "block_count is 2147483648"),
        ("llama", "llama.block_count", 4, "it has no tensor for model.layers.3"),
        ("llama", "llama.embedding_length", 64, "token_embd.weight is .300, 32., and .300, 64. by"),
        ("llama", "llama.feed_forward_length", 2**31, "blk.0.ffn_.* by the file's keys"),
        ("qwen3moe", "qwen3moe.expert_count", 2**31, "expert_count is 2147483648, and it has 4"),
        ("llama", "other.block_count", 3, "other.block_count"),
        ("llama", "general.type", "adapter", "no model"),
        ("gemma2", "gemma2.final_logit_softcapping", "x", "final_logit_softcapping is x"),
        ("qwen2", "qwen2.attn_logit_softcapping", 50.0, "qwen2.attn_logit_softcapping"),
        ("stablelm", "stablelm.use_parallel_residual", True, "use_parallel_residual is True"),
        ("llama", "tokenizer.ggml.pre", "klingon", "klingon"),
        ("llama", "tokenizer.ggml.model", "rwkv", "rwkv"),
        ("llama", "tokenizer.ggml.eos_token_id", 5000, "eos_token_id is 5000"),
    ],
)
def test_a_key_without_a_place_is_named(architecture: str, key: str, value: Any, match: str, tmp_path: Path) -> None:
    model = make_model(ARCHITECTURES[architecture]())
    path = write_model(tmp_path / "model.gguf", model, architecture, lambda keys, tensors: keys.update({key: value}))
    refuse_gguf(path, match)


@pytest.mark.parametrize(
    "key",
    ["general.author", "general.base_model.0.name", "quantize.imatrix.file", "imatrix.dataset", "general.license.link"],
)
def test_keys_that_decide_no_number_may_be_there(key: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: keys.update({key: "x"}))
    torch.testing.assert_close(read_logits(load_gguf(path).model), read_logits(llama), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"]
)
def test_a_key_that_is_missing_is_named(name: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: keys.pop(f"llama.{name}"))
    refuse_gguf(path, f"llama.{name} is missing")


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "blk.2.ffn_norm.weight", "output_norm.weight"])
def test_a_tensor_that_is_missing_is_refused(name: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: tensors.pop(name))
    refuse_gguf(path, "it has no tensor for model.*(q_proj|post_attention_layernorm|norm)")


@pytest.mark.parametrize(
    "name",
    ["blk.0.attn_q_norm.weight", "blk.3.attn_norm.weight", "blk.0.attn_norm.bias", "v.patch_embd.weight",
     "blk.0.rope_freqs.weight", "blk.1.ffn_gate_exps.weight", "output.bias"],
)  # fmt: skip
def test_a_tensor_without_a_place_is_named(name: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: tensors.update({name: np.ones(32)})
    )
    refuse_gguf(path, name.replace(".", r"\."))


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "phi3", "starcoder2"])
def test_without_a_layer_it_is_exported_proven_and_read_back(architecture: str, tmp_path: Path, store: Store) -> None:
    config = LlamaConfig(**LLAMA, attention_bias=True) if architecture == "llama" else ARCHITECTURES[architecture]()
    loaded = load_gguf(write_model(tmp_path / "model.gguf", make_model(config), architecture))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask.parse("1-2"), tmp_path / "out", corpus, store, format="gguf")
    assert not list(tmp_path.glob(".*"))
    with loaded.wrappers.as_variant(Mask.parse("1-2")):
        expected = read_logits(loaded.model)
    torch.testing.assert_close(read_logits(load_gguf(tmp_path / "out" / "model.gguf").model), expected)


def test_another_architecture_is_refused(llama: Any, tmp_path: Path) -> None:
    keys = {"deci.block_count": 3, **describe_tokens()}
    refuse_gguf(write(tmp_path / "model.gguf", "deci", keys, read_tensors(llama, "llama")), "'deci' is not read")


@pytest.mark.parametrize("cut", [3, 20, 200, 3000, -1, -5000])
def test_a_file_that_ends_early_is_refused(cut: int, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama")
    path.write_bytes(path.read_bytes()[:cut])
    refuse_gguf(path, "Cannot read the GGUF file")


@pytest.mark.parametrize("at", [8, 16, 24])
def test_absurd_counts_are_refused_at_once(at: int, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama")
    data = bytearray(path.read_bytes())
    data[at : at + 8] = (2**60).to_bytes(8, "little")
    path.write_bytes(data)
    refuse_gguf(path, "it is damaged")


def test_file_that_is_no_gguf_is_refused(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF but not really" * 20)
    with pytest.raises(ModelError, match="GGUF"):
        load(ModelSpec(str(path), "float32", "cpu"), store, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix == ".safetensors"]


def test_a_truncated_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"x" * 40)
    with pytest.raises(ModelError, match="Cannot read the GGUF file"):
        load(ModelSpec(str(tmp_path / "model.gguf"), "float32", "cpu"), Store(None), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*"))


def test_gguf_by_path_is_the_default_models_checkpoint(reals, tmp_path: Path) -> None:
    store = Store(None)
    default = reals.load("float32").checkpoint
    assert default.dequantized_from is not None
    assert default.dequantized_from.suffix == ".gguf"
    by_path = resolve_checkpoint(str(default.dequantized_from), store, reals.cache)
    assert by_path.folder == default.folder
    assert by_path.digest(store) == default.digest(store)
