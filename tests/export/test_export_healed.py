"""Healed variants in every format: merged they are the overwritten model, and as an adapter plain peft's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from explorer.deltas import Variant, read_delta, write_delta
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, plan_export, read_recipe
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.tiny_models import WINDOW, Tiny, load_folder, make_model, save
from tests.support.wide_models import WIDE

#: peft asks a model for a property that transformers calls by another name now.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

LORA = "lora;steps=3;warmup=0;lr=1e-2"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_folder(save(make_model(WIDE["llama"]()), tmp_path_factory.mktemp("wide")))


@pytest.mark.parametrize("spec", [LORA, "train;steps=2;warmup=0", "distill-local;steps=2;warmup=0"])
@pytest.mark.parametrize("format", ["transformers", "transformers-zeroed", "deci", "pruned-remote-code", "gguf"])
def test_what_was_learnt_is_merged_into_every_format(
    wide: LoadedModel, store: Store, tmp_path: Path, format: str, spec: str
) -> None:
    corpus = wide.tokenize("python-docs", 5 * WINDOW, WINDOW)
    variant = variants.make(wide, corpus, "2", spec)
    made = export(wide, variant, tmp_path / "out", corpus, store, format=format)
    expected = brute_force.logits(variants.overwritten(wide.checkpoint.folder, variant), corpus.held_out.ids)
    masked = brute_force.logits(brute_force.zeroed(wide.checkpoint.folder, variant.mask), corpus.held_out.ids)
    close = (1e-2 if format == "gguf" else 1e-5) * float(expected.abs().max())  # the first in 16 bits
    assert made.verification.max_abs_logit_difference <= close
    if format == "transformers":
        assert float((masked - expected).abs().max()) > 100 * close  # else the checks above say nothing
    if format != "gguf":
        reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
        torch.testing.assert_close(brute_force.logits(reloaded, corpus.held_out.ids), expected, rtol=0, atol=close)


@pytest.mark.parametrize("format", ["transformers", "transformers-zeroed", "deci", "pruned-remote-code", "gguf"])
def test_a_head_that_was_the_embedding_is_written_beside_it(
    store: Store, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, format: str
) -> None:
    config = WIDE["llama"]()
    config.tie_word_embeddings = True
    tied = load_folder(save(make_model(config), tmp_path_factory.mktemp("tied")))
    corpus = tied.tokenize("python-docs", 5 * WINDOW, WINDOW)
    variant = variants.make(tied, corpus, "2", "train;layers=head+3;steps=2;warmup=0;lr=1e-2")
    if format == "gguf":
        with pytest.raises(ExportError, match="one place for the embedding and the head"):
            plan_export(tied, variant, format)
        return
    made = export(tied, variant, tmp_path / "out", corpus, store, format=format)
    whole, after = made.evidence.before, made.evidence.after
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    assert reloaded.lm_head.weight is not reloaded.model.embed_tokens.weight
    assert torch.equal(reloaded.model.embed_tokens.weight, tied.model.model.embed_tokens.weight)
    assert torch.equal(reloaded.lm_head.weight, variant.deltas[0].weights[tied.n_layers]["weight"])
    expected = brute_force.logits(variants.overwritten(tied.checkpoint.folder, variant), corpus.held_out.ids)
    close = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(brute_force.logits(reloaded, corpus.held_out.ids), expected, rtol=0, atol=close)
    if format == "transformers":
        assert after.parameters == sum(parameter.numel() for parameter in reloaded.parameters())
        assert after.bytes == sum(parameter.nbytes for parameter in reloaded.parameters())
        assert after.flops_per_token < whole.flops_per_token


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "opt"])
@pytest.mark.parametrize(("mask", "below"), [("1", ()), ("1-2", ("mean",)), ("m0,2", ()), ("2", (LORA,))])
def test_an_adapter_is_loaded_by_plain_peft(
    tiny: Tiny, store: Store, tmp_path: Path, name: str, mask: str, below: tuple[str, ...]
) -> None:
    loaded = tiny.load(name)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    variant = variants.make(loaded, corpus, mask, *below, LORA)
    out = tmp_path / "out"
    made = export(loaded, variant, out, corpus, store, format="adapter")
    base = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    without = brute_force.logits(base.eval(), corpus.held_out.ids)
    model = PeftModel.from_pretrained(base, str(out / "adapter")).eval()
    expected = brute_force.logits(variants.overwritten(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    close = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(brute_force.logits(model, corpus.held_out.ids), expected, rtol=0, atol=close)
    assert float((without - expected).abs().max()) > 10 * close
    assert made.verification.max_abs_logit_difference <= close
    assert made.verification.loader.endswith("and peft")
    targets = json.loads((out / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(set(targets), key=targets.index)
    again = export(loaded, variant, out, corpus, store, format="adapter", overwrite=True)
    assert (
        again.bytes
        == made.bytes
        == sum(path.stat().st_size for path in out.rglob("*.safetensors"))
        - sum(8 + int.from_bytes(path.read_bytes()[:8], "little") for path in out.rglob("*.safetensors"))
    )


def test_the_card_tells_what_trained_and_the_recipe_trains_again(
    llama: LoadedModel, store: Store, tmp_path: Path
) -> None:
    corpus = llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=20 * WINDOW)
    specs = ["mean", "lora;check=2;lr=1e-2;steps=6;warmup=0;window=12", "distill-local;check=1;steps=2"]
    variant = variants.make(llama, corpus, "2", *specs)
    export(llama, variant, tmp_path / "out", corpus, store, format="pruned-remote-code")
    card, told = (
        (tmp_path / "out" / "README.md").read_text(),
        json.loads((tmp_path / "out" / "recipe.json").read_text()),
    )
    parts = [variants.overwritten(llama.checkpoint.folder, Variant(variant.mask, variant.deltas[:n])) for n in range(4)]
    losses = [brute_force.window_nll(each, corpus.held_out.ids).sum() / 5 / (WINDOW - 1) for each in parts]
    for place, delta in enumerate(variant.deltas):
        line = next(line for line in card.splitlines() if line.startswith(f"- `{delta.modifier}`"))
        assert f"fitted on {20 * WINDOW:,} tokens of `python-docs` in {delta.origin.seconds:,.1f} s" in line
        before, after = (float(found) for found in re.findall(r"loss ([\d.]+) before, ([\d.]+) after", line)[0])
        assert (before, after) == pytest.approx((losses[place], losses[place + 1]), abs=1e-3)
        assert told["measured"]["losses"][place] == pytest.approx([losses[place], losses[place + 1]], rel=1e-4)
    assert "6 steps over 288 tokens, the checkpoint at" in card
    assert "2 steps over 192 tokens" in card
    again = read_recipe(tmp_path / "out" / "recipe.json").make(llama, corpus, Store(None))
    assert again == variant


def test_what_a_training_took_is_summed_over_its_parts_and_kept_in_the_file(llama: LoadedModel, tmp_path: Path) -> None:
    corpus = llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=20 * WINDOW)
    (delta,) = variants.make(llama, corpus, "1,3", "distill-local;batch=2;check=5;steps=10").deltas
    assert delta.origin.trained is not None
    assert (delta.origin.trained.steps, delta.origin.trained.tokens) == (20, 2 * 10 * 2 * WINDOW)
    assert delta.origin.trained.kept in (5, 10)
    write_delta(tmp_path / "delta.safetensors", delta)
    assert read_delta(tmp_path / "delta.safetensors").origin == delta.origin


def test_what_is_no_adapter_is_refused(llama: LoadedModel, llama_corpus: Corpus) -> None:
    for specs in ((), ("mean",), ("lora;steps=0", "refit")):
        with pytest.raises(ExportError, match="Only low-rank adapters"):
            plan_export(llama, variants.make(llama, llama_corpus, "2", *specs), "adapter")
