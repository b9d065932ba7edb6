"""GGUF: blocks are copied as they are, what llama.cpp needs is in step, and the file is the masked model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFValueType
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from explorer.checkpoints.spec import ModelSpec
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, plan_export
from explorer.export.gguf.model import Field, GgufModel, read_gguf
from explorer.export.gguf.prune import prune
from explorer.export.gguf.tokens import make_tokens
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel, load
from explorer.storage.store import Store
from tests.conftest import Real
from tests.support import brute_force
from tests.support.gguf_configs import CONFIGS
from tests.support.gguf_files import LLAMA, load_gguf, read_tensors, write_model, write_parts
from tests.support.tiny_models import WINDOW, Tiny, load_folder, make_model, save

BLOCKS = ("f16", "bf16", "q8_0")
WHOLE, SINGLE = ("none", "0", "3", "1-2"), ("a0-3", "m3,a1", "0,a1,m3", "1,a0,m2", "a0,m1-3")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


@pytest.fixture(scope="module", params=list(CONFIGS))
def llama_like(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("gguf") / request.param
    return load_folder(save(make_model(CONFIGS[request.param]()), folder))


@pytest.fixture(scope="module", params=BLOCKS)
def from_gguf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A tiny Llama that comes as a GGUF file."""
    folder = tmp_path_factory.mktemp("source")
    loaded = load_folder(save(make_model(CONFIGS["llama"]()), folder / "safetensors"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask(), folder / "gguf", corpus, Store(None), format=f"gguf-{request.param}")
    return load(ModelSpec(str(folder / "gguf" / "model.gguf"), "float32", "cpu"), Store(None), folder / "cache")


def _natively(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32).eval()


def test_blocks_are_copied_and_the_file_is_the_masked_model(
    from_gguf: LoadedModel, store: Store, tmp_path: Path
) -> None:
    corpus = from_gguf.tokenize("python-docs", 2 * WINDOW, WINDOW)
    assert from_gguf.checkpoint.dequantized_from is not None
    before = {t.name: t for t in GGUFReader(from_gguf.checkpoint.dequantized_from).tensors}
    for text in WHOLE + SINGLE:
        mask, out = Mask.parse(text), tmp_path / text
        made = export(from_gguf, mask, out, corpus, store, format="gguf")
        oracle = brute_force.zeroed(from_gguf.checkpoint.folder, mask)
        expected = brute_force.logits(oracle, corpus.held_out.ids)
        close = 1e-5 * float(expected.abs().max())
        assert made.verification.max_abs_logit_difference <= close
        assert made.verification.perplexity_reloaded == pytest.approx(
            brute_force.perplexity(oracle, corpus.held_out.ids), rel=1e-5
        )
        reader = GGUFReader(out / "model.gguf")
        kept = [layer for layer in range(4) if layer not in mask.whole_layers]
        assert reader.get_field("general.architecture").contents() == ("llama" if text in WHOLE else "deci")
        for tensor in reader.tensors:
            name = tensor.name
            if name.startswith("blk."):
                _, new, rest = name.split(".", 2)
                name = f"blk.{kept[int(new)]}.{rest}"
            same = before[name].tensor_type == tensor.tensor_type and np.array_equal(before[name].data, tensor.data)
            assert same or not tensor.data.any(), f"{tensor.name} is neither the source's nor zeros"
        if text in WHOLE:
            found = brute_force.logits(_natively(out), corpus.held_out.ids)
            torch.testing.assert_close(found, expected, rtol=0, atol=close)


def test_the_source_is_not_replaced(from_gguf: LoadedModel, store: Store) -> None:
    source = from_gguf.checkpoint.dequantized_from
    assert source is not None
    corpus = from_gguf.tokenize("python-docs", 2 * WINDOW, WINDOW)
    with pytest.raises(ExportError, match="overlaps the source"):
        export(from_gguf, Mask.parse("1"), source.parent, corpus, store, format="gguf", overwrite=True)
    assert source.is_file()


def test_lists_of_deci_say_what_is_off(from_gguf: LoadedModel) -> None:
    assert from_gguf.checkpoint.dequantized_from is not None
    made = prune(read_gguf(from_gguf.checkpoint.dequantized_from), Mask.parse("1,a0,a2,m3"))
    assert made.get("block_count") == 3
    assert made.get("attention.head_count") == [1, 0, 4]
    assert made.get("attention.head_count_kv") == [1, 0, 2]
    assert made.get("feed_forward_length") == [96, 96, 32]
    names = [tensor.name for tensor in made.tensors]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("blk.1.attn")]
    assert {name for name in names if name.startswith("blk.0.attn")} == {
        f"blk.0.attn_{part}.weight" for part in ("norm", "q", "k", "v", "output")
    }


@pytest.mark.parametrize("blocks", BLOCKS)
def test_safetensors_become_gguf(llama_like: LoadedModel, store: Store, tmp_path: Path, blocks: str) -> None:
    corpus = llama_like.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for text in ("none", "0,3", "2,a0,a3,m1"):
        mask, out = Mask.parse(text), tmp_path / text
        made = export(llama_like, mask, out, corpus, store, format=f"gguf-{blocks}")
        oracle = brute_force.perplexity(brute_force.zeroed(llama_like.checkpoint.folder, mask), corpus.held_out.ids)
        assert made.verification.perplexity_reloaded == pytest.approx(oracle, rel=0.05)
        if text != "2,a0,a3,m1" and llama_like.config.rope_parameters["rope_type"] == "default":
            _check_rounding(_natively(out), brute_force.plain(llama_like.checkpoint.folder), mask, blocks)
            found = brute_force.perplexity(_natively(out), corpus.held_out.ids)
            assert found == pytest.approx(made.verification.perplexity_reloaded, rel=1e-5)
            tokenizer = AutoTokenizer.from_pretrained(out, gguf_file="model.gguf")
            sample = "the cat's 12 hats\n\n and in <eos> there"
            assert tokenizer(sample).input_ids == llama_like.tokenizer(sample).input_ids


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_16_bit_checkpoint_keeps_every_bit(store: Store, tmp_path: Path, dtype: str) -> None:
    model = make_model(CONFIGS["llama"]()).to(getattr(torch, dtype))
    loaded = load_folder(save(model, tmp_path / "source"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for text in ("1", "2,a0,m3"):
        made = export(loaded, Mask.parse(text), tmp_path / text, corpus, store, format="gguf")
        oracle = brute_force.zeroed(loaded.checkpoint.folder, Mask.parse(text))
        size = float(brute_force.logits(oracle, corpus.held_out.ids).abs().max())
        assert made.verification.max_abs_logit_difference <= 1e-5 * size


def test_a_scaling_of_rope_that_is_not_the_models_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from explorer.export.gguf import convert

    loaded = load_folder(save(make_model(CONFIGS["llama3"]()), tmp_path / "source"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    inner = convert.find_factors
    monkeypatch.setattr(convert, "find_factors", lambda *args: 1.01 * inner(*args))
    with pytest.raises(ExportError, match="rope_freqs"):
        export(loaded, Mask.parse("1"), tmp_path / "out", corpus, store, format="gguf")


def _check_rounding(written: Any, source: Any, mask: Mask, blocks: str) -> None:
    """See that every number is the source's, as near as the type of its block can hold it."""
    kept = [layer for layer in range(4) if layer not in mask.whole_layers]
    before = source.state_dict()
    for name, found in written.state_dict().items():
        parts = name.split(".")
        if parts[1] == "layers":
            parts[2] = str(kept[int(parts[2])])
        expected = before[".".join(parts)]
        unit = {"f16": 2.0**-11, "bf16": 2.0**-8, "q8_0": 1 / 240}[blocks]
        bound = unit * float(expected.abs().max()) if expected.ndim > 1 else 0.0
        torch.testing.assert_close(found, expected, rtol=0, atol=bound)


def test_a_gguf_that_is_not_the_masked_model_is_removed(
    from_gguf: LoadedModel, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from explorer.export.gguf import planner

    corpus = from_gguf.tokenize("python-docs", 2 * WINDOW, WINDOW)

    def forgetful(model: GgufModel, mask: Mask) -> GgufModel:
        return prune(model, Mask.parse("2,m1") if "m" in str(mask) else Mask.parse("2"))

    monkeypatch.setattr(planner, "prune", forgetful)
    for text in ("1", "1,m2"):
        with pytest.raises(ExportError, match="not what was measured"):
            export(from_gguf, Mask.parse(text), tmp_path / "out", corpus, store, format="gguf")
    assert list(tmp_path.iterdir()) == []


def _fields(architecture: str, layers: int, **more: Any) -> GgufModel:
    fields = {f"{architecture}.block_count": Field(layers, None), **{f"{architecture}.{k}": v for k, v in more.items()}}
    return GgufModel(architecture, fields, ())  # type: ignore[arg-type]


def test_patterns_of_sliding_windows_stay_with_their_layers() -> None:
    made = prune(_fields("gemma3", 12), Mask.parse("2,7"))
    assert made.get("attention.sliding_window_pattern") == [
        (layer + 1) % 6 != 0 for layer in range(12) if layer not in (2, 7)
    ]
    assert prune(_fields("gemma2", 6), Mask.parse("2-3")).get("block_count") == 4
    with pytest.raises(ExportError, match="by a layer's number"):
        prune(_fields("gemma2", 6), Mask.parse("2"))
    with pytest.raises(ExportError, match="by a layer's number"):
        prune(_fields("unheard-of", 6), Mask.parse("5"))


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_lists_of_layers_are_in_step_and_others_are_left(architecture: str) -> None:
    def listed(*values: Any) -> Field:
        return Field(list(values), GGUFValueType.ARRAY, GGUFValueType.INT32)

    lists = {
        "attention.head_count": listed(1, 2, 3, 4),
        "attention.head_count_kv": listed(5, 6, 7, 8),
        "feed_forward_length": listed(9, 10, 11, 12, 13),  # the last of a layer that predicts further tokens
        "rope.dimension_sections": listed(1, 1, 2, 0),
    }
    fields = {f"{architecture}.{name}": field for name, field in lists.items()}
    fields |= {f"{architecture}.block_count": Field(4, GGUFValueType.UINT32), "tokenizer.ggml.eot": listed(1, 2, 3, 4)}
    made = prune(GgufModel(architecture, fields, ()), Mask.parse("0,2"))
    assert [made.get(name) for name in lists] == [[2, 4], [6, 8], [10, 12], [1, 1, 2, 0]]
    assert made.fields["tokenizer.ggml.eot"].value == [1, 2, 3, 4]
    unknown = {**fields, f"{architecture}.unheard.of": listed(1, 2, 3, 4)}
    with pytest.raises(ExportError, match=f"{architecture}.unheard.of in the file has 4 entries, as many as layers"):
        prune(GgufModel(architecture, unknown, ()), Mask.parse("0,2"))
    assert prune(GgufModel(architecture, unknown, ()), Mask()).get("unheard.of") == [1, 2, 3, 4]


@pytest.mark.parametrize(("family", "mask", "found"), [
    ("gpt2", "1", "its type is gpt2"),
    ("mistral", "1", "sliding window"),
    ("llama", "none", None),
])  # fmt: skip
def test_what_cannot_be_converted_is_refused(tiny: Tiny, family: str, mask: str, found: str | None) -> None:
    if found is None:
        assert plan_export(tiny.load(family), Mask.parse(mask), "gguf-f16").bytes
        return
    with pytest.raises(ExportError, match=found):
        plan_export(tiny.load(family), Mask.parse(mask), "gguf-f16")


def test_sublayers_of_others_are_refused() -> None:
    for architecture in ("gemma3", "qwen3", "phi3"):
        with pytest.raises(ExportError, match=f"its architecture is {architecture}"):
            prune(_fields(architecture, 6), Mask.parse("a1"))


@pytest.mark.parametrize("blocks", BLOCKS)
def test_qwen2_files_lose_sublayers_too(store: Store, tmp_path: Path, blocks: str) -> None:
    first = load_folder(save(make_model(CONFIGS["qwen2"]()), tmp_path / "safetensors"))
    corpus = first.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(first, Mask(), tmp_path / "gguf", corpus, store, format=f"gguf-{blocks}")
    loaded = load(ModelSpec(str(tmp_path / "gguf" / "model.gguf"), "float32", "cpu"), store, tmp_path / "cache")
    mask = Mask.parse("2,a0,m3")
    made = export(loaded, mask, tmp_path / "out", corpus, store, format="gguf")
    expected = brute_force.logits(brute_force.zeroed(loaded.checkpoint.folder, mask), corpus.held_out.ids)
    assert made.verification.max_abs_logit_difference <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_a_folder_that_was_made_of_a_file_splits_text_as_that(tmp_path: Path, pre: str) -> None:
    def name(keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        keys["tokenizer.ggml.pre"] = pre

    model = make_model(LlamaConfig(**LLAMA))
    loaded = load_gguf(write_model(tmp_path / "model.gguf", model, "llama", name))
    assert make_tokens(load_folder(loaded.checkpoint.folder))["tokenizer.ggml.pre"].value == pre


def test_parts_become_one_file_that_says_how_it_was_quantized(store: Store, tmp_path: Path) -> None:
    model = make_model(LlamaConfig(**LLAMA))
    keys = {"quantize.imatrix.file": "texts.dat", "quantize.imatrix.entries_count": 21}
    loaded = load_gguf(write_parts(tmp_path, model, 3, **keys)[0])
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask.parse("1,a0"), tmp_path / "out", corpus, store, format="gguf")
    reader = GGUFReader(tmp_path / "out" / "model.gguf")
    assert {name: reader.fields[name].contents() for name in keys} == keys
    assert not [name for name in reader.fields if name.startswith("split.")]
    before, found = read_tensors(model, "llama"), {tensor.name: tensor.data for tensor in reader.tensors}
    assert np.array_equal(found["output.weight"], before["output.weight"])
    assert np.array_equal(found["blk.1.attn_q.weight"], before["blk.2.attn_q.weight"])
    assert len(found) == len(before) - 9


def test_blocks_of_four_bits_are_copied(reals: Real, tmp_path: Path) -> None:
    real = reals.load("bfloat16")
    assert real.checkpoint.dequantized_from is not None
    before = {t.name: t for t in GGUFReader(real.checkpoint.dequantized_from).tensors}
    plan = plan_export(real, Mask.parse("3-12,a0,a20,m29"), "gguf")
    written: list[int] = []
    plan.write(tmp_path, written.append)
    assert sum(written) == plan.bytes
    kept = [layer for layer in range(30) if not 3 <= layer <= 12]
    copied = 0
    for tensor in GGUFReader(tmp_path / "model.gguf").tensors:
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            parts[1] = str(kept[int(parts[1])])
        source = before[".".join(parts)]
        if source.tensor_type == tensor.tensor_type:
            copied += 1
            assert np.array_equal(source.data, tensor.data), tensor.name
        else:
            assert not tensor.data.any(), tensor.name
    assert copied == 2 + 9 * 20 - 4 - 5 - 3  # of the attention in layer 0 the norm stays, of the MLP in 29 its own
