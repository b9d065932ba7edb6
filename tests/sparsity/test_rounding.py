"""Fewer bits: the weights are those that a quantized load multiplies with; zeros stay zeros."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes import functional
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from explorer.masks.mask import NONE
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.pruning import LINEARS

CONFIGS = {
    8: BitsAndBytesConfig(load_in_8bit=True),
    4: BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    ),
}  # fmt: skip


def read(module: Any, bits: int) -> torch.Tensor:
    if bits == 4:
        return functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
    return module.weight.data.float() * module.weight.SCB[:, None] / 127


@pytest.mark.parametrize("bits", [4, 8])
def test_it_is_what_a_quantized_load_multiplies_with(llama: LoadedModel, llama_corpus: Corpus, bits: int) -> None:
    plain = AutoModelForCausalLM.from_pretrained(
        llama.checkpoint.folder, dtype=torch.float32, quantization_config=CONFIGS[bits]
    )
    variant = modify(llama, llama_corpus, NONE, [f"round;bits={bits}"], Store(None))
    assert sum(len(named) for named in variant.deltas[0].weights.values()) == len(LINEARS) * llama.n_layers
    for layer, module in enumerate(plain.model.layers):
        for name in LINEARS:
            found = llama.wrappers.weight(layer, f"{name}.weight", variant.deltas)
            torch.testing.assert_close(found, read(module.get_submodule(name), bits).float(), rtol=1e-5, atol=1e-6)
            assert not torch.equal(found, llama.wrappers.weight(layer, f"{name}.weight"))


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_stay_zeros(llama: LoadedModel, llama_corpus: Corpus, bits: int) -> None:
    variant = modify(llama, llama_corpus, NONE, ["wanda;pattern=2:4", f"round;bits={bits};layers=1-2"], Store(None))
    assert set(variant.deltas[1].weights) == {1, 2}
    for layer in range(llama.n_layers):
        first, both = (llama.wrappers.weight(layer, "mlp.up_proj.weight", variant.deltas[:count]) for count in (1, 2))
        assert (both[first == 0] == 0).all()
        assert torch.equal(first, both) == (layer in (0, 3))
