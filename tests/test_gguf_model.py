"""A GGUF file as the model: it is the model that was written, or it is refused by the name of what has no place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    StableLmConfig,
    Starcoder2Config,
)

from explorer.checkpoints import find_checkpoint
from explorer.errors import ModelError
from explorer.export import export
from explorer.loading import LoadedModel, load
from explorer.masks import Mask
from explorer.records import ModelSpec
from explorer.store import Store
from tests.gguf_files import Change, describe, describe_tokens, read_tensors, write, write_model
from tests.tiny_models import VOCABULARY, WINDOW, load_folder, make_model, save

_COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 128, "bos_token_id": 256,
                           "eos_token_id": 257, "pad_token_id": None, "initializer_range": 0.3}  # fmt: skip
_BASE: dict[str, Any] = {**_COMMON, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
                         "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
                         "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}  # fmt: skip
_GEMMA: dict[str, Any] = {**_BASE, "head_dim": 16, "tie_word_embeddings": True, "sliding_window": 8,
                          "query_pre_attn_scalar": 16}  # fmt: skip
_MIXTURE: dict[str, Any] = {**_BASE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                            "decoder_sparse_step": 1, "mlp_only_layers": []}  # fmt: skip

MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_BASE, head_dim=16, rms_norm_eps=3e-3),
    "qwen2": lambda: Qwen2Config(**_BASE),
    "qwen3": lambda: Qwen3Config(**_BASE, head_dim=16),
    "qwen2moe": lambda: Qwen2MoeConfig(**_MIXTURE, shared_expert_intermediate_size=40),
    "qwen3moe": lambda: Qwen3MoeConfig(**_MIXTURE, head_dim=16, norm_topk_prob=True),
    "gemma2": lambda: Gemma2Config(**_GEMMA),
    "gemma3": lambda: Gemma3TextConfig(
        **{**_GEMMA, "num_hidden_layers": 7, "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }},
    ),
    "phi3": lambda: Phi3Config(**_BASE, sliding_window=9),
    "gpt2": lambda: GPT2Config(**_COMMON, n_embd=32, n_layer=3, n_head=4, n_positions=128),
    "starcoder2": lambda: Starcoder2Config(**_BASE, norm_epsilon=3e-3),
    "stablelm": lambda: StableLmConfig(**_BASE, use_qkv_bias=True),
}  # fmt: skip

IDS = torch.randint(0, VOCABULARY, (2, WINDOW), generator=torch.Generator().manual_seed(1))


def _load(path: Path) -> LoadedModel:
    return load(ModelSpec(str(path), "float32", "cpu"), Store(None), path.parent / "cache")


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def _refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        _load(path)
    assert "\n" not in str(caught.value)
    assert not list((path.parent / "cache" / "models").glob("*"))


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_model(MODELS["llama"]())


@pytest.mark.parametrize("architecture", list(MODELS))
def test_the_file_is_the_model(architecture: str, tmp_path: Path) -> None:
    model = make_model(MODELS[architecture]())
    loaded = _load(write_model(tmp_path / "model.gguf", model, architecture))
    own, read = model.state_dict(), loaded.model.state_dict()
    assert own.keys() == read.keys()
    assert all(torch.allclose(own[name], read[name], rtol=0, atol=1e-6) for name in own)
    close = 1e-4 * float(_logits(model).abs().max())
    torch.testing.assert_close(_logits(loaded.model), _logits(model), rtol=0, atol=close)
    again = AutoModelForCausalLM.from_pretrained(loaded.checkpoint.folder, dtype=torch.float32).eval()
    torch.testing.assert_close(_logits(again), _logits(model), rtol=0, atol=close)


@pytest.mark.parametrize("name", ["model.GGUF", "Model.Gguf"])
def test_the_suffix_may_be_in_capitals(name: str, llama: Any, tmp_path: Path) -> None:
    assert _load(write_model(tmp_path / name, llama, "llama")).n_layers == 3


def test_biases_of_attention_and_mlp_are_read(tmp_path: Path) -> None:
    model = make_model(LlamaConfig(**_BASE, attention_bias=True, mlp_bias=True))
    loaded = _load(write_model(tmp_path / "model.gguf", model, "llama"))
    torch.testing.assert_close(_logits(loaded.model), _logits(model), rtol=1e-4, atol=1e-4)


def test_a_bias_that_the_file_lacks_is_zero(tmp_path: Path) -> None:
    model = make_model(LlamaConfig(**_BASE, attention_bias=True))

    def only_queries_and_keys(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.endswith(("attn_v.bias", "attn_output.bias"))]:
            del tensors[name]

    loaded = _load(write_model(tmp_path / "model.gguf", model, "llama", only_queries_and_keys))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.bias.zero_()
            layer.self_attn.o_proj.bias.zero_()
    torch.testing.assert_close(_logits(loaded.model), _logits(model), rtol=1e-4, atol=1e-4)


def _with_rope(**rope: Any) -> Any:
    return make_model(LlamaConfig(**{**_BASE, "rope_parameters": {"rope_theta": 10000.0, **rope}}, head_dim=32))


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
    torch.testing.assert_close(_logits(_load(path).model), _logits(model), rtol=1e-4, atol=1e-4)


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
    loaded = _load(write_model(tmp_path / "model.gguf", model, "llama", _put_factors(factors)))
    assert loaded.config.rope_parameters["rope_type"] == "llama3"
    torch.testing.assert_close(loaded.model.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
    torch.testing.assert_close(_logits(loaded.model), _logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factors", [np.linspace(1, 5, 16), np.linspace(5, 1, 16), np.full(16, 2.0), np.full(16, 0.5)])
def test_other_factors_divide_the_frequencies_too(factors: np.ndarray, tmp_path: Path) -> None:
    model = _with_rope(rope_type="default")
    loaded = _load(write_model(tmp_path / "model.gguf", model, "llama", _put_factors(factors)))
    expected = model.model.rotary_emb.inv_freq / torch.tensor(factors, dtype=torch.float32)
    with torch.no_grad():
        loaded.model(IDS)  # some scalings choose their frequencies by the length of a text
    torch.testing.assert_close(loaded.model.model.rotary_emb.inv_freq, expected)


def test_factors_of_one_scale_nothing(llama: Any, tmp_path: Path) -> None:
    loaded = _load(write_model(tmp_path / "model.gguf", llama, "llama", _put_factors(np.ones(8))))
    assert loaded.config.rope_parameters["rope_type"] == "default"


def test_longrope_is_read(tmp_path: Path) -> None:
    long, short = [1.0 + 0.5 * i for i in range(4)], [1.0 + 0.1 * i for i in range(4)]
    rope = {"rope_type": "longrope", "rope_theta": 5000.0, "long_factor": long, "short_factor": short,
            "original_max_position_embeddings": 64, "factor": 2.0, "attention_factor": 1.2}  # fmt: skip
    config = Phi3Config(**{**_BASE, "rope_parameters": rope}, original_max_position_embeddings=64)
    model = make_model(config)

    def change(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        keys |= {"phi3.rope.scaling.attn_factor": 1.2, "phi3.rope.scaling.original_context_length": 64}
        tensors["rope_factors_long.weight"] = np.array(long)
        tensors["rope_factors_short.weight"] = np.array(short)

    loaded = _load(write_model(tmp_path / "model.gguf", model, "phi3", change))
    torch.testing.assert_close(_logits(loaded.model), _logits(model), rtol=1e-4, atol=1e-4)


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
        ("llama", "llama.vocab_size", 299, "299|rows"),
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
    model = make_model(MODELS[architecture]())
    path = write_model(tmp_path / "model.gguf", model, architecture, lambda keys, tensors: keys.update({key: value}))
    _refused(path, match)


@pytest.mark.parametrize(
    "key",
    ["general.author", "general.base_model.0.name", "quantize.imatrix.file", "imatrix.dataset", "general.license.link"],
)
def test_keys_that_decide_no_number_may_be_there(key: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: keys.update({key: "x"}))
    torch.testing.assert_close(_logits(_load(path).model), _logits(llama), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"]
)
def test_a_key_that_is_missing_is_named(name: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: keys.pop(f"llama.{name}"))
    _refused(path, f"llama.{name} is missing")


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "blk.2.ffn_norm.weight", "output_norm.weight"])
def test_a_tensor_that_is_missing_is_refused(name: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: tensors.pop(name))
    _refused(path, "it has no tensor for model.*(q_proj|post_attention_layernorm|norm)")


@pytest.mark.parametrize(
    "name",
    ["blk.0.attn_q_norm.weight", "blk.3.attn_norm.weight", "blk.0.attn_norm.bias", "v.patch_embd.weight",
     "blk.0.rope_freqs.weight", "blk.1.ffn_gate_exps.weight", "output.bias"],
)  # fmt: skip
def test_a_tensor_without_a_place_is_named(name: str, llama: Any, tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "model.gguf", llama, "llama", lambda keys, tensors: tensors.update({name: np.ones(32)})
    )
    _refused(path, name.replace(".", r"\."))


def test_another_architecture_is_refused(llama: Any, tmp_path: Path) -> None:
    keys = {"deci.block_count": 3, **describe_tokens()}
    _refused(write(tmp_path / "model.gguf", "deci", keys, read_tensors(llama, "llama")), "'deci' is not read")


def _write_parts(folder: Path, model: Any, parts: int) -> list[Path]:
    """Write a model as gguf-split does: all keys in the first part, tensors dealt out."""
    keys, tensors = {**describe(model, "llama"), **describe_tokens()}, read_tensors(model, "llama")
    names, paths = list(tensors), []
    for part in range(parts):
        split = {"split.no": part, "split.count": parts}
        here = {name: tensors[name] for name in names[part::parts]}
        path = folder / f"big-{part + 1:05}-of-{parts:05}.gguf"
        paths.append(write(path, "llama", {**(keys if part == 0 else {}), **split}, here))
    return paths


@pytest.mark.parametrize("given", [0, 1, 2])
def test_a_split_file_is_read_whole(given: int, llama: Any, tmp_path: Path) -> None:
    paths = _write_parts(tmp_path, llama, 3)
    torch.testing.assert_close(_logits(_load(paths[given]).model), _logits(llama), rtol=1e-4, atol=1e-4)


def test_the_part_that_is_missing_is_named(llama: Any, tmp_path: Path) -> None:
    paths = _write_parts(tmp_path, llama, 3)
    paths[1].unlink()
    _refused(paths[0], "big-00002-of-00003.gguf is not beside it")


def test_a_part_that_is_named_otherwise_is_refused(llama: Any, tmp_path: Path) -> None:
    path = _write_parts(tmp_path, llama, 2)[0].rename(tmp_path / "renamed.gguf")
    _refused(path, "part 0 . 1 of 2")


def test_parts_of_two_models_are_refused(llama: Any, tmp_path: Path) -> None:
    paths = _write_parts(tmp_path, llama, 2)
    paths[1].write_bytes(paths[0].read_bytes())
    _refused(paths[0], "not part 2 of 2")


def test_the_digest_follows_every_part(llama: Any, tmp_path: Path) -> None:
    store = Store(None)
    before = find_checkpoint(str(_write_parts(tmp_path, llama, 2)[0]), store, tmp_path / "cache").digest(store)
    with torch.no_grad():
        llama.lm_head.weight[0, 0] += 1
    after = find_checkpoint(str(_write_parts(tmp_path, llama, 2)[0]), store, tmp_path / "cache").digest(store)
    assert before != after


def test_a_file_of_two_parts_can_be_exported(llama: Any, tmp_path: Path, store: Store) -> None:
    loaded = _load(_write_parts(tmp_path, llama, 2)[0])
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    made = export(loaded, Mask.parse("1"), tmp_path / "out", corpus, store, format="gguf")
    assert made.verification is not None
    assert _load(tmp_path / "out" / "model.gguf").n_layers == 2


def test_the_products_own_file_reads_back(tmp_path: Path, store: Store) -> None:
    rope = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}  # fmt: skip
    loaded = load_folder(save(_with_rope(**rope), tmp_path / "model"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask(), tmp_path / "out", corpus, store, format="gguf-f16")
    read = _load(tmp_path / "out" / "model.gguf")
    assert read.config.rope_parameters["rope_type"] == "llama3"
    torch.testing.assert_close(_logits(read.model), _logits(loaded.model), rtol=0, atol=0.05)
    assert (read.tokenize("python-docs", WINDOW, WINDOW).held_out.ids == corpus.held_out.ids[:1]).all()


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

    loaded = _load(write_model(tmp_path / "model.gguf", llama, "llama", change))
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

    loaded = _load(write_model(tmp_path / "model.gguf", llama, "llama", change))
    found = loaded.tokenizer.convert_ids_to_tokens(loaded.tokenizer("ab").input_ids)
    assert found == ["<s>", "ab" if prefix is False else "▁ab"]
    assert loaded.config.eos_token_id == 2


def test_no_token_is_beyond_the_embedding(llama: Any, tmp_path: Path) -> None:
    loaded = _load(write_model(tmp_path / "model.gguf", llama, "llama"))
    assert max(loaded.tokenizer.get_vocab().values()) < VOCABULARY
    assert len(loaded.tokenizer("<|endoftext|>").input_ids) > 1


def test_digits_are_apart_where_the_file_says_so(llama: Any, tmp_path: Path) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        keys["tokenizer.ggml.pre"] = "smollm"
        keys["tokenizer.ggml.merges"].append("Ġ 1")
        keys["tokenizer.ggml.tokens"][264] = "Ġ1"

    loaded = _load(write_model(tmp_path / "model.gguf", llama, "llama", change))
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.tokenizer("a 12").input_ids) == ["a", "Ġ", "1", "2"]


@pytest.mark.parametrize("cut", [3, 20, 200, 3000, -1, -5000])
def test_a_file_that_ends_early_is_refused(cut: int, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama")
    path.write_bytes(path.read_bytes()[:cut])
    _refused(path, "Cannot read the GGUF file")


@pytest.mark.parametrize("at", [8, 16, 24])
def test_absurd_counts_are_refused_at_once(at: int, llama: Any, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", llama, "llama")
    data = bytearray(path.read_bytes())
    data[at : at + 8] = (2**60).to_bytes(8, "little")
    path.write_bytes(data)
    _refused(path, "it is damaged")
