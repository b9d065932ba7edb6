"""Sources that export has to read with care: per-layer lists, shards, quantized files, numbers that layers know."""

from __future__ import annotations

import json
import os
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config, LlamaConfig

from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, plan_export, safetensors
from explorer.masks.mask import Mask
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.tiny_models import FAMILIES, WINDOW, Tiny, load_folder, make_model, make_tokenizer, save


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def test_per_layer_lists_are_sliced(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    for family in ("qwen2", "gemma2", "gemma3_text"):
        loaded = tiny.load(family)
        corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
        export(loaded, Mask.parse("0,2"), tmp_path / family, corpus, store)
        written = json.loads((tmp_path / family / "config.json").read_text())
        before = loaded.config.layer_types
        assert written["layer_types"] == [kind for layer, kind in enumerate(before) if layer not in (0, 2)]
        assert written["num_hidden_layers"] == len(before) - 2


def test_per_layer_lists_of_another_family(store: Store, tmp_path: Path) -> None:
    from transformers import SmolLM3Config

    config = SmolLM3Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3, no_rope_layers=[1, 0, 1, 1, 0], use_sliding_window=True,
        sliding_window=8, max_position_embeddings=128, pad_token_id=None, bos_token_id=256, eos_token_id=257,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    )  # fmt: skip
    loaded = load_folder(save(make_model(config), tmp_path / "smollm3"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask.parse("1,a0,m4"), tmp_path / "out", corpus, store)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["no_rope_layers"] == [1, 1, 1, 0]
    assert written["layer_types"].count("full_attention") == 1


def test_sharded_checkpoint_round_trips(store: Store, tmp_path: Path) -> None:
    source = save(make_model(FAMILIES["gemma2"]()), tmp_path / "source", True, max_shard_size="30KB")
    assert len(list(source.glob("*.safetensors"))) > 2
    loaded = load_folder(source)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for text in ("1", "0-3", "a0,m1,2"):
        mask, out = Mask.parse(text), tmp_path / text
        export(loaded, mask, out, corpus, store)
        files = {path.name for path in out.glob("*.safetensors")}
        if len(files) > 1:
            index = json.loads((out / "model.safetensors.index.json").read_text())
            assert set(index["weight_map"].values()) == files
        expected = brute_force.logits(brute_force.zeroed(source, mask), corpus.held_out.ids)
        torch.testing.assert_close(brute_force.logits(brute_force.plain(out), corpus.held_out.ids), expected)


def test_gpt2_that_scales_by_the_layers_number(store: Store, tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=300, n_embd=32, n_layer=3, n_head=4, n_positions=64, initializer_range=0.3,
        scale_attn_by_inverse_layer_idx=True, bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    loaded = load_folder(save(make_model(config), tmp_path / "source"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    with pytest.raises(ExportError, match="cannot be dropped exactly"):
        export(loaded, Mask.parse("0"), tmp_path / "out", corpus, store)
    assert not (tmp_path / "out").exists()
    assert export(loaded, Mask.parse("a0"), tmp_path / "out", corpus, store).layers == 3


@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_layers_are_dropped_from_quantized_files(store: Store, tmp_path: Path, kind: str) -> None:
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, max_position_embeddings=128, bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    whole = save(make_model(config), tmp_path / "whole")
    options = {"load_in_8bit": True} if kind == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    source = tmp_path / kind
    AutoModelForCausalLM.from_pretrained(
        whole, quantization_config=BitsAndBytesConfig(**options), dtype=torch.float32
    ).save_pretrained(source)
    make_tokenizer().save_pretrained(source)
    loaded = load_folder(source)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    before = load_file(source / "model.safetensors")
    for text, format in (("1", "transformers"), ("2,a0,m3", "pruned-remote-code")):
        mask, out = Mask.parse(text), tmp_path / format
        made = export(loaded, mask, out, corpus, store, format=format)
        assert made.verification.max_abs_logit_difference < 1e-3
        kept = [layer for layer in range(4) if layer not in mask.whole_layers]
        for name, tensor in load_file(out / "model.safetensors").items():
            parts = name.split(".")
            if parts[1] == "layers":
                parts[2] = str(kept[int(parts[2])])
            assert torch.equal(tensor, before[".".join(parts)]), name
    with pytest.raises(ExportError, match="Export from the 16-bit original"):
        export(loaded, Mask.parse("a1"), tmp_path / "zeroed", corpus, store)


@pytest.mark.parametrize("buffer", [3, 1000, 1 << 21])
def test_bytes_are_copied_piece_by_piece(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    """Pieces that end within a number, within a tensor and not before it."""
    monkeypatch.setattr(safetensors, "_BUFFER", buffer)
    source, out = copytree(tiny.folder("llama"), tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    planned, written = plan_export(load_folder(source), Mask.parse("1"), "transformers"), list[int]()
    planned.write(out, written.append)
    assert sum(written) == planned.bytes
    assert max(written) <= buffer
    before, after = (load_file(folder / "model.safetensors") for folder in (source, out))
    assert len(before) == len(after) + 9
    assert torch.equal(after["model.layers.1.mlp.up_proj.weight"], before["model.layers.2.mlp.up_proj.weight"])
    assert all(torch.equal(after[name], before[name]) for name in after if ".layers." not in name)
    file = source / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(ExportError, match="A weights file ends early"):
        planned.write(out, written.append)
