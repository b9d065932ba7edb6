"""transformers' own spelling of what is off: refused by a version that does not obey it, proven with one that does."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, plan_export
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force

skipping = importlib.import_module("explorer.export.skipping")
MASK = Mask.parse("1,a0,m2-3")


class Nothing(nn.Module):
    """Adds nothing, as what is skipped is to."""

    def __init__(self, returns: int) -> None:
        super().__init__()
        self.returns = returns

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        added = torch.zeros_like(hidden_states)
        return (added, None) if self.returns == 2 else added


@pytest.fixture
def obeying(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A transformers whose Llamas leave out what their config skips."""
    make = modeling_llama.LlamaDecoderLayer.__init__

    def make_without(self: Any, config: Any, layer_idx: int) -> None:
        make(self, config, layer_idx)
        skip = config.to_dict().get("per_layer_config", {}).get(str(layer_idx), {}).get("skip", [])
        for part, module, returns in (("attention", "self_attn", 2), ("mlp", "mlp", 1)):
            if part in skip:
                setattr(self, module, Nothing(returns))

    monkeypatch.setattr(modeling_llama.LlamaDecoderLayer, "__init__", make_without)
    monkeypatch.setattr(decode_speed, "TOKENS", 2)
    skipping._is_obeyed.cache_clear()
    yield
    skipping._is_obeyed.cache_clear()


def _obeys() -> bool:
    """Whether the installed transformers makes fewer parameters of a Llama without an attention."""
    config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    skipping_one = LlamaConfig(**config.to_dict() | {"per_layer_config": {0: {"skip": ["attention"]}}})
    both = [sum(p.numel() for p in LlamaForCausalLM(each).parameters()) for each in (config, skipping_one)]
    return both[1] < both[0]


def test_it_is_taken_where_the_installed_transformers_obeys(llama: LoadedModel) -> None:
    skipping._is_obeyed.cache_clear()
    if _obeys():
        assert plan_export(llama, MASK, "transformers-skip").format.name == "transformers-skip"
    else:
        with pytest.raises(ExportError, match="gives the same logits with skip in per_layer_config and without"):
            plan_export(llama, MASK, "transformers-skip")


@pytest.mark.usefixtures("obeying")
def test_with_one_that_obeys_it_is_the_masked_model(llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path) -> None:
    made = export(llama, MASK, tmp_path / "out", llama_corpus, Store(None), format="transformers-skip")
    config = json.loads((made.out / "config.json").read_text())
    assert config["per_layer_config"] == {"0": {"skip": ["attention"]}, "1": {"skip": ["mlp"]}, "2": {"skip": ["mlp"]}}
    assert "auto_map" not in config
    found = AutoModelForCausalLM.from_pretrained(made.out, dtype=torch.float32).eval()
    expected = brute_force.logits(brute_force.zeroed(llama.checkpoint.folder, MASK), llama_corpus.held_out.ids)
    logits = brute_force.logits(found, llama_corpus.held_out.ids)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    plain = plan_export(llama, MASK, "pruned-remote-code")
    assert made.bytes == plain.bytes == 4 * sum(parameter.numel() for parameter in found.parameters())


@pytest.mark.usefixtures("obeying")
def test_where_only_a_family_does_not_obey_nothing_is_kept(
    llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert skipping._is_obeyed()  # as another family's model would have found
    monkeypatch.undo()
    monkeypatch.setattr(decode_speed, "TOKENS", 2)
    if not _obeys():
        with pytest.raises(ExportError, match="Nothing was kept"):
            export(llama, MASK, tmp_path / "out", llama_corpus, Store(None), format="transformers-skip")
        assert not list(tmp_path.iterdir())
