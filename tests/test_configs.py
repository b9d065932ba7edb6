"""Costs from a config alone: the published sizes of a model whose weights are not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from explorer.configs import take_inventory_of_config
from explorer.costs import take_inventory
from explorer.errors import ModelError, UnsupportedModel
from explorer.loading import LoadedModel
from explorer.masks import NONE, Mask
from explorer.store import Store
from tests.tiny_models import REPOSITORY

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


def test_a_config_says_what_the_loaded_model_says(loaded: LoadedModel, store: Store, tmp_path: Path) -> None:
    _, found = take_inventory_of_config(str(loaded.checkpoint.folder), "float32", store, tmp_path)
    expected = take_inventory(loaded.model, loaded.family)
    for mask in (NONE, Mask.parse("0,a1,m2")):
        assert found.costs(mask, 100) == expected.costs(mask, 100)


def test_what_is_no_config_is_one_line(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such config"):
        take_inventory_of_config("./nothing", "auto", store, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="Cannot get the config"):
        take_inventory_of_config(str(tmp_path), "auto", store, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UnsupportedModel, match="No causal language model"):
        take_inventory_of_config(str(tmp_path), "auto", store, tmp_path)
