"""GGUF files of variants: a changed tensor is encoded anew, in 8 bits or more; all others are copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quantize
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3MoeConfig,
    StableLmConfig,
    Starcoder2Config,
)

from explorer.checkpoints.gguf.names import convert, convert_back
from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.variant import Variant
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, plan_export
from explorer.export.gguf.convert import encode
from explorer.export.zeros import check_zeros
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel, load
from explorer.modifiers import modify
from explorer.storage.store import Store
from tests.support import brute_force, variants
from tests.support.gguf_configs import CONFIGS
from tests.support.gguf_files import COMMON, LLAMA, load_gguf, write_model
from tests.support.tiny_models import WINDOW, load_folder, make_model, save

#: Half a step of a block of largest number 1.
_UNITS = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8, "Q8_0": 1 / 200}
_SMALL: dict[str, Any] = {**COMMON, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
                          "num_attention_heads": 4}  # fmt: skip
ARCHITECTURES = {
    "llama": lambda: LlamaConfig(**LLAMA),
    "qwen2": lambda: Qwen2Config(**LLAMA),
    "gemma2": lambda: Gemma2Config(
        **{**LLAMA, "tie_word_embeddings": True}, head_dim=8, sliding_window=8, query_pre_attn_scalar=8,
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
    ),
    "gpt2": lambda: GPT2Config(**COMMON, n_embd=32, n_layer=3, n_head=4, n_positions=128),
    "phi3": lambda: Phi3Config(**_SMALL, num_key_value_heads=2),
    "starcoder2": lambda: Starcoder2Config(**_SMALL, num_key_value_heads=2),
    "stablelm": lambda: StableLmConfig(**_SMALL, num_key_value_heads=2),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def _with_blocks(loaded: LoadedModel, kind: GGMLQuantizationType, folder: Path) -> LoadedModel:
    """A GGUF file of a Llama whose matrices are in a type, loaded from it."""
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask(), folder / "gguf", corpus, Store(None), format="gguf-f16")
    reader, path = GGUFReader(folder / "gguf" / "model.gguf"), folder / "source.gguf"
    writer = GGUFWriter(str(path), "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        data = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.startswith("blk.") and data.ndim > 1:
            writer.add_tensor(tensor.name, _encode(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, data.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return load(ModelSpec(str(path), "float32", "cpu"), Store(None), folder / "cache")


def _encode(data: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """Encode rows; for q6_K, which gguf only decodes, with every block of one scale and random numbers."""
    if kind != GGMLQuantizationType.Q6_K:
        return quantize(data, kind)
    rows, blocks = data.shape[0], data.shape[1] // 256
    numbers = np.random.default_rng(0).integers(0, 256, (rows, blocks, 192), dtype=np.uint8)
    scales = np.ones((rows, blocks, 16), np.uint8)
    size = np.full((rows, blocks, 1), 0.01, np.float16).view(np.uint8)
    return np.concatenate([numbers, scales, size], -1).reshape(rows, -1)


@pytest.mark.parametrize("blocks", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_safetensors_with_changes_become_gguf(store: Store, tmp_path: Path, name: str, blocks: str) -> None:
    """Plain transformers reads of the file the overwritten model, to the type's rounding, query and key rows too."""
    loaded = load_folder(save(make_model(CONFIGS[name]()), tmp_path / "source"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    variant = variants.perturb(loaded, Mask.parse("1"))
    made = export(loaded, variant, tmp_path / "out", corpus, store, format=f"gguf-{blocks}")
    oracle = variants.overwritten(loaded.checkpoint.folder, variant)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32)
    before, kept = oracle.state_dict(), (0, 2, 3)
    for tensor_name, tensor in found.state_dict().items():
        parts = tensor_name.split(".")
        if parts[1] == "layers":
            parts[2] = str(kept[int(parts[2])])
        expected = before[".".join(parts)]
        unit = _UNITS[blocks.upper()] if expected.ndim > 1 else 0.0
        torch.testing.assert_close(tensor, expected, rtol=0, atol=unit * float(expected.abs().max()))
    perplexity = brute_force.perplexity(oracle, corpus.held_out.ids)
    assert made.verification.perplexity_masked == pytest.approx(perplexity, rel=1e-5)
    assert made.verification.perplexity_reloaded == pytest.approx(perplexity, rel=0.05)


@pytest.mark.parametrize(("kind", "then"), [
    ("F32", "F32"), ("F16", "F16"), ("BF16", "BF16"), ("Q8_0", "Q8_0"), ("Q4_0", "Q8_0"), ("Q5_1", "Q8_0"),
    ("Q4_1", "Q8_0"), ("Q6_K", "Q8_0"),
])  # fmt: skip
@pytest.mark.parametrize("mask", ["1", "2,a1"])
def test_changed_tensors_are_fine_and_others_keep_their_blocks(
    store: Store, tmp_path: Path, kind: str, then: str, mask: str
) -> None:
    config = LlamaConfig(**{**LLAMA, "hidden_size": 256, "intermediate_size": 256, "initializer_range": 0.05})
    plain = load_folder(save(make_model(config), tmp_path / "plain"))
    loaded = _with_blocks(plain, GGMLQuantizationType[kind], tmp_path)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    all_changed = variants.perturb(loaded, Mask.parse(mask)).deltas[0]
    weights = {
        layer: {n: t for n, t in named.items() if n in ("self_attn.k_proj.weight", "mlp.down_proj.weight")}
        for layer, named in all_changed.weights.items()
        if layer != 1
    }
    variant = Variant(all_changed.mask, (type(all_changed)(all_changed.origin, weights, {}),))
    export(loaded, variant, tmp_path / "out", corpus, store, format="gguf")
    assert loaded.checkpoint.dequantized_from is not None
    before = {tensor.name: tensor for tensor in GGUFReader(loaded.checkpoint.dequantized_from).tensors}
    kept = [layer for layer in range(3) if layer not in variant.mask.whole_layers]
    changed = 0
    for tensor in GGUFReader(tmp_path / "out" / "model.gguf").tensors:
        parts = tensor.name.split(".")
        layer = kept[int(parts[1])] if parts[0] == "blk" else None
        source = before[f"blk.{layer}.{'.'.join(parts[2:])}" if layer is not None else tensor.name]
        name = {"attn_k": "self_attn.k_proj.weight", "ffn_down": "mlp.down_proj.weight"}.get(parts[-2])
        if layer in weights and name in weights[layer]:
            changed += 1
            assert tensor.tensor_type.name == then
            data = weights[layer][name].numpy()
            if parts[-2] == "attn_k":
                data = data.reshape(2, 2, -1, 256).swapaxes(1, 2).reshape(data.shape)
            error = np.abs(dequantize(tensor.data, tensor.tensor_type) - data).max()
            assert error <= _UNITS[then] * np.abs(data).max()
        else:
            assert tensor.tensor_type == source.tensor_type
            assert np.array_equal(tensor.data, source.data)
    assert changed == 2 * len(weights.keys() & set(kept))
    card = (tmp_path / "out" / "README.md").read_text()
    assert (f"Changed tensors in q8_0, for {kind.lower()} would round the change away:" in card) == (kind != then)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_changes_reach_files_of_every_architecture(store: Store, tmp_path: Path, architecture: str) -> None:
    """Every parameter of a layer, in the form that the file has it in: read again it is the overwritten model."""
    loaded = load_gguf(write_model(tmp_path / "source.gguf", make_model(ARCHITECTURES[architecture]()), architecture))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    mask = Mask() if architecture == "gemma2" else Mask.parse("1")
    variant = variants.perturb(loaded, mask)
    made = export(loaded, variant, tmp_path / "out", corpus, store, format="gguf")
    oracle = variants.overwritten(loaded.checkpoint.folder, variant)
    expected = brute_force.perplexity(oracle, corpus.held_out.ids)
    assert made.verification.perplexity_reloaded == pytest.approx(expected, rel=1e-5)
    assert brute_force.perplexity(brute_force.zeroed(loaded.checkpoint.folder, mask), corpus.held_out.ids) != (
        pytest.approx(expected, rel=1e-4)
    )


def test_requantized_changes_are_rounded_once(store: Store, tmp_path: Path) -> None:
    """To another type a changed tensor goes from memory, not by way of the file's type."""
    plain = load_folder(save(make_model(CONFIGS["llama"]()), tmp_path / "plain"))
    loaded = _with_blocks(plain, GGMLQuantizationType.Q8_0, tmp_path)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    variant = variants.perturb(loaded, Mask.parse("1"))
    export(loaded, variant, tmp_path / "out", corpus, store, format="gguf-f16")
    found = {t.name: t for t in GGUFReader(tmp_path / "out" / "model.gguf").tensors}["blk.0.ffn_down.weight"]
    assert found.tensor_type.name == "F16"
    assert np.array_equal(found.data, variant.deltas[0].weights[0]["mlp.down_proj.weight"].numpy().astype(np.float16))


def test_qwen2_files_with_changes_become_deci(store: Store, tmp_path: Path) -> None:
    first = load_folder(save(make_model(CONFIGS["qwen2"]()), tmp_path / "safetensors"))
    corpus = first.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(first, Mask(), tmp_path / "gguf", corpus, store, format="gguf-f16")
    loaded = load(ModelSpec(str(tmp_path / "gguf" / "model.gguf"), "float32", "cpu"), store, tmp_path / "cache")
    variant = variants.perturb(loaded, Mask.parse("2,a0,m3"))
    made = export(loaded, variant, tmp_path / "out", corpus, store, format="gguf")
    expected = brute_force.perplexity(variants.overwritten(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    assert made.verification.perplexity_reloaded == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "Q5_1"])
def test_zeros_stay_zeros(store: Store, tmp_path: Path, kind: str) -> None:
    """A block of q4_1 or q5_1 has a least number and a step, and in general no zero; one of q8_0 has."""
    plain = load_folder(save(make_model(CONFIGS["llama"]()), tmp_path / "plain"))
    loaded = _with_blocks(plain, GGMLQuantizationType[kind], tmp_path)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    variant = modify(loaded, corpus, Mask.parse("1"), [ModifierSpec.parse("magnitude;sparsity=50%")], store)
    made = export(loaded, variant, tmp_path / "out", corpus, store, format="gguf")
    assert made.verification.zeros is not None


def test_experts_that_share_a_tensor_are_refused(tmp_path: Path) -> None:
    config = Qwen3MoeConfig(
        **LLAMA, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=8, decoder_sparse_step=1,
        mlp_only_layers=[], norm_topk_prob=True,
    )  # fmt: skip
    loaded = load_gguf(write_model(tmp_path / "source.gguf", make_model(config), "qwen3moe"))
    whole = variants.perturb(loaded, Mask.parse("1")).deltas[0]
    experts = loaded.wrappers.layers[0].get_parameter("mlp.experts.down_proj").detach()
    variant = Variant(whole.mask, (type(whole)(whole.origin, {0: {"mlp.experts.down_proj": experts}}, {}),))
    with pytest.raises(ExportError, match=r"in no tensor of the files: model\.layers\.0\.mlp\.experts\.down_proj"):
        plan_export(loaded, variant, "gguf")


def test_a_row_that_no_block_divides_is_in_f16() -> None:
    made = encode("x", GGMLQuantizationType.Q8_0, np.ones((2, 48), np.float32))
    assert (made.type.name, made.shape) == ("F16", (2, 48))
    assert encode("x", GGMLQuantizationType.Q6_K, np.ones(256, np.float32)).type.name == "F32"


@pytest.mark.parametrize(("architecture", "name", "shape"), [
    ("llama", "blk.0.attn_q.weight", (8, 4)), ("llama", "blk.0.attn_k.bias", (4,)),
    ("llama", "blk.0.attn_v.weight", (4, 4)),
    ("gemma2", "blk.0.post_ffw_norm.weight", (4,)), ("gpt2", "blk.0.ffn_up.weight", (8, 4)),
    ("qwen2moe", "blk.0.ffn_gate_inp_shexp.weight", (4,)), ("qwen2", "blk.0.attn_q.weight", (8, 4)),
])  # fmt: skip
def test_there_and_back_is_the_same(architecture: str, name: str, shape: tuple[int, ...]) -> None:
    config = {"num_attention_heads": 2, "num_key_value_heads": 1}
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = convert(architecture, config, name)
    assert found is not None
    there = convert_back(architecture, config, name)(found[1](data))
    np.testing.assert_allclose(there, data, rtol=1e-6)


def test_a_zero_that_is_none_in_the_file_is_an_error(store: Store, tmp_path: Path) -> None:
    loaded = load_folder(save(make_model(CONFIGS["llama"]()), tmp_path / "plain"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    variant = modify(loaded, corpus, Mask.parse("1"), [ModifierSpec.parse("magnitude;sparsity=50%")], store)
    with pytest.raises(ExportError, match=r"Zeros are not zeros in the file: [\d,]+ of self_attn\.q_proj in layer 0"):
        check_zeros(loaded, loaded.wrappers, [0, 1, 2], variant)  # as if nothing had been put in
