"""LoRA over weights in 4 bits: gradients are plain peft's over bitsandbytes', and the adapter alone is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.weight_change import LowRankUpdate
from explorer.errors import ExportError, ModifyError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export, plan_export
from explorer.healing.lora import adapt, list_maps
from explorer.healing.objective import predict
from explorer.healing.student import Student
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel, load
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.support import brute_force, variants
from tests.support.settings import make_setting
from tests.support.tiny_models import WINDOW, Tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

MASK = Mask.parse("2")
LORA = "lora;lr=1e-2;steps=6;warmup=0"
NF4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


@pytest.fixture(scope="module")
def packed(tiny: Tiny) -> LoadedModel:
    folder = tiny.folder("llama")
    loaded = load(ModelSpec(str(folder), "float32", "cpu", quantize="nf4"), Store(None), folder)
    loaded.batch_shape.tokens = 4 * WINDOW
    return loaded


def plain(folder: Path) -> Any:
    """The checkpoint in 4 bits by transformers alone, without layer 2."""
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=NF4, dtype=torch.float32).eval()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    del model.model.layers[2]
    for place, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = place
    model.config.num_hidden_layers = 3
    return model


def adapted(folder: Path, weights: Any) -> Any:
    """The same with a variant's adapters beside its maps, by plain peft."""
    model, moved = plain(folder), {0: 0, 1: 1, 3: 2}
    paths = {f"model.layers.{moved[layer]}.{name.removesuffix('.weight')}": change
             for layer, named in weights.items() for name, change in named.items()}  # fmt: skip
    rank = next(iter(paths.values())).left.shape[1]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(paths)), model)
    for path, change in paths.items():
        model.get_parameter(f"{path}.lora_A.default.weight").data = change.right.clone()
        model.get_parameter(f"{path}.lora_B.default.weight").data = change.left.clone()
    return model


def test_gradients_are_plain_pefts_and_reach_the_adapters_alone(packed: LoadedModel, tiny: Tiny) -> None:
    setting = make_setting(packed, MASK, "lora")
    maps = list_maps(setting, "all")
    twin = adapt(setting, maps, 4, 1.0, 0)
    halves = [f"{twin.layers}.{layer}.{path}.lora_{half}.default.weight" for layer, path in maps for half in ("A", "B")]
    ids = torch.from_numpy(setting.run.ids)
    student = Student(twin.model, halves, predict(packed, twin, ids, "lm", None))
    with torch.no_grad():
        for value in student.values:
            value += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    found = student(torch.arange(3))["loss"]
    found.backward()
    values = dict(zip(student.names, student.values, strict=True))
    weights: dict[int, dict[str, LowRankUpdate]] = {}
    for layer, path in maps:
        right, left = (values[f"{twin.layers}.{layer}.{path}.lora_{half}.default.weight"].detach() for half in "AB")
        weights.setdefault(layer, {})[f"{path}.weight"] = LowRankUpdate(left, right)
    model = adapted(tiny.folder("llama"), weights)
    logits = model(ids[:3], use_cache=False).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:3, 1:].flatten())
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    moved = {0: 0, 1: 1, 3: 2}
    for layer, path in maps:
        for half in "AB":
            own = values[f"{twin.layers}.{layer}.{path}.lora_{half}.default.weight"].grad
            theirs = model.get_parameter(f"model.layers.{moved[layer]}.{path}.lora_{half}.default.weight").grad
            torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None for parameter in (*packed.model.parameters(), *twin.model.parameters()))
    assert {str(each.dtype) for each in packed.model.model.layers[0].mlp.parameters()} == {"torch.uint8"}


def test_it_learns_over_itself_and_is_scored_as_plain_peft_scores_it(
    packed: LoadedModel, tiny: Tiny, store: Store
) -> None:
    corpus = packed.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=20 * WINDOW)
    before = [parameter.clone() for parameter in packed.model.parameters()]
    once = modify(packed, corpus, MASK, [LORA], store)
    twice = modify(packed, corpus, MASK, [LORA, f"{LORA};rank=2"], store)
    pruned, first, second = score(packed, corpus, [MASK, once, twice], store)
    model = adapted(tiny.folder("llama"), once.deltas[0].weights)
    expected = brute_force.window_nll(model, corpus.held_out.ids)
    torch.testing.assert_close(torch.tensor(first.nll), torch.tensor(expected), rtol=1e-4, atol=0)
    assert len({pruned.perplexity, first.perplexity, second.perplexity}) == 3
    with torch.no_grad():
        joined = adapted(tiny.folder("llama"), once.deltas[0].weights)
        for layer, named in twice.deltas[1].weights.items():
            for name, change in named.items():
                module = joined.get_submodule(f"model.layers.{layer - (layer > 2)}.{name.removesuffix('.weight')}")
                module.register_forward_hook(
                    lambda _, args, output, by=change: output + args[0] @ by.right.T @ by.left.T
                )
    expected = brute_force.window_nll(joined, corpus.held_out.ids)
    torch.testing.assert_close(torch.tensor(second.nll), torch.tensor(expected), rtol=1e-4, atol=0)
    assert all(torch.equal(*pair) for pair in zip(before, packed.model.parameters(), strict=True))


def test_the_adapter_is_written_and_merging_is_refused(
    packed: LoadedModel, tiny: Tiny, store: Store, tmp_path: Path
) -> None:
    corpus = packed.tokenize("python-docs", 5 * WINDOW, WINDOW)
    variant = variants.make(packed, corpus, "2", LORA)
    made = export(packed, variant, tmp_path / "out", corpus, store, format="adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "out", quantization_config=NF4, dtype=torch.float32)
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model = PeftModel.from_pretrained(base, str(tmp_path / "out" / "adapter")).eval()
    expected = brute_force.logits(adapted(tiny.folder("llama"), variant.deltas[0].weights), corpus.held_out.ids)
    close = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(brute_force.logits(model, corpus.held_out.ids), expected, rtol=0, atol=close)
    assert made.verification.max_abs_logit_difference <= close
    assert "loaded in nf4 (float32)" in (tmp_path / "out" / "README.md").read_text()
    for format in ("auto", "transformers-zeroed", "pruned-remote-code"):
        with pytest.raises(ExportError, match="An adapter over quantized weights is not merged"):
            plan_export(packed, variant, format)
    whole = load(ModelSpec(str(tiny.folder("llama")), "float32", "cpu"), Store(None), tmp_path)
    merged = export(whole, variant, tmp_path / "merged", corpus, store)
    assert merged.verification.max_abs_logit_difference <= close


def test_what_replaces_quantized_weights_is_refused(packed: LoadedModel) -> None:
    corpus = packed.tokenize("python-docs", 5 * WINDOW, WINDOW)
    for spec in ("train;steps=1", "distill-local;steps=1", "refit"):
        with pytest.raises(ModifyError, match="quantized"):
            variants.make(packed, corpus, "2", spec)
