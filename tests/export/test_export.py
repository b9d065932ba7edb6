"""Export: what is written is what was measured, or nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from explorer.errors import Cancelled, ExplorerError, ExportError, MaskError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export, plan_export, planners as planning, write as writing
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny, load_folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def _masks(n_layers: int) -> list[Mask]:
    last = n_layers - 1
    return [
        Mask.parse(t) for t in ("none", "0", f"{last}", "1-2", "a0,a2", f"m{last}", f"0,a1,m{last}", f"0-{last - 1}")
    ]


def _left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_export_is_the_masked_model(loaded: LoadedModel, corpus: Corpus, store: Store, tmp_path: Path) -> None:
    for mask in _masks(loaded.n_layers):
        out = tmp_path / str(mask)
        made = export(loaded, mask, out, corpus, store)
        proof = made.verification
        expected = brute_force.logits(brute_force.zeroed(loaded.checkpoint.folder, mask), corpus.held_out.ids)
        size = float(expected.abs().max())
        assert proof.max_abs_logit_difference <= 1e-5 * size
        assert proof.perplexity_reloaded == pytest.approx(proof.perplexity_masked, rel=1e-5)
        assert proof.perplexity_masked == pytest.approx(
            brute_force.perplexity(brute_force.zeroed(loaded.checkpoint.folder, mask), corpus.held_out.ids), rel=1e-5
        )
        reloaded = brute_force.plain(out)
        kept = loaded.n_layers - len(mask.whole_layers)
        assert made.layers == reloaded.config.num_hidden_layers == kept
        assert len(reloaded.get_submodule(loaded.architecture.layers)) == kept
        found = brute_force.logits(reloaded, corpus.held_out.ids)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * size)
        files = list(out.glob("*.safetensors"))
        assert made.bytes == pytest.approx(sum(f.stat().st_size for f in files), abs=20_000)
        again = tmp_path / "again"
        reloaded.save_pretrained(again)
        assert torch.equal(brute_force.logits(brute_force.plain(again), corpus.held_out.ids), found)
        shutil.rmtree(again)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, _masks(loaded.n_layers)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "exports" / "out"


@pytest.mark.parametrize(("measured", "written"), [("float32", "auto"), ("bfloat16", "float32")])
def test_weights_keep_the_checkpoints_dtype(tiny: Tiny, store: Store, out: Path, measured: str, written: str) -> None:
    loaded = load_folder(tiny.folder("llama"), measured)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(loaded, Mask.parse("1,a2"), out, corpus, store, dtype=written)
    source = brute_force.plain(loaded.checkpoint.folder).state_dict()
    written = brute_force.plain(out).state_dict()
    assert torch.equal(written["model.layers.1.mlp.up_proj.weight"], source["model.layers.2.mlp.up_proj.weight"])
    assert not written["model.layers.1.self_attn.o_proj.weight"].any()


def test_tokenizer_card_and_generation_config_go_along(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path
) -> None:
    made = export(llama, Mask.parse("1,a2"), out, llama_corpus, store)
    assert AutoTokenizer.from_pretrained(out)("the cat").input_ids == llama.tokenizer("the cat").input_ids
    assert (out / "generation_config.json").is_file()
    card = (out / "README.md").read_text()
    scores = score(llama, llama_corpus, [Mask(), Mask.parse("1,a2")], store)
    for part in ("`1,a2`", llama_corpus.name, made.command, *(f"{s.perplexity:.3f}" for s in scores)):
        assert part in card
    assert "--mask 1,a2" in made.command


def test_plan_writes_nothing_and_knows_the_size(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path
) -> None:
    mask = Mask.parse("1,a2")
    planned = plan_export(llama, mask)
    assert not out.parent.exists()
    assert planned.bytes == export(llama, mask, out, llama_corpus, store).bytes


def test_all_layers_off_is_refused(llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path) -> None:
    with pytest.raises(ExportError, match="every layer is off"):
        export(llama, Mask.parse("0-3"), out, llama_corpus, store)
    with pytest.raises(MaskError):
        export(llama, Mask.parse("4"), out, llama_corpus, store)
    assert not out.parent.exists()


def test_targets_in_the_way_are_refused(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    full, file, linked = tmp_path / "full", tmp_path / "file", tmp_path / "linked"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    file.write_text("mine")
    linked.symlink_to(llama.checkpoint.folder)
    source = llama.checkpoint.folder
    before, source_before = _left(tmp_path), _left(source)
    for target, overwrite, found in (
        (full, False, "not empty"),
        (full, True, "no checkpoint to replace"),
        (file, False, "is a file"),
        (file, True, "is a file"),
        (file / "below", False, "cannot be written"),
        (source, True, "overlaps"),
        (source / "inside", False, "overlaps"),
        (source.parent, True, "overlaps"),
        (linked, True, "overlaps"),
    ):
        with pytest.raises(ExportError, match=found):
            export(llama, Mask.parse("1"), target, llama_corpus, store, overwrite=overwrite)
    assert _left(tmp_path) == before
    assert _left(source) == source_before


def test_full_disk_is_refused_before_writing(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, used=10**9, free=1000))
    with pytest.raises(ExportError, match="Not enough disk"):
        export(llama, Mask.parse("1"), out, llama_corpus, store)
    assert not out.parent.exists()


def _zero_a_tensor(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.zero_()
    model.save_pretrained(folder)


def _cut_the_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5000])


def _forget_a_layer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] - 1}))


def _widen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))


@pytest.mark.parametrize("damage", [_zero_a_tensor, _cut_the_file, _forget_a_layer, _widen])
@pytest.mark.parametrize("replacing", [False, True])
def test_damaged_copy_is_refused_and_removed(
    llama: LoadedModel,
    llama_corpus: Corpus,
    store: Store,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    replacing: bool,
) -> None:
    out.parent.mkdir()
    if replacing:
        export(llama, Mask.parse("2"), out, llama_corpus, store)
    before = {name: (out.parent / name).stat().st_mtime_ns for name in _left(out.parent)}
    inner = writing._write

    def damaged(plan, folder: Path, progress) -> None:
        inner(plan, folder, progress)
        damage(folder)

    monkeypatch.setattr(writing, "_write", damaged)
    with pytest.raises(ExportError):
        export(llama, Mask.parse("1"), out, llama_corpus, store, overwrite=replacing)
    assert {name: (out.parent / name).stat().st_mtime_ns for name in _left(out.parent)} == before


@pytest.mark.parametrize("stage", ["Writing weights", "Verifying", "Scoring"])
def test_cancelled_export_leaves_nothing(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path, stage: str
) -> None:
    out.parent.mkdir()

    def cancel(done: int, total: int, what: str) -> None:
        if what.startswith(stage):
            raise Cancelled

    with pytest.raises(Cancelled):
        export(llama, Mask.parse("1"), out, llama_corpus, store, progress=cancel)
    assert _left(out.parent) == []


def test_failing_disk_leaves_nothing(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.parent.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(planning, "write_shards", full)
    with pytest.raises(ExplorerError, match="No space left"):
        export(llama, Mask.parse("1"), out, llama_corpus, store)
    assert _left(out.parent) == []


def test_overwrite_replaces_the_whole_folder(llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path) -> None:
    export(llama, Mask.parse("2"), out, llama_corpus, store)
    (out / "model-00001-of-00002.safetensors").write_text("stale")
    with pytest.raises(ExportError, match="not empty"):
        export(llama, Mask.parse("0-1"), out, llama_corpus, store)
    export(llama, Mask.parse("0-1"), out, llama_corpus, store, overwrite=True)
    assert brute_force.plain(out).config.num_hidden_layers == 2
    assert not (out / "model-00001-of-00002.safetensors").exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_overwrite_spares_what_is_not_a_checkpoint(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path
) -> None:
    out.mkdir(parents=True)
    (out / "config.json").write_text("{}")
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(ExportError, match=r"more than a checkpoint: thesis\.txt"):
        export(llama, Mask.parse("0"), out, llama_corpus, store, overwrite=True)
    link = out.parent / "link"
    link.symlink_to(out)
    with pytest.raises(ExportError, match="is a link"):
        export(llama, Mask.parse("0"), link, llama_corpus, store, overwrite=True)
    assert (out / "thesis.txt").read_text() == "precious"
    assert sorted(path.name for path in out.parent.iterdir()) == ["link", "out"]


def test_empty_folder_is_a_target(llama: LoadedModel, llama_corpus: Corpus, store: Store, out: Path) -> None:
    out.mkdir(parents=True)
    assert export(llama, Mask.parse("0"), out, llama_corpus, store).out == out


def test_exported_checkpoint_loads_and_scores_alike(
    loaded: LoadedModel, corpus: Corpus, store: Store, out: Path
) -> None:
    mask = Mask.parse("0,a1")
    export(loaded, mask, out, corpus, store)
    (masked,) = score(loaded, corpus, [mask], store)
    again = load_folder(out)
    (reloaded,) = score(again, corpus, [Mask()], store)
    assert again.digest != loaded.digest
    np.testing.assert_allclose(reloaded.nll, masked.nll, rtol=1e-5)
    prompt = corpus.held_out.ids[0, :5].tolist()
    uncached = brute_force.greedy(brute_force.plain(out), prompt, WINDOW)
    cached = brute_force.plain(out).generate(
        torch.tensor([prompt]), max_new_tokens=WINDOW, do_sample=False, pad_token_id=0, top_k=None, top_p=None
    )
    assert cached[0, len(prompt) :].tolist() == uncached
