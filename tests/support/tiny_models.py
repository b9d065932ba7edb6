"""Tiny random models of every family, with a byte-level tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

from explorer.checkpoints.spec import ModelSpec
from explorer.model.loading import LoadedModel, load
from explorer.storage.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent.parent
VOCABULARY = 300
WINDOW = 24  # longer than every sliding window below
SLIDING = 8

_COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 128, "bos_token_id": 256,
                           "eos_token_id": 257, "pad_token_id": None}  # fmt: skip
_LLAMA: dict[str, Any] = {**_COMMON, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
                          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
                          "initializer_range": 0.3, "tie_word_embeddings": False}  # fmt: skip
_GEMMA: dict[str, Any] = {**_LLAMA, "num_hidden_layers": 5, "sliding_window": SLIDING,
                          "query_pre_attn_scalar": 8, "tie_word_embeddings": True}  # fmt: skip
_NEOX: dict[str, Any] = {**_COMMON, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
                         "num_attention_heads": 4, "initializer_range": 0.3}  # fmt: skip
_PLAIN: dict[str, Any] = {k: v for k, v in _LLAMA.items() if k != "head_dim"}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "output_router_logits": False}
_TYPES = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"]

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_LLAMA),
    "mistral": lambda: MistralConfig(**_LLAMA, sliding_window=SLIDING),
    "qwen2": lambda: Qwen2Config(
        **_LLAMA, use_sliding_window=True, sliding_window=SLIDING, max_window_layers=1,
        layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
    "qwen3": lambda: Qwen3Config(**{**_LLAMA, "num_hidden_layers": 6}),
    "gemma2": lambda: Gemma2Config(**_GEMMA, layer_types=_TYPES),
    "gemma3_text": lambda: Gemma3TextConfig(**_GEMMA, layer_types=_TYPES),
    "gpt2": lambda: GPT2Config(
        **_COMMON, n_embd=32, n_layer=4, n_head=4, n_positions=128, initializer_range=0.3,
    ),
    "gemma": lambda: GemmaConfig(**_LLAMA),
    "phi": lambda: PhiConfig(**_PLAIN),
    "phi3": lambda: Phi3Config(**_PLAIN),
    "granite": lambda: GraniteConfig(
        **_PLAIN, residual_multiplier=0.4, embedding_multiplier=3.0, logits_scaling=2.0, attention_multiplier=0.3,
    ),
    "olmo2": lambda: Olmo2Config(**_PLAIN),
    "smollm3": lambda: SmolLM3Config(**_PLAIN, no_rope_layers=[1, 0, 1, 1], layer_types=["full_attention"] * 4),
    "stablelm_sequential": lambda: StableLmConfig(**_PLAIN, use_parallel_residual=False),
    "stablelm_parallel": lambda: StableLmConfig(**_PLAIN, use_parallel_residual=True),
    "starcoder2": lambda: Starcoder2Config(**_PLAIN),
    "cohere2": lambda: Cohere2Config(**{**_GEMMA, "pad_token_id": 0}, layer_types=_TYPES, logit_scale=0.5),
    "opt": lambda: OPTConfig(
        **_COMMON | {"pad_token_id": 1}, hidden_size=32, ffn_dim=48, num_hidden_layers=4, num_attention_heads=4,
        word_embed_proj_dim=32, init_std=0.3,
    ),
    "bloom": lambda: BloomConfig(**_COMMON, hidden_size=32, n_layer=4, n_head=4, initializer_range=0.3),
    "falcon_parallel": lambda: FalconConfig(**_NEOX, parallel_attn=True, new_decoder_architecture=False),
    "falcon_new": lambda: FalconConfig(**_NEOX, num_kv_heads=2, new_decoder_architecture=True),
    "falcon_sequential": lambda: FalconConfig(**_NEOX, parallel_attn=False, new_decoder_architecture=False, bias=True),
    "mixtral": lambda: MixtralConfig(**_LLAMA, **_EXPERTS, num_local_experts=4),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_LLAMA, **_EXPERTS, num_experts=4, moe_intermediate_size=24, decoder_sparse_step=2, mlp_only_layers=[3],
    ),
    "gpt_oss": lambda: GptOssConfig(
        **_LLAMA, **_EXPERTS, num_local_experts=4, sliding_window=SLIDING,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "gpt_neox_parallel": lambda: GPTNeoXConfig(**_NEOX, use_parallel_residual=True),
    "gpt_neox_sequential": lambda: GPTNeoXConfig(**_NEOX, use_parallel_residual=False),
}  # fmt: skip


def make_tokenizer(bos: bool = False) -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer: 256 bytes, BOS, EOS, and a few merges."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {"<bos>": 256, "<eos>": 257}
    merges = [("t", "h"), ("Ġ", "t"), ("e", "r"), ("i", "n"), ("th", "e"), ("Ġ", "a")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 256)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def make_model(config: Any, model_class: Any = AutoModelForCausalLM) -> Any:
    """Make a random model in which every norm and bias differs from its neutral value."""
    torch.manual_seed(0)
    model = model_class.from_config(config) if model_class is AutoModelForCausalLM else model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def save(model: Any, folder: Path, bos: bool = False, **options: Any) -> Path:
    """Save a model and a tiny tokenizer as a checkpoint."""
    model.save_pretrained(folder, **options)
    make_tokenizer(bos).save_pretrained(folder)
    return folder


def load_folder(folder: Path, dtype: str = "float32", stream: bool = False) -> LoadedModel:
    """Load a checkpoint through the library, on the CPU, with nothing stored."""
    return load(ModelSpec(str(folder), dtype, "cpu", stream=stream), Store(None), folder / "cache")


class Tiny:
    """Tiny models of every family, each made and loaded once; four windows go through them at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, Path] = {}
        self._loaded: dict[tuple[str, bool], LoadedModel] = {}

    def folder(self, family: str) -> Path:
        if family not in self._folders:
            self._folders[family] = save(make_model(FAMILIES[family]()), self.root / family, "gemma" in family)
        return self._folders[family]

    def load(self, family: str, stream: bool = False) -> LoadedModel:
        key = family, stream
        if key not in self._loaded:
            self._loaded[key] = load_folder(self.folder(family), stream=stream)
            self._loaded[key].batch_shape.tokens = 4 * WINDOW
        return self._loaded[key]


def save_deep(layers: int, folder: Path) -> Path:
    """Write a Llama of so many tiny layers; return its folder."""
    config = {**FAMILIES["llama"]().to_dict(), "num_hidden_layers": layers, "initializer_range": 0.1}
    return save(make_model(LlamaConfig(**config)), folder)
