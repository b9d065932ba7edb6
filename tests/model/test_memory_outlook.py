"""What weights will take is what they then take; and what is said of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.errors import DeviceError, ModelError
from explorer.model import memory_outlook
from explorer.model.memory_outlook import MemoryOutlook, estimate_memory
from explorer.storage.store import Store
from tests.conftest import Real
from tests.support.tiny_models import Tiny
from ui.model_choice.outlook import describe_outlook


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_estimate_is_what_a_loaded_model_takes(tiny: Tiny, store: Store, tmp_path: Path, dtype: str) -> None:
    model = deepcopy(tiny.load("llama").model).to(getattr(torch, dtype))
    found = estimate_memory(ModelSpec(str(tiny.folder("llama")), dtype, "cpu"), store, tmp_path)
    assert found.parameters == sum(each.numel() for each in model.parameters())
    assert found.bytes == sum(each.nbytes for each in model.parameters())
    assert (found.architecture, found.n_layers, found.precision) == ("LlamaForCausalLM", 4, dtype)
    assert found.nf4_bytes < found.bytes


@pytest.mark.real_model
def test_a_gguf_file_is_counted_from_its_header(reals: Real, store: Store, tmp_path: Path) -> None:
    found = estimate_memory(ModelSpec(DEFAULT_MODEL, "float32", "cpu"), store, tmp_path)
    assert found.bytes == sum(each.nbytes for each in reals.load("float32").model.parameters())
    assert not list(tmp_path.iterdir())  # nothing was converted


def test_what_goes_first_is_counted_as_free(
    tiny: Tiny, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_outlook, "free_bytes", lambda device: 1000)
    spec = ModelSpec(str(tiny.folder("llama")), "float32", "cpu")
    assert estimate_memory(spec, store, tmp_path, held=500).free == 1500


def test_what_is_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DeviceError):
        estimate_memory(ModelSpec("x", device="tpu"), store, tmp_path)
    with pytest.raises(ModelError):
        estimate_memory(ModelSpec("./none"), store, tmp_path)


def test_words_say_whether_it_fits() -> None:
    roomy = MemoryOutlook(10**9, 2e9, 6e8, int(8e9), "cpu", "bfloat16", "LlamaForCausalLM", 16)
    assert describe_outlook(roomy) == (
        "1,000,000,000 parameters, 16 layers (LlamaForCausalLM), 2.0 GB of weights in bfloat16; "
        "8.0 GB of memory free on cpu: fits.",
        False,
    )
    words, heed = describe_outlook(replace(roomy, free=int(2.1e9)))
    assert heed
    assert words.endswith("the weights fit, with little room for what is computed.")
    words, heed = describe_outlook(replace(roomy, free=int(1e9)))
    assert heed
    assert words.endswith("does not fit; nf4 takes 600.0 MB, the device map spreads it over GPUs, memory and disk.")
