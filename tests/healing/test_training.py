"""Trainings: what they look at, what they leave behind, where they stop, and where they go on."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.deltas.delta import Delta
from explorer.deltas.variant import Variant
from explorer.deltas.weight_change import LowRankUpdate
from explorer.errors import Cancelled, MissingExtra, ModifyError, TextError
from explorer.evaluation.divergence import measure_divergence
from explorer.evaluation.perplexity import score
from explorer.healing import teacher
from explorer.healing.history import read_history
from explorer.healing.recipe import read_options, read_recipe
from explorer.healing.student import Student
from explorer.healing.teacher import ask_teacher
from explorer.healing.training_text import find_windows
from explorer.healing.watcher import TrainingRecord, watching
from explorer.healing.windows import APART, MOST_APART, deal_out
from explorer.masks.mask import NONE, Mask
from explorer.model.added_parameters import count_added
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.settings import make_setting
from tests.support.tiny_models import WINDOW, Tiny, load_folder
from tests.support.variants import overwritten

MASK = Mask.parse("2")
ALL = ["lora", "train", "distill-local"]
FEW = ["llama", "gpt2", "gemma2", "opt", "falcon_parallel", "mixtral", "granite", "bloom"]


class Records:
    """Keeps what it is told; stops at a step."""

    def __init__(self, stop: int = -1) -> None:
        self.stop, self.found, self.steps = stop, list[TrainingRecord](), list[int]()

    def record(self, record: TrainingRecord) -> None:
        self.found.append(record)
        if record.step == self.stop and record.loss is not None:
            raise Cancelled

    def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
        self.steps.append(step)

    @property
    def curve(self) -> list[tuple]:
        return [(each.part, each.step, each.loss, each.learning_rate, each.validation) for each in self.found]


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=20 * WINDOW)


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def make(llama: LoadedModel, corpus: Corpus, spec: str, store: Store | None = None, mask: Mask = MASK) -> Delta:
    return modify(llama, corpus, mask, [spec], store or Store(None)).deltas[-1]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("how", ["steps=0", "steps=3;lr=0"])
def test_no_steps_and_steps_of_no_length_change_nothing(
    llama: LoadedModel, corpus: Corpus, name: str, how: str
) -> None:
    delta = make(llama, corpus, f"{name};{how}")
    assert delta.weights
    for layer, named in delta.weights.items():
        for parameter in named:
            own = llama.wrappers.layers[layer].get_parameter(parameter)
            assert torch.equal(llama.wrappers.weight(layer, parameter, (delta,)), own)


@pytest.mark.parametrize("spec", ["lora;lr=3e-3", "train;lr=3e-3", "distill-local;lr=3e-4"])
def test_it_learns(llama: LoadedModel, corpus: Corpus, spec: str) -> None:
    seen = Records()
    with watching(seen):
        make(llama, corpus, f"{spec};steps=30;check=10")
    losses = [each.validation for each in seen.found if each.validation is not None]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    steps = [each for each in seen.found if each.loss is not None]
    assert [each.step for each in steps] == list(range(1, 31))
    assert [each.tokens for each in steps] == [4 * WINDOW * step for step in range(1, 31)]
    assert seen.steps == [10, 20, 30]


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    ("spec", "mask"),
    [
        ("lora;steps=2;warmup=0", "1,m3"),
        ("train;steps=2", "a1,2"),
        ("train;layers=head+3;steps=2;warmup=0", "1"),
        ("distill-local;steps=2", "2,a3"),
    ],
)
def test_a_healed_variant_is_the_plain_model_with_its_deltas(
    tiny: Tiny, store: Store, name: str, spec: str, mask: str
) -> None:
    loaded = tiny.load(name)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    before = {name: parameter.clone() for name, parameter in loaded.model.named_parameters()}
    variant = modify(loaded, corpus, Mask.parse(mask), [spec], store)
    assert all(torch.equal(before[name], parameter) for name, parameter in loaded.model.named_parameters())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    pruned, found = score(loaded, corpus, [variant.mask, variant], store)
    expected = brute_force.window_nll(overwritten(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    np.testing.assert_allclose(found.nll, expected, rtol=1e-4)
    assert not np.allclose(found.nll, pruned.nll, rtol=1e-6)


def test_without_a_mask_and_over_what_is_below(llama: LoadedModel, corpus: Corpus, store: Store) -> None:
    assert make(llama, corpus, "lora;steps=2", mask=NONE).weights
    assert make(llama, corpus, "train;steps=2;layers=last", mask=NONE).layers == {1, 2, 3}
    with pytest.raises(ModifyError, match="nothing is off"):
        make(llama, corpus, "distill-local;steps=2", mask=NONE)
    for below in ("refit", "linear"):
        variant = modify(llama, corpus, MASK, [below, "lora;steps=2;warmup=0"], store)
        (found,) = score(llama, corpus, [variant], store)
        expected = brute_force.window_nll(overwritten(llama.checkpoint.folder, variant), corpus.held_out.ids)
        np.testing.assert_allclose(found.nll, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_head_and_last_three_are_trained_and_the_embedding_is_not(tiny: Tiny, store: Store, name: str) -> None:
    loaded = tiny.load(name)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    variant = modify(loaded, corpus, Mask.parse("1"), ["train;layers=head+3;steps=2;warmup=0", "mean"], store)
    trained, last = variant.deltas[0], loaded.n_layers
    assert sorted(trained.weights) == [each for each in range(last + 1) if each != 1][-4:]
    assert set(trained.weights[last]) == {"weight"}
    head = loaded.model.get_output_embeddings()
    assert not torch.equal(trained.weights[last]["weight"], head.weight)
    plain = overwritten(loaded.checkpoint.folder, variant)
    expected = plain(torch.from_numpy(corpus.held_out.ids), use_cache=False).logits
    with loaded.wrappers.as_variant(variant):
        found = loaded.model(torch.from_numpy(corpus.held_out.ids), use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (divergence,) = measure_divergence(loaded, corpus, [variant], store)
    whole = loaded.model(torch.from_numpy(corpus.held_out.ids), use_cache=False).logits[:, :-1].log_softmax(-1)
    moved = expected[:, :-1].log_softmax(-1)
    np.testing.assert_allclose(divergence.kl, (whole.exp() * (whole - moved)).sum((1, 2)).detach(), rtol=1e-3)
    tied = head.weight is loaded.model.get_input_embeddings().weight
    assert count_added(loaded, variant.deltas) == loaded.config.hidden_size + (head.weight.numel() if tied else 0)


def test_variants_that_differ_in_the_head_alone_are_told_apart(
    llama: LoadedModel, corpus: Corpus, store: Store
) -> None:
    trained = make(llama, corpus, "train;layers=head+3;steps=2;warmup=0", mask=NONE)
    head = {llama.n_layers: trained.weights[llama.n_layers]}
    variants = [NONE, Variant(NONE, (Delta(trained.origin, head, {}),))]
    expected = [
        brute_force.window_nll(overwritten(llama.checkpoint.folder, each), corpus.held_out.ids)
        for each in (Variant(), variants[1])
    ]
    for loaded in (llama, load_folder(llama.checkpoint.folder, stream=True)):
        found = score(loaded, corpus, variants, store)
        np.testing.assert_allclose([each.nll for each in found], expected, rtol=1e-4)
    assert not np.allclose(*expected, rtol=1e-6)


def test_a_merged_adapter_is_adapter_and_base(llama: LoadedModel, corpus: Corpus) -> None:
    delta, x = (
        make(llama, corpus, "lora;steps=5;warmup=0"),
        torch.randn(7, 32, generator=torch.Generator().manual_seed(0)),
    )
    change, own = delta.weights[1]["mlp.up_proj.weight"], llama.model.model.layers[1].mlp.up_proj.weight
    assert isinstance(change, LowRankUpdate)
    beside = x @ own.T + (x @ change.right.T) @ change.left.T
    torch.testing.assert_close(
        x @ llama.wrappers.weight(1, "mlp.up_proj.weight", (delta,)).T, beside, rtol=1e-5, atol=1e-5
    )
    assert change.left.abs().max() > 0


def test_the_teacher_is_the_unpruned_model(llama: LoadedModel, corpus: Corpus) -> None:
    ids = torch.from_numpy(corpus.calibration.ids[:2])
    expected = llama.model(ids, use_cache=False).logits
    told = list[torch.Tensor]()

    class Teach(Records):
        def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
            told.append(ask_teacher(llama, ids))

    with watching(Teach()):
        make(llama, corpus, "lora;steps=3;loss=kl;warmup=0")
    assert len(told) == 3
    assert all(torch.equal(logits, expected) for logits in told)


@pytest.mark.parametrize("name", ALL)
def test_windows_that_are_kept_apart_are_not_trained_on(
    llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    inner = Student.forward

    def forward(self: Student, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        seen[torch.is_grad_enabled()] |= set(rows.tolist())
        return inner(self, rows)

    monkeypatch.setattr(Student, "forward", forward)
    make(llama, corpus, f"{name};steps=20;check=10")
    assert seen[False] == {7, 15}
    assert seen[True] == set(range(20)) - {7, 15}


def test_windows_come_again_in_another_order() -> None:
    ids = np.arange(33)[:, None].repeat(2, 1)
    dealt = deal_out(ids, 70, 0)
    assert list(dealt.apart) == [7, 15, 23, 31]
    first, second = dealt.order[:29], dealt.order[29:58]
    assert set(first) == set(second) == set(range(33)) - set(dealt.apart)
    assert list(first) != list(second)
    assert len(dealt.order) == 70
    assert list(deal_out(ids, 10, 0).order) == list(first[:10])
    assert list(deal_out(ids, 10, 1).order) != list(first[:10])
    assert list(deal_out(ids[: APART - 1], 3, 0).apart) == [APART - 2]
    for count in (255, 256, 300, 1000):
        many = deal_out(np.zeros((count, 2), np.int64), 2000, 0)
        assert len(many.apart) == min(count // APART, MOST_APART)
        assert len(set(np.diff(many.apart))) == 1
        assert len(set(many.order) | set(many.apart)) == count
    alone = deal_out(ids[:1], 3, 0)
    assert (list(alone.order), list(alone.apart)) == ([0, 0, 0], [0])


@pytest.mark.parametrize("name", ALL)
def test_a_training_that_was_stopped_goes_on_where_it_was(
    llama: LoadedModel, corpus: Corpus, kept: Store, name: str
) -> None:
    spec, whole = f"{name};steps=12;check=3;warmup=2", Records()
    with watching(whole):
        expected = make(llama, corpus, spec)
    for stop in (2, 5, 10):
        with watching(Records(stop)), pytest.raises(Cancelled):
            make(llama, corpus, spec, kept)
    again = Records()
    with watching(again):
        found = make(llama, corpus, spec, kept)
    assert again.curve == whole.curve
    assert found == expected
    assert [dataclasses.astuple(each)[1:7] for each in read_history(llama, WINDOW, found.origin, kept)] == [
        dataclasses.astuple(each)[1:7] for each in whole.found
    ]


def test_a_checkpoint_can_be_kept(llama: LoadedModel, corpus: Corpus, kept: Store) -> None:
    spec = "lora;steps=12;check=3;warmup=2"
    expected = make(llama, corpus, f"{spec};until=6")
    whole = make(llama, corpus, spec, kept)
    for store in (kept, Store(None)):
        found = make(llama, corpus, f"{spec};until=6", store)
        assert all(torch.equal(tensor, found.tensors[name]) for name, tensor in expected.tensors.items())
    assert any(not torch.equal(tensor, whole.tensors[name]) for name, tensor in expected.tensors.items())
    with pytest.raises(ModifyError, match="multiple of 3"):
        make(llama, corpus, f"{spec};until=7")


def test_a_checkpoint_that_is_torn_is_passed_over(llama: LoadedModel, corpus: Corpus, kept: Store) -> None:
    spec = "lora;steps=12;check=3;warmup=2"
    with watching(Records(8)), pytest.raises(Cancelled):
        make(llama, corpus, spec, kept)
    assert kept.folder is not None
    (torn,) = (kept.folder / "training").glob("*/0/checkpoint-6")
    (torn / "trainer_state.json").write_text("{", encoding="utf-8")
    assert make(llama, corpus, spec, kept) == make(llama, corpus, spec)


#: Steps enough to learn three windows by heart.
BY_HEART = "train;steps=40;check=4;lr=3e-2;warmup=0;schedule=constant"


@pytest.fixture
def short(corpus: Corpus) -> Corpus:
    return dataclasses.replace(corpus, calibration=corpus.calibration[slice(0, 4)])


def test_what_is_trained_is_the_best_checkpoint(llama: LoadedModel, short: Corpus) -> None:
    variants = dict[int, Variant]()

    class Keep(Records):
        def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
            variants[step] = make()

    seen = Keep()
    with watching(seen):
        found = make(llama, short, BY_HEART)
    losses = {each.step: each.validation for each in seen.found if each.validation is not None}
    best = min(losses, key=lambda step: losses[step] or 0)
    assert best < 40
    assert found == variants[best].deltas[0]


def test_it_stops_where_nothing_gets_better(llama: LoadedModel, short: Corpus) -> None:
    seen = Records()
    with watching(seen):
        make(llama, short, f"{BY_HEART};patience=2")
    losses = [each.validation for each in seen.found if each.validation is not None]
    assert len(losses) < 10
    assert min(losses) == losses[-3]


def test_a_loss_that_is_not_finite_stops_it(
    llama: LoadedModel, corpus: Corpus, kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, calls = Student.forward, list[int]()

    def forward(self: Student, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(1)
        if torch.is_grad_enabled() and len(calls) > 9:
            self.objective = lambda run, rows: torch.tensor(float("nan"))
        return inner(self, rows)

    spec = "lora;steps=12;check=3;warmup=2"
    expected = make(llama, corpus, f"{spec};until=6")
    monkeypatch.setattr(Student, "forward", forward)
    with pytest.raises(ModifyError, match=r"not finite: at step 8 of 12\. .*until=6"):
        make(llama, corpus, spec, kept)
    monkeypatch.undo()
    found = make(llama, corpus, f"{spec};until=6", kept)
    assert all(torch.equal(tensor, found.tensors[name]) for name, tensor in expected.tensors.items())


def test_out_of_memory_halves_what_goes_through_at_once(
    llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Student.forward

    def forward(self: Student, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        return inner(self, rows)

    expected, seen = make(llama, corpus, "lora;steps=4;warmup=0"), Records()
    monkeypatch.setattr(Student, "forward", forward)
    with watching(seen):
        found = make(llama, corpus, "lora;steps=4;warmup=0")
    assert {each.rows for each in seen.found} == {2}
    assert [each.tokens for each in seen.found if each.loss is not None] == [4 * WINDOW * step for step in (1, 2, 3, 4)]
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-2, atol=1e-4)


def test_a_full_disk_is_one_line_and_leaves_what_was(
    llama: LoadedModel, corpus: Corpus, kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, inner = "lora;steps=12;check=3;warmup=2", torch.save

    def fail(made: object, path: str, **options: object) -> None:
        if "checkpoint-6" in str(path):
            raise OSError(28, "No space left on device")
        inner(made, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(ModifyError, match=r"Cannot write the checkpoint.*No space left"):
        make(llama, corpus, spec, kept)
    monkeypatch.undo()
    again = Records()
    with watching(again):
        assert make(llama, corpus, spec, kept) == make(llama, corpus, spec)


def test_a_text_of_its_own(llama: LoadedModel, corpus: Corpus, kept: Store) -> None:
    first = make(llama, corpus, "lora;steps=2;text=self;warmup=0", kept)
    assert kept.folder is not None
    (arrays,) = (kept.folder / "arrays").glob("*.npz")
    with np.load(arrays) as written:
        ids = written["ids"]
    assert ids.shape == corpus.calibration.ids.shape
    assert (ids[:, 0] == 256).all()
    assert len(np.unique(ids, axis=0)) == len(ids)
    assert make(llama, corpus, "lora;steps=2;text=self;warmup=0") == first
    assert first.tensors.keys() == make(llama, corpus, "lora;steps=2;warmup=0").tensors.keys()
    shutil.rmtree(kept.folder / "arrays")


def test_own_text_goes_on_greedily_from_the_beginnings_of_windows(
    llama: LoadedModel, corpus: Corpus, kept: Store
) -> None:
    make(llama, corpus, "lora;steps=2;text=self;prompt=5;decoding=greedy;share=0.5", kept)
    assert kept.folder is not None
    (arrays,) = (kept.folder / "arrays").glob("*.npz")
    with np.load(arrays) as written:
        ids = written["ids"]
    plain, given = brute_force.plain(llama.checkpoint.folder), corpus.calibration.ids
    assert len(ids) == len(given) // 2
    for row, own in zip(ids, given, strict=False):
        assert list(row[:5]) == list(own[:5])
        for place in range(5, WINDOW):
            logits = plain(torch.from_numpy(row[None, :place])).logits[0, -1]
            if place < WINDOW - 1:
                logits[257] = -torch.inf  # it may not end before the window does
            assert logits[row[place]] >= logits.max() - 1e-4
    for spec, words in (("decoding=greedy", "begin alike"), (f"prompt={WINDOW}", "Nothing is left to write")):
        with pytest.raises(ModifyError, match=words):
            make(llama, corpus, f"lora;steps=2;text=self;{spec}")


def test_windows_of_another_length_are_of_the_same_text(llama: LoadedModel) -> None:
    for bos, first in (("never", 0), ("always", 1)):
        corpus = llama.tokenize("python-docs", 5 * WINDOW, WINDOW, bos, calibration_tokens=20 * WINDOW)
        text = corpus.calibration.ids[:, first:].ravel()
        for window in (10, 2 * WINDOW):
            setting = make_setting(llama, MASK, f"lora;window={window}", corpus=corpus)
            found = find_windows(setting, read_options(setting), read_recipe(read_options(setting))).ids
            assert found.shape == (len(text) // (window - first), window)
            assert (found[:, first:].ravel() == text[: found[:, first:].size]).all()
            assert not first or (found[:, 0] == 256).all()
    seen = Records()
    with watching(seen):
        delta = make(llama, corpus, f"lora;steps=2;window={2 * WINDOW};batch=3;check=2")
    assert [each.tokens for each in seen.found if each.loss is not None] == [3 * 2 * WINDOW, 6 * 2 * WINDOW]
    assert {each.rows for each in seen.found} == {1}  # of twice the ids half as many go through at once
    windows = 2 * 3 + 1  # trained on, and kept apart
    assert delta.origin.forwards == pytest.approx(windows * 2 * WINDOW / corpus.tokens * 3 / 4)
    with pytest.raises(TextError, match="positions"):
        make(llama, corpus, "lora;steps=2;window=1000")


def test_a_teacher_whose_likeliest_tokens_are_kept_is_asked_once(
    llama: LoadedModel, corpus: Corpus, kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def ask(loaded: LoadedModel, ids: torch.Tensor) -> torch.Tensor:
        asked.append(len(ids))
        return ask_teacher(loaded, ids)

    monkeypatch.setattr(teacher, "ask_teacher", ask)
    losses = {}
    for top in ("all", f"top{llama.vocabulary - 1}", "top8"):
        asked.clear()
        with watching(seen := Records()):
            make(llama, corpus, f"lora;steps=12;batch=5;check=6;loss=kl;warmup=0;teacher={top}", kept)
        losses[top] = [each.loss or each.validation for each in seen.found]
        assert sum(asked) == (12 * 5 + 2 * 2 if top == "all" else 20)
    np.testing.assert_allclose(losses[f"top{llama.vocabulary - 1}"], losses["all"], rtol=1e-4)
    assert all(few < every for few, every in zip(losses["top8"], losses["all"], strict=True))
    asked.clear()
    make(llama, corpus, "lora;steps=12;batch=5;check=6;loss=both;warmup=0;teacher=top8", kept)
    assert not asked
    with pytest.raises(ModifyError, match="Nothing is left beside"):
        make(llama, corpus, f"lora;steps=2;loss=kl;teacher=top{llama.vocabulary}")


def test_presets_say_what_is_not_given(llama: LoadedModel, corpus: Corpus) -> None:
    gromov = make(llama, corpus, "lora;preset=gromov;steps=1;warmup=0")
    assert {name for named in gromov.weights.values() for name in named} == {
        f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")
    }
    assert gromov.tensors["layers.0.mlp.up_proj.weight:right"].shape[0] == 64
    other = make(llama, corpus, "lora;preset=gromov;steps=1;warmup=0;rank=4")
    assert other.tensors["layers.0.mlp.up_proj.weight:right"].shape[0] == 4


def test_random_numbers_elsewhere_are_as_they_would_be(llama: LoadedModel, corpus: Corpus) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(3)
    np.random.seed(3)
    make(llama, corpus, "lora;steps=1")
    assert torch.equal(torch.rand(2), expected[0])
    assert (np.random.rand(2) == expected[1]).all()


def test_peft_that_is_missing_is_named(llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.extras.is_installed", lambda module: module != "peft")
    with pytest.raises(MissingExtra, match=r"peft is not installed.*\[recovery\]"):
        make(llama, corpus, "lora;steps=1")


def test_weights_that_cannot_be_changed_are_refused(tiny: Tiny, corpus: Corpus) -> None:
    streamed = load_folder(tiny.folder("llama"), stream=True)
    with pytest.raises(ModifyError, match="not all are in memory"):
        make(streamed, corpus, "lora;steps=1")


def test_what_trains_is_wide_in_a_narrow_model(tiny: Tiny, corpus: Corpus) -> None:
    narrow = load_folder(tiny.folder("llama"), "bfloat16")
    narrow.batch_shape.tokens = 4 * WINDOW
    seen = list[torch.dtype]()

    class Look(Records):
        def record(self, record: TrainingRecord) -> None:
            seen.append(next(iter(narrow.model.parameters())).dtype)

    with watching(Look()):
        lora, full = (make(narrow, corpus, f"{name};steps=2;warmup=0") for name in ("lora", "train"))
    assert set(seen) == {torch.bfloat16}
    for delta in (lora, full):
        assert {tensor.dtype for tensor in delta.tensors.values()} == {torch.bfloat16}
    student = Student(narrow.model, ["lm_head.weight"], lambda run, rows: torch.zeros(()))
    assert student.values[0].dtype == torch.float32
    assert student.tensors["lm_head.weight"].dtype == torch.bfloat16


def test_what_it_took_is_counted(llama: LoadedModel, corpus: Corpus) -> None:
    delta = make(llama, corpus, "lora;steps=5;check=5")
    windows = 5 * 4 + 2  # trained on, and kept apart
    assert delta.origin.forwards == pytest.approx(windows / len(corpus.calibration) * 3 / 4)
