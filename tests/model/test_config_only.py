"""Costs from a config alone: the published sizes of a model whose weights are not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from explorer.errors import ModelError, UnsupportedModel
from explorer.masks.mask import NONE, Mask
from explorer.model import kv_cache
from explorer.model.config_only import count_parameters_of_config
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.storage.store import Store
from tests.support.tiny_models import REPOSITORY

LLAMA_2_70B = Path(__file__).parent / "configs" / "llama-2-70b.json"


def ask(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "explorer", "info", "--config-only", "--json", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout)


def test_seventy_billion_parameters_need_no_weights() -> None:
    whole, half = (ask(f"--model={LLAMA_2_70B}", f"--mask={mask}") for mask in ("none", "40-79"))
    attention, mlp = 2 * 8192**2 + 2 * 8192 * 1024, 3 * 8192 * 28672
    assert whole["parameters"] == 2 * 32000 * 8192 + 80 * (attention + mlp + 2 * 8192) + 8192
    assert round(whole["bytes_at"]["16"] / 1e9, -1) == 140  # 138.0, what is commonly called 140 GB
    assert half["bytes_at"]["4"] / 1e9 == pytest.approx(17.5, abs=0.2)
    assert whole["bytes"] == whole["bytes_at"]["16"]
    assert whole["kv_bytes_per_token"] == 80 * 2 * 8 * 128 * 2 == 2 * half["kv_bytes_per_token"]


def test_latent_attention_keeps_latents(store: Store, tmp_path: Path) -> None:
    """DeepSeek-V3 in 16 bits: 61 layers, a latent of 512 and a rotated key of 64 for each token."""
    published = {
        "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
        "n_shared_experts": 1, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
        "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128, "v_head_dim": 128, "max_position_embeddings": 163840, "dtype": "bfloat16",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(published))
    _, found = count_parameters_of_config(str(tmp_path), "auto", store, tmp_path)
    assert found.costs(NONE, 1).kv_bytes_per_token == (512 + 64) * 2 * 61 == 70_272
    assert found.costs(NONE, 1).parameters == pytest.approx(671e9, rel=2e-3)
    active = (found.costs(NONE, 0).flops_per_token) / 2
    assert active == pytest.approx(37e9, rel=0.02)  # as published; the embedding, which is looked up, is left out
    assert set(found.attention_widths) == {128 * (128 + 64 + 128)}


def test_a_cache_that_cannot_be_asked_is_read_off_the_config(
    llama: LoadedModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = count_parameters(llama.model, llama.architecture)
    monkeypatch.setattr(kv_cache, "_KNOWN", {llama.model: None})
    assert count_parameters(llama.model, llama.architecture) == whole


def test_a_config_says_what_the_loaded_model_says(loaded: LoadedModel, store: Store, tmp_path: Path) -> None:
    _, found = count_parameters_of_config(str(loaded.checkpoint.folder), "float32", store, tmp_path)
    expected = count_parameters(loaded.model, loaded.architecture)
    for mask in (NONE, Mask.parse("0,a1,m2")):
        assert found.costs(mask, 100) == expected.costs(mask, 100)


def test_a_plain_decoder_is_counted_without_torch(tmp_path: Path) -> None:
    answer, imported = _ask_watched(f"--model={LLAMA_2_70B}", f"--cache={tmp_path}")
    assert (answer["architecture"], imported) == ("LlamaForCausalLM", [])


def test_what_was_counted_is_read_without_torch(tmp_path: Path) -> None:
    """The second answer is the first one; a config that says otherwise is counted anew."""
    config = json.loads(LLAMA_2_70B.read_text()) | {"a word that is not known": None}  # left to the class
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = [f"--model={tmp_path}", "--mask=3", f"--cache={tmp_path / 'cache'}"]
    (first, counted), (second, again) = (_ask_watched(*words) for _ in range(2))
    assert (second, counted, again) == (first, ["torch", "transformers"], [])
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    shorter, counted = _ask_watched(*words)
    assert (shorter["layers"], len(shorter["sites"]), counted) == (4, 8, ["torch", "transformers"])


def _ask_watched(*words: str) -> tuple[dict[str, Any], list[str]]:
    """Return the answer, and which of the large libraries were imported for it."""
    script = (
        "import sys; from explorer.__main__ import run\n"
        "try: run()\n"
        "finally: print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, "info", "--config-only", "--json", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    answer, imported = done.stdout.splitlines()
    return json.loads(answer), imported.split()


def test_what_was_counted_is_what_is_counted(store: Store, loaded: LoadedModel, tmp_path: Path) -> None:
    given = (str(loaded.checkpoint.folder), "float32", store, tmp_path)
    assert count_parameters_of_config(*given) == count_parameters_of_config(*given)


def test_what_is_no_config_is_one_line(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such config"):
        count_parameters_of_config("./nothing", "auto", store, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="Cannot get the config"):
        count_parameters_of_config(str(tmp_path), "auto", store, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UnsupportedModel, match="No causal language model"):
        count_parameters_of_config(str(tmp_path), "auto", store, tmp_path)
