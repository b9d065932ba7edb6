"""The model that lm-evaluation-harness asks, against its own for transformers on models pruned plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from explorer.benchmarks.harness import HarnessModel
from explorer.benchmarks.request import RequestEncoder
from explorer.benchmarks.tasks import ask_tasks, load_tasks
from explorer.deltas.variant import Variant
from explorer.errors import TaskError, TextError
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.task_files import write_tasks
from tests.support.tiny_models import Tiny

NAMES = ["animals", "pronouns", "last_words", "texts", "written"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return load_tasks(NAMES, write_tasks(tmp_path_factory.mktemp("tasks")))


def make_oracle(model: Any, loaded: LoadedModel, **options: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=loaded.tokenizer, batch_size=3, **options)


def check(ours: dict[str, list[dict[str, Any]]], theirs: dict[str, list[dict[str, Any]]]) -> None:
    assert set(ours) == set(theirs) == set(NAMES)
    for name in NAMES:
        for one, other in zip(ours[name], theirs[name], strict=True):
            assert one["arguments"] == other["arguments"]
            for mine, its in zip(one["resps"], other["resps"], strict=True):
                assert mine == [pytest.approx(answer, abs=1e-3) for answer in its]
            for metric in one["metrics"]:
                assert one[metric] == pytest.approx(other[metric], abs=1e-3)


def ask(loaded: LoadedModel, tasks: dict[str, Any], variant: Mask | Variant, chat: bool = False) -> dict[str, Any]:
    with HarnessModel(loaded, [NONE, variant], Store(None)) as model:
        model.answer_as(variant)
        return ask_tasks(model, tasks, None, chat)


@pytest.mark.parametrize("mask", ["none", "1", "a1,m2"])
@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2"])
def test_masks_answer_as_the_harness_says(tiny: Tiny, tasks: dict[str, Any], family: str, mask: str) -> None:
    loaded = tiny.load(family)
    oracle = make_oracle(brute_force.zeroed(tiny.folder(family), Mask.parse(mask)), loaded)
    check(ask(loaded, tasks, Mask.parse(mask)), ask_tasks(oracle, tasks, None, False))


def test_what_is_modified_answers_as_the_harness_says(
    tiny: Tiny, tasks: dict[str, Any], llama: LoadedModel, llama_corpus: Corpus
) -> None:
    variant = variants.make(llama, llama_corpus, "2", "mean")
    oracle = make_oracle(brute_force.modified(tiny.folder("llama"), variant), llama)
    check(ask(llama, tasks, variant), ask_tasks(oracle, tasks, None, False))


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_texts_are_cut_into_ids_as_the_harness_cuts_them(tiny: Tiny, family: str) -> None:
    """Contexts too long, spaces at the end, tokens that straddle the border, nothing before, BOS written out."""
    from lm_eval.api.instance import Instance

    loaded, seen = tiny.load(family), []
    encoder, oracle = RequestEncoder.of(loaded), make_oracle(brute_force.plain(tiny.folder(family)), loaded)
    oracle._loglikelihood_tokens = lambda requests, **_: seen.extend(requests)
    long, most = "so the other " * 60, loaded.positions
    assert most is not None
    pairs = [
        (long, "in"),
        ("in", long[:150]),
        ("the  ", "er in"),
        ("th", "e"),
        ("", "the"),
        ("<bos>a", "b"),
        ("", "<bos>a"),
    ]
    oracle.loglikelihood([Instance("loglikelihood", {}, pair, 0, ("", 0, 1)) for pair in pairs], disable_tqdm=True)
    for pair, (_, context, continuation) in zip(pairs, seen, strict=True):
        ours = encoder.pair(*pair)
        assert ours.context + ours.continuation == tuple((context + continuation)[-(most + 1) :])
        assert ours.continuation == tuple(continuation)
    with pytest.raises(TextError, match="longer than the model's positions"):
        encoder.pair("in", long)


def test_spaces_alone_and_nothing_at_all_are_cut_too(llama: LoadedModel) -> None:
    encoder = RequestEncoder.of(llama)
    assert encoder.pair(" ", "a") == encoder.pair("", " a")
    assert encoder.pair("the cat", "").continuation == ()
    assert [len(request.continuation) for request in encoder.rolling("x" * 300)] == [128, 128, 44]
    assert encoder.rolling("") == []


def test_the_head_is_not_tied_anew(tiny: Tiny, tmp_path: Path, tasks: dict[str, Any]) -> None:
    """The harness's own model ties what the config calls tied; a head of its own stays one here."""
    loaded = tiny.load("llama")
    head = loaded.model.get_output_embeddings().weight
    loaded.model.config.tie_word_embeddings = True
    try:
        ask(loaded, tasks, Mask.parse("1"))
    finally:
        loaded.model.config.tie_word_embeddings = False
    assert loaded.model.get_output_embeddings().weight is head
    assert head is not loaded.model.get_input_embeddings().weight


def test_what_was_written_is_stored(llama: LoadedModel, tasks: dict[str, Any], store: Store) -> None:
    with HarnessModel(llama, [NONE], store) as model:
        first = ask_tasks(model, tasks, None, False)
        with llama.wrappers.counting() as count:
            assert ask_tasks(model, tasks, None, False)["written"] == first["written"]
            assert count.evaluations == 0


def test_few_shots_are_those_of_the_harness(tiny: Tiny, llama: LoadedModel, tmp_path: Path) -> None:
    tasks = load_tasks(["animals"], write_tasks(tmp_path), num_fewshot=2)
    oracle = make_oracle(brute_force.plain(tiny.folder("llama")), llama)
    ours, theirs = ask(llama, tasks, NONE), ask_tasks(oracle, tasks, None, False)
    assert [each["arguments"] for each in ours["animals"]] == [each["arguments"] for each in theirs["animals"]]
    assert ours["animals"][0]["arguments"][0][0].count("Question: ") == 3


def test_a_chat_template_is_put_around_items_on_demand(tiny: Tiny, llama: LoadedModel, tasks: dict[str, Any]) -> None:
    llama.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    try:
        oracle = make_oracle(brute_force.plain(tiny.folder("llama")), llama)
        ours, theirs = ask(llama, tasks, NONE, chat=True), ask_tasks(oracle, tasks, None, True)
        with HarnessModel(llama, [NONE], Store(None)) as model:
            turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "so "}]
            prefilled = [each.apply_chat_template(turns, add_generation_prompt=False) for each in (model, oracle)]
    finally:
        llama.tokenizer.chat_template = None
    check(ours, theirs)
    assert ours["animals"][0]["arguments"][0][0].startswith("[user]Question: ")
    assert prefilled == ["[user]hello[assistant]so "] * 2


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("task: broken\noutput_type: multiple_choice\ndataset_path: json\n", "Cannot load broken"),
        ("task: broken\n  nonsense: [", "Cannot load broken"),
        (None, "not a registered"),
    ],
)
def test_a_task_file_that_is_wrong_is_one_line(tmp_path: Path, written: str | None, said: str) -> None:
    write_tasks(tmp_path)
    if written is not None:
        (tmp_path / "broken.yaml").write_text(written)
    with pytest.raises(TaskError, match=said) as raised:
        load_tasks(["broken"], tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(TaskError, match="No such folder"):
        load_tasks(["animals"], tmp_path / "nowhere")


def test_what_samples_or_does_not_fit_is_refused(llama: LoadedModel) -> None:
    with HarnessModel(llama, [NONE], Store(None)) as model:
        with pytest.raises(TaskError, match="samples its answers"):
            model._write("a", {"do_sample": True, "temperature": 0.7})
        with pytest.raises(TaskError, match="longer than the model's positions"):
            model._write("a", {"until": "x", "max_gen_toks": 128})
