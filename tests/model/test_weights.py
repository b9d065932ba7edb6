"""What is loaded is what is named: the files that transformers reads, all of what is in them, and nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Glm4MoeConfig, LlamaConfig, modeling_utils as transformers_modeling

from explorer.checkpoints.resolve import Checkpoint, resolve_checkpoint
from explorer.errors import ModelError
from explorer.export import export
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from tests.support.tiny_models import VOCABULARY, WINDOW, Tiny, load_folder, make_model, save

IDS = torch.randint(0, VOCABULARY, (2, WINDOW), generator=torch.Generator().manual_seed(1))
_LLAMA: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
                          "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
                          "max_position_embeddings": 128, "tie_word_embeddings": False, "pad_token_id": None,
                          "bos_token_id": 256, "eos_token_id": 257}  # fmt: skip


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the tiny Llama of four layers, to be changed."""
    return shutil.copytree(tiny.folder("llama"), tmp_path / "copy")


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def _expected(folder: Path) -> torch.Tensor:
    """Logits by plain transformers."""
    return _logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())


def _refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _add(folder: Path, **tensors: torch.Tensor) -> None:
    """Add tensors to the weights; `__` in a name stands for a dot."""
    path = folder / "model.safetensors"
    more = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({**load_file(path), **more}, path, {"format": "pt"})


def _shard(folder: Path) -> None:
    """Put the weights into two shards with an index."""
    whole = folder / "model.safetensors"
    weights = load_file(whole)
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        shard = f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / shard, {"format": "pt"})
        index |= dict.fromkeys(part, shard)
    whole.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_a_whole_file_counts_before_an_index(copy: Path, tmp_path: Path, store: Store) -> None:
    old = load_file(copy / "model.safetensors")
    _shard(copy)
    before = load_folder(copy)
    new = {name: value + 0.05 * value.std() if value.ndim == 2 else value for name, value in old.items()}
    save_file(new, copy / "model.safetensors", {"format": "pt"})
    after = load_folder(copy)
    assert after.checkpoint.weights == [copy / "model.safetensors"]
    assert after.digest != before.digest
    torch.testing.assert_close(_logits(after.model), _expected(copy))
    corpus = after.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(after, Mask(), tmp_path / "out", corpus, store)
    torch.testing.assert_close(_expected(tmp_path / "out"), _expected(copy))


def test_the_digest_follows_a_whole_file_beside_an_index(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    _shard(copy)
    digests = set()
    for factor in (1.0, 1.5):
        scaled = {**weights, "model.norm.weight": weights["model.norm.weight"] * factor}
        save_file(scaled, copy / "model.safetensors", {"format": "pt"})
        digests.add(Checkpoint("", copy).digest(Store(None)))
    assert len(digests) == 2


def test_weights_that_the_config_names_are_taken(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    other = {**weights, "model.norm.weight": weights["model.norm.weight"] * 2}
    save_file(other, copy / "other.safetensors", {"format": "pt"})
    _edit_config(copy, transformers_weights="other.safetensors")
    loaded = load_folder(copy)
    assert loaded.checkpoint.weights == [copy / "other.safetensors"]
    torch.testing.assert_close(_logits(loaded.model), _expected(copy))
    for bad in ("../other.safetensors", "x.bin", 3):
        _edit_config(copy, transformers_weights=bad)
        _refused(copy, "outside of the model's folder|names no weights")


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "linked folder"])
def test_an_index_that_names_files_elsewhere_is_refused(kind: str, copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = (copy / "model.safetensors").rename(elsewhere / "model.safetensors")
    if kind == "link":
        (copy / "shard.safetensors").symlink_to(file)
    if kind == "linked folder":
        (copy / "sub").symlink_to(elsewhere)
    named = {"parent": "../elsewhere/model.safetensors", "absolute": str(file), "link": "shard.safetensors",
             "linked folder": "sub/model.safetensors"}[kind]  # fmt: skip
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(file), named)}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    _refused(copy, "outside of the model's folder")


def test_links_into_the_hubs_cache_are_followed(copy: Path, tmp_path: Path) -> None:
    _shard(copy)
    root = tmp_path / "models--a--b"
    snapshot = root / "snapshots" / "0123"
    (root / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in copy.iterdir():
        if path.is_file():
            shutil.move(path, root / "blobs" / path.name)
            (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert len(load_folder(snapshot).checkpoint.weights) == 2


def _add_adapter(folder: Path) -> None:
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
              "base_model_name_or_path": str(folder)}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({"base_model.model.x": torch.ones(2)}, folder / "adapter_model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("peft", [False, True])
def test_an_adapter_beside_the_weights_is_left_and_told(
    peft: bool, copy: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add_adapter(copy)
    if peft:  # as if it were installed: what looks for adapters does, and putting one on would be noticed
        from transformers.integrations import peft as integration
        from transformers.models.auto import auto_factory

        monkeypatch.setattr(integration, "is_peft_available", lambda: True)
        monkeypatch.setattr(auto_factory, "is_peft_available", lambda: True)
        put_on = []
        monkeypatch.setattr(
            transformers_modeling.PreTrainedModel, "load_adapter", lambda *args, **options: put_on.append(args)
        )
    loaded = load_folder(copy)
    if peft:
        assert not put_on
    assert loaded.digest == tiny.load("llama").digest
    assert torch.equal(_logits(loaded.model), _logits(tiny.load("llama").model))
    (notice,) = loaded.notices
    assert "adapter_config.json beside the weights" in notice


def test_an_adapter_alone_is_refused(copy: Path) -> None:
    _add_adapter(copy)
    (copy / "config.json").unlink()
    _refused(copy, "an adapter, no model")


def test_the_digest_follows_code_of_the_models_own(copy: Path, store: Store) -> None:
    digests = [Checkpoint("", copy).digest(store)]
    (copy / "modeling_mine.py").write_text("x = 1\n")
    digests.append(Checkpoint("", copy).digest(store))
    assert digests[0] == digests[1]  # no code of its own is run
    _edit_config(copy, auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    digests.append(Checkpoint("", copy).digest(store))
    (copy / "modeling_mine.py").write_text("x = 22\n")
    digests.append(Checkpoint("", copy).digest(store))
    assert len(set(digests)) == 3


def test_shards_of_distributed_training_are_refused(copy: Path) -> None:
    (copy / "shard-00001-model-00001-of-00002.safetensors").write_bytes(b"")
    _refused(copy, "distributed training")


def test_biases_that_the_config_does_not_declare_are_named(tmp_path: Path) -> None:
    folder = save(make_model(LlamaConfig(**_LLAMA, attention_bias=True)), tmp_path / "model")
    _edit_config(folder, attention_bias=False)
    _refused(folder, r"does not declare: 12 tensors, model\.layers\.\*\.self_attn\.k_proj\.bias, .*q_proj\.bias")


@pytest.mark.parametrize(
    "name",
    ["model__layers__2__self_attn__q_norm__weight", "model__norm__bias", "lm_head__bias", "model__embed_norm__weight",
     "model__layers__0__mlp__gate__weight", "model__layers__1__self_attn__q_proj__lora_A__weight", "h__0__ln__weight"],
)  # fmt: skip
def test_a_tensor_of_the_decoder_that_has_no_place_is_named(name: str, copy: Path) -> None:
    _add(copy, **{name: torch.ones(32)})
    _refused(copy, "does not declare: " + name.replace("__", r"\."))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vision_model__encoder__layers__30__mlp__fc1__weight", "images"),
        ("model__vision_tower__blocks__9__attn__qkv__bias", "images"),
        ("visual__blocks__0__attn__qkv__weight", "images"),
        ("multi_modal_projector__linear_1__weight", "images"),
        ("audio_tower__layers__7__fc1__weight", "sound"),
        ("mtp__layers__0__self_attn__q_proj__weight", "further tokens"),
        ("v_head__summary__weight", "a score"),
        ("model__layers__0__self_attn__rotary_emb__inv_freq", "made anew"),
    ],
)
def test_leftovers_of_another_tower_are_a_notice(name: str, told: str, copy: Path, tiny: Tiny) -> None:
    _add(copy, **{name: torch.ones(3)})
    loaded = load_folder(copy)
    (notice,) = loaded.notices
    assert name.replace("__", ".") in notice
    assert told in notice
    assert "\n" not in notice
    assert loaded.unused == (name.replace("__", "."),)
    assert torch.equal(_logits(loaded.model), _logits(tiny.load("llama").model))


def test_a_model_without_leftovers_has_no_notice(loaded: LoadedModel) -> None:
    assert loaded.notices == ()
    assert loaded.unused == ()


@pytest.mark.parametrize(("layers", "declared"), [(2, True), (46, True), (2, False)])
def test_layers_that_predict_further_tokens_are_a_notice(layers: int, declared: bool, tmp_path: Path) -> None:
    """Of 46 layers transformers itself leaves the next out, without a word: so deep is the model that it knows."""
    config = Glm4MoeConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, n_shared_experts=1, n_routed_experts=2,
        num_experts_per_tok=1, n_group=1, topk_group=1, first_k_dense_replace=1, max_position_embeddings=64,
        tie_word_embeddings=False, initializer_range=0.3, bos_token_id=256, eos_token_id=257, pad_token_id=None,
        num_nextn_predict_layers=1 if declared else 0,
    )  # fmt: skip
    folder = save(make_model(config), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    last = f"model.layers.{layers - 1}."
    further = {name.replace(last, f"model.layers.{layers}."): weights[name].clone() for name in weights if last in name}
    further[f"model.layers.{layers}.eh_proj.weight"] = torch.ones(16, 32)
    if not declared:  # without its mark it is a layer like the others
        del further[f"model.layers.{layers}.eh_proj.weight"]
    save_file({**weights, **further}, folder / "model.safetensors", {"format": "pt"})
    if not declared:
        _refused(folder, f"more layers than its config.*layers.{layers}.*config has {layers}")
        return
    loaded = load_folder(folder)
    assert set(loaded.unused) == set(further)
    (notice,) = loaded.notices
    assert "further tokens" in notice


def test_shapes_that_do_not_fit_are_told(copy: Path) -> None:
    _edit_config(copy, vocab_size=VOCABULARY + 8)
    _refused(copy, r"lm_head\.weight is \(300, 32\) in the file and \(308, 32\) by config\.json, and 1 more")


@pytest.mark.parametrize("field", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize(
    "value", ["kernels-community/flash-attn", "flash_attention_2", "flash_attention_3", "someone/else@main:x", "nosuch"]
)
def test_a_config_never_makes_a_kernel_load(
    field: str, value: str, copy: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    hub = ModuleType("kernels")
    hub.get_kernel = lambda *args, **options: asked.append(args)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kernels", hub)
    monkeypatch.setattr(transformers_modeling, "is_kernels_available", lambda: True)
    monkeypatch.setattr(
        transformers_modeling, "lazy_import_flash_attention", lambda *args, **options: asked.append(args)
    )
    _edit_config(copy, **{field: value})
    loaded = load_folder(copy)
    assert not asked
    assert loaded.model.config._attn_implementation == "sdpa"
    assert torch.equal(_logits(loaded.model), _logits(tiny.load("llama").model))


def test_the_folder_is_found_with_its_adapter_told(copy: Path, store: Store, tmp_path: Path) -> None:
    assert resolve_checkpoint(str(copy), store, tmp_path).notices == ()
    _add_adapter(copy)
    assert len(resolve_checkpoint(str(copy), store, tmp_path).notices) == 1
