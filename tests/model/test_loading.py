"""Loading: what could not be measured correctly is refused, each with its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from explorer.checkpoints.config_schema import check_config
from explorer.checkpoints.spec import ModelSpec
from explorer.errors import DeviceError, ExplorerError, ModelError
from explorer.model.loading import load
from explorer.model.placement import pick_dtype, place
from explorer.storage.store import Store
from tests.support.tiny_models import VOCABULARY, WINDOW, Tiny, load_folder, make_model, make_tokenizer, save


def _refused(kind: type[ExplorerError], match: str | None, folder: Path) -> None:
    with pytest.raises(kind, match=match) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the tiny Llama, to be damaged."""
    return shutil.copytree(tiny.folder("llama"), tmp_path / "copy")


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_pickled_checkpoint_is_refused(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    assert load_folder(copy).n_layers == 4  # safetensors beside it: the pickle is left alone
    (copy / "model.safetensors").unlink()
    _refused(ModelError, "pickled: pytorch_model.bin.*run any code.*Convert", copy)


def test_folder_without_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    _refused(ModelError, "no .safetensors", copy)


def test_missing_shard_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    _refused(ModelError, "model-00001-of-00001.safetensors is missing", copy)


def test_missing_tensor_is_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    _refused(ModelError, "lacks weights.*layers.2.mlp.up_proj", copy)


def test_damaged_weights_are_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    _refused(ModelError, None, copy)


def test_config_with_fewer_layers_than_the_weights_is_refused(copy: Path) -> None:
    _edit_config(copy, num_hidden_layers=3)
    _refused(ModelError, "more layers than its config.*layers.3.*config has 3", copy)


def test_config_with_more_layers_than_the_weights_is_refused(copy: Path) -> None:
    _edit_config(copy, num_hidden_layers=5)
    _refused(ModelError, "lacks weights", copy)


def test_config_of_another_width_is_refused(copy: Path) -> None:
    _edit_config(copy, intermediate_size=64)
    _refused(ModelError, None, copy)


def test_bad_configs_are_refused(copy: Path) -> None:
    for content, match in (("{", "not JSON"), ("[]", "not an object"), ("{}", "Not a causal language model")):
        (copy / "config.json").write_text(content)
        _refused(ModelError, match, copy)
    (copy / "config.json").unlink()
    _refused(ModelError, "no config.json", copy)


def test_heads_of_which_nothing_is_rotated_are_no_fault_of_a_config() -> None:
    assert check_config({"text_config": {"head_dim": 0}})


def test_missing_tokenizer_is_refused(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    _refused(ModelError, "tokenizer", copy)


def test_encoder_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    folder = save(make_model(config, T5ForConditionalGeneration), tmp_path / "t5")
    _refused(ModelError, "Not a causal language model.*t5", folder)


def test_masked_language_model_is_refused(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    folder = save(make_model(config, BertForMaskedLM), tmp_path / "bert")
    _refused(ModelError, "Not a causal language model.*BertForMaskedLM", folder)


def test_unknown_model_type_is_refused(copy: Path) -> None:
    _edit_config(copy, model_type="nosuchtype", architectures=["NoSuchForCausalLM"])
    _refused(ModelError, "nosuchtype", copy)


def test_own_code_needs_trust(copy: Path) -> None:
    _edit_config(copy, model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    _refused(ModelError, "--trust-remote-code", copy)


@pytest.mark.parametrize("name", ["./nosuchfolder", "/no/such/folder", "~/nosuchfolder", "nosuch.gguf"])
def test_unknown_path_is_refused(name: str, tmp_path: Path, store: Store) -> None:
    with pytest.raises(ModelError, match="No such"):
        load(ModelSpec(name, "float32", "cpu"), store, tmp_path)


@pytest.mark.parametrize("name", ["nosuchowner/nosuchmodel", "nosuchmodel", "a/b/c", "with blank", "", "x" * 300])
def test_unreachable_hub_id_is_refused_in_one_line(name: str, tmp_path: Path, store: Store) -> None:
    with pytest.raises(ModelError) as caught:
        load(ModelSpec(name, "float32", "cpu"), store, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU", "", "mps"])
def test_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="Unknown device"):
        place(name)


def test_absent_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert place("cuda:0").device == torch.device("cuda:0")
    with pytest.raises(DeviceError, match=r"No device cuda:1.*1 CUDA"):
        place("cuda:1")


@pytest.mark.parametrize("name", ["fp32", "int8", "", "BFLOAT16"])
def test_unknown_dtype_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="Unknown dtype"):
        pick_dtype(name, torch.device("cpu"), None)


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "amx_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_dtype_on_a_cpu_follows_the_cpu(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    for of_checkpoint in ("float32", "bfloat16", "float16", None):
        assert pick_dtype("auto", torch.device("cpu"), of_checkpoint) == dtype


def test_auto_dtype_on_a_gpu_follows_the_checkpoint() -> None:
    assert pick_dtype("auto", torch.device("cuda"), "float16") == torch.float16
    assert pick_dtype("auto", torch.device("cuda"), "float32") == torch.float32
    assert pick_dtype("float32", torch.device("cuda"), "float16") == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_asked_for_is_used(tiny: Tiny, dtype: str) -> None:
    loaded = load_folder(tiny.folder("qwen3"), dtype)
    assert loaded.dtype == dtype
    assert {str(p.dtype) for p in loaded.model.parameters()} == {f"torch.{dtype}"}


def test_context_tells_models_and_dtypes_apart(tiny: Tiny) -> None:
    contexts = [load_folder(tiny.folder("llama"), dtype).numerics_key(4) for dtype in ("float32", "bfloat16")]
    assert len({*contexts, tiny.load("mistral").numerics_key(4)}) == 3
    assert tiny.load("llama").numerics_key(4) == contexts[0]


def test_digest_follows_the_weights(copy: Path, tiny: Tiny) -> None:
    assert load_folder(copy).digest == tiny.load("llama").digest
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert load_folder(copy).digest != tiny.load("llama").digest


def test_progress_is_told_and_can_cancel(tiny: Tiny, store: Store) -> None:
    from explorer.errors import Cancelled

    spec, told = ModelSpec(str(tiny.folder("llama")), "float32", "cpu"), []
    load(spec, store, tiny.root, lambda done, total, what: told.append((done, total, what)))
    assert told[-1] == (3, 3, "Ready")

    def cancel(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        load(spec, store, tiny.root, cancel)


def test_unload_lets_the_weights_go(tiny: Tiny) -> None:
    import gc
    import weakref

    loaded = load_folder(tiny.folder("llama"))
    weights = weakref.ref(loaded.model.get_input_embeddings().weight)
    loaded.unload()
    gc.collect()
    assert weights() is None


def test_tiny_tokenizers_differ_in_bos(tiny: Tiny) -> None:
    assert tiny.load("gemma2").tokenize("python-docs", WINDOW, WINDOW).bos
    assert not tiny.load("llama").tokenize("python-docs", WINDOW, WINDOW).bos
    assert make_tokenizer(True)("a").input_ids[0] == 256


@pytest.mark.parametrize("content", ["garbage", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_is_refused(copy: Path, content: str) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00001.safetensors")
    (copy / "model.safetensors.index.json").write_text(content)
    _refused(ModelError, "Cannot read the index of the weights", copy)


@pytest.mark.parametrize("change", [{"architectures": 5}, {"architectures": "LlamaForCausalLM"}, {"model_type": ["x"]}])
def test_a_config_of_the_wrong_types_is_refused(copy: Path, change: dict[str, Any]) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    _refused(ModelError, "Cannot use config.json", copy)
