"""A pruned checkpoint as a draft for its original: expected by its probabilities, measured by transformers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from explorer.errors import ExportError, UnsupportedModel
from explorer.evaluation import assisted, decode_speed
from explorer.export import Exported, draft, export, plan_export
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny, load_folder

MASK = Mask.parse("1,m2")


@pytest.fixture(scope="module")
def drafts(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A draft of a tiny Llama."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_speed, "TOKENS", 2)
        llama = tiny.load("llama")
        corpus = llama.tokenize("python-docs", 2 * WINDOW, WINDOW)
        return export(llama, MASK, tmp_path_factory.mktemp("draft") / "out", corpus, Store(None), format="draft")


def test_expected_acceptance_is_the_overlap_of_both_distributions(drafts: Exported, llama: LoadedModel) -> None:
    ids = llama.tokenize("python-docs", 2 * WINDOW, WINDOW).held_out.ids
    folder = llama.checkpoint.folder
    p, q = (
        brute_force.logits(model, ids)[:, :-1].double().softmax(-1)
        for model in (brute_force.plain(folder), brute_force.zeroed(folder, MASK))
    )
    assert drafts.evidence.draft is not None
    assert drafts.evidence.draft.acceptance == pytest.approx(float(torch.minimum(p, q).sum(-1).mean()), rel=1e-5)


def test_the_best_number_of_tokens_is_that_of_the_best_speed_up(drafts: Exported) -> None:
    draft, cost = drafts.evidence.draft, drafts.evidence.cost
    assert draft is not None
    if cost is None:  # other work came in between
        return
    a = draft.acceptance
    expected = [(1 - a ** (g + 1)) / ((1 - a) * (g * cost + 1)) for g in range(1, 17)]
    assert draft.speed_up == pytest.approx(max(expected))
    assert draft.drafted == int(np.argmax(expected)) + 1


def test_text_with_its_help_is_the_originals_own(drafts: Exported, llama: LoadedModel) -> None:
    measured = drafts.evidence.draft and drafts.evidence.draft.measured
    assert measured is not None
    assert measured.same == measured.tokens == assisted.TOKENS * (measured.tokens // assisted.TOKENS)
    assert measured.per_pass >= 1
    card = (drafts.out / "README.md").read_text()
    assert f"The {measured.tokens} tokens written so are the same as the original's own." in card
    original = brute_force.plain(llama.checkpoint.folder)
    draft = AutoModelForCausalLM.from_pretrained(drafts.out, dtype=torch.float32, trust_remote_code=True)
    draft.generation_config.num_assistant_tokens = 5
    for prompt in llama.tokenize("python-docs", 2 * WINDOW, WINDOW).held_out.ids[:, :8].tolist():
        expected = brute_force.greedy(original, prompt, 20)
        ids = torch.tensor([prompt])
        options = {"max_new_tokens": 20, "min_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
        found = original.generate(ids, attention_mask=torch.ones_like(ids), assistant_model=draft, **options)
        assert found[0].tolist()[-20:] == expected[-20:]


def test_the_whole_model_is_taken_at_its_word(llama: LoadedModel) -> None:
    prompts = llama.tokenize("python-docs", 2 * WINDOW, WINDOW).held_out.ids[:, :8].tolist()
    found = assisted.measure_assisted(llama, brute_force.plain(llama.checkpoint.folder), prompts, 5)
    assert found.per_pass == assisted.TOKENS / (assisted.TOKENS / 6)  # five of five, and the model's own
    assert found.same == found.tokens


def test_the_card_says_who_takes_it_and_how(drafts: Exported) -> None:
    card = (drafts.out / "README.md").read_text()
    assert json.loads((drafts.out / "recipe.json").read_text())["format"] == "draft"
    assert (drafts.format.name, drafts.format.written_in) == ("draft", "deci")
    (command,) = [line for line in card.splitlines() if line.startswith("vllm serve ")]
    words = shlex.split(command)
    assert words[3:5] == ["--trust-remote-code", "--speculative-config"]
    assert drafts.evidence.draft is not None
    drafted = drafts.evidence.draft.drafted
    assert json.loads(words[5]) == {"model": ".", "method": "draft_model", "num_speculative_tokens": drafted}
    assert f"num_assistant_tokens = {drafted}" in card


@pytest.mark.parametrize(
    ("family", "mask", "written_in"),
    [("llama", "1", "transformers"), ("llama", "1,a2", "deci"), ("gemma2", "1,a2", "pruned-remote-code")],
)
def test_a_draft_runs_nothing_that_is_off(tiny: Tiny, family: str, mask: str, written_in: str) -> None:
    planned = plan_export(tiny.load(family), Mask.parse(mask), "draft")
    assert planned.format.written_in == written_in
    assert planned.bytes == plan_export(tiny.load(family), Mask.parse(mask), written_in).bytes


def test_a_model_that_does_not_write_has_no_draft(llama: LoadedModel) -> None:
    streamed = load_folder(llama.checkpoint.folder, stream=True)
    with pytest.raises(ExportError, match="A streamed model has no draft"):
        plan_export(streamed, MASK, "draft")


def test_llama_cpp_gets_a_gguf_file(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    made = export(llama, Mask.parse("1"), tmp_path / "out", llama_corpus, store, format="draft-gguf")
    assert (made.out / "model.gguf").is_file()
    assert made.evidence.draft is not None
    assert made.evidence.draft.measured is None
    card = (made.out / "README.md").read_text()
    assert "assisted generation was not measured: transformers does not read the file." in card
    assert "llama-server -m " in card


def test_what_assisted_generation_refuses_is_said(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedModel("It cannot draft", "its cache is not cut", "Use another format")

    monkeypatch.setattr(draft, "measure_assisted", refuse)
    made = export(llama, Mask.parse("1"), tmp_path / "out", llama_corpus, store, format="draft")
    assert made.evidence.draft is not None
    assert made.evidence.draft.describe()["assisted"] is None
    said = "assisted generation was not measured: It cannot draft: its cache is not cut."
    assert said in (made.out / "README.md").read_text()
