"""Recipes make the same export again; cards and hub: what leaves the machine says what it is, and only when asked."""

from __future__ import annotations

import ast
import fnmatch
import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

from explorer.checkpoints import Checkpoint
from explorer.cli import main
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export, write
from explorer.export.describe.card import draw_strip
from explorer.export.describe.commands import make_commands
from explorer.export.describe.provenance import Provenance, find_provenance
from explorer.export.describe.push import Destination
from explorer.export.describe.recipe import Recipe, read_recipe
from explorer.export.formats import FORMATS
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import FAMILIES as CONFIGS, WINDOW, Tiny, load_folder, make_model, save
from ui.export.format_choice import OFFERED

#: What recipes of the first format do not have.
LATER = ("modifiers", "deltas", "calibration", "calibration_tokens", "calibration_digest")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def _run(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["explorer", *words])
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def test_a_recipe_makes_the_same_export_again(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tools: dict[str, Any] = {"monkeypatch": monkeypatch, "capsys": capsys}
    model = ["--model", str(tiny.folder("gemma2")), "--tokens", str(2 * WINDOW), "--window", str(WINDOW)]
    rest = ["--device", "cpu", "--no-cache", "--json"]
    first, again, other = (str(tmp_path / name) for name in ("first", "again", "other"))
    options = ["--dtype", "float32", "--mask", "1,a2,m0", "--format", "pruned-remote-code"]
    code, out, _ = _run("export", *model, *options, "--out", first, *rest, **tools)
    assert code == 0
    recipe = f"{first}/recipe.json"
    code, repeated, _ = _run("export", "--recipe", recipe, "--out", again, *rest, **tools)
    assert code == 0
    answers = [json.loads(text) for text in (out, repeated)]
    assert answers[0]["measured"]["perplexity"] == answers[1]["measured"]["perplexity"]
    assert answers[0]["verify"] == answers[1]["verify"]
    for name in ("config.json", "model.safetensors", "modeling_pruned.py", "configuration_pruned.py"):
        assert Path(first, name).read_bytes() == Path(again, name).read_bytes()
    code, out, _ = _run("export", "--recipe", recipe, "--out", other, "--format", "recipe", *rest, **tools)
    assert code == 0
    assert json.loads(out)["verify"] is None
    assert sorted(path.name for path in Path(other).iterdir()) == ["README.md", "recipe.json"]
    Path(other, "recipe.json").write_text(json.dumps({**json.loads(Path(recipe).read_text()), "digest": "0" * 32}))
    for words, found in (
        (["--recipe", f"{other}/recipe.json"], "not the recipe's"),
        (["--recipe", recipe, "--mask", "2"], "mask of its own"),
        (["--recipe", f"{other}/nosuch.json"], "Cannot read the recipe"),
        (["--recipe", f"{first}/config.json"], "Not a recipe"),
        (["--recipe", f"{first}/model.safetensors"], "is not UTF-8"),
    ):
        code, out, err = _run("export", *words, "--out", f"{other}-2", *rest, **tools)
        assert (code, out) == (2, "")
        assert found in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("calibration", [[], ["wikitext2"]])
def test_a_recipe_makes_its_modifiers_again(
    llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    calibration: list[str],
) -> None:  # fmt: skip
    other = tmp_path / "text.txt"
    other.write_text("Another text, of which there is enough for a few windows. " * 20)
    names = [str(other)] if calibration else []
    corpus = llama.tokenize("python-docs", 2 * WINDOW, WINDOW, "auto", names, 3 * WINDOW if calibration else 0)
    specs = [ModifierSpec.parse(text) for text in ("refit", "linear;rank=2")]
    variant = modify(llama, corpus, Mask.parse("1,a2"), specs, Store(None))
    first, again = tmp_path / "first", tmp_path / "again"
    made = export(llama, variant, first, corpus, Store(None))
    assert made.command.split()[3:] == ["export", "--recipe", f"{first}/recipe.json", "--out", f"{first}-again"]
    words = ("--recipe", str(first / "recipe.json"), "--out", str(again), "--device", "cpu", "--no-cache", "--json")
    code, out, err = _run("export", *words, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, err
    assert json.loads(out)["modifiers"] == ["refit", "linear;rank=2"]
    for name in ("config.json", "model.safetensors", "modeling_pruned.py"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    recipes = [json.loads((folder / "recipe.json").read_text()) for folder in (first, again)]
    assert recipes[0]["deltas"] == recipes[1]["deltas"] == [delta.digest for delta in variant.deltas]
    assert recipes[0]["calibration"] == names
    with pytest.raises(ExportError, match="The calibration windows are not the recipe's"):
        read_recipe(first / "recipe.json").make(llama, llama.tokenize("python-docs", WINDOW, WINDOW), Store(None))


def test_deltas_fitted_on_different_windows_have_no_recipe(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    mask, spec = Mask.parse("1"), [ModifierSpec.parse("refit")]
    first = modify(llama, llama_corpus, mask, spec, store)
    other = llama.tokenize("python-docs", 2 * WINDOW, WINDOW)
    second = modify(llama, other, first, [ModifierSpec.parse("mean")], store)
    with pytest.raises(ExportError, match="fitted on different windows: refit on python-docs and mean on python-docs"):
        export(llama, second, tmp_path / "out", llama_corpus, store)
    assert not list(tmp_path.iterdir())
    alone = export(llama, first, tmp_path / "out", other, store)  # written beside another text than it was fitted on
    recipe = read_recipe(alone.out / "recipe.json")
    assert (recipe.tokens, recipe.calibration, recipe.calibration_tokens) == (48, ("python-docs",), 120)


def test_a_plan_is_carried(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    plan = {"method": "block influence", "step": 2}
    export(llama, Mask.parse("1"), tmp_path / "out", llama_corpus, store, plan=plan)
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["plan"] == plan
    assert '"method": "block influence"' in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, None),
        ({"plan": {"method": "x"}, "more": 1}, None),
        ({"recipe": 2}, None),
        ({"recipe": 3}, "Cannot read the recipe: it is of format 3, and this version reads up to 2"),
        ({"modifiers": "refit"}, "modifiers is 'refit'"),
        ({"calibration_tokens": "8"}, "calibration_tokens is '8'"),
        ({"recipe": "1"}, "recipe is '1'"),
        ({"tokens": True}, "tokens is True"),
        ({"window": "8"}, "window is '8'"),
        ({"plan": 3}, "plan is 3"),
        ({"trust_remote_code": 1}, "trust_remote_code is 1"),
    ],
)
def test_recipes_are_read_back_or_refused(tmp_path: Path, change: dict[str, Any], found: str | None) -> None:
    recipe = Recipe("m", "d", "1", "gguf", "t", 8, 4, "always", "float32", "none", False)
    path = tmp_path / "recipe.json"
    first = {name: value for name, value in asdict(recipe).items() if name not in LATER}
    path.write_text(json.dumps({"recipe": 1, **first, **change}))
    if found is None:
        assert read_recipe(path) == replace(recipe, plan=change.get("plan"))
        return
    with pytest.raises(ExportError, match=found):
        read_recipe(path)
    path.write_text("[]")
    with pytest.raises(ExportError, match="Not a recipe"):
        read_recipe(path)


def test_the_recipe_holds_what_was_measured(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    mask = Mask.parse("1,a2")
    made = export(llama, mask, tmp_path / "out", llama_corpus, store, format="pruned-remote-code")
    written = json.loads((tmp_path / "out" / "recipe.json").read_text())
    whole, pruned = score(llama, llama_corpus, [Mask(), mask], store)
    assert written["mask"] == "1,a2"
    assert written["digest"] == llama.digest
    assert written["measured"]["perplexity"] == {"before": whole.perplexity, "after": pruned.perplexity}
    assert written["measured"]["perplexity_ci95"]["after"] == list(pruned.perplexity_ci95 or ())
    layer = llama.model.model.layers[0]
    count = [sum(p.numel() for p in module.parameters()) for module in (llama.model, layer, layer.self_attn)]
    assert written["measured"]["parameters"] == {"before": count[0], "after": count[0] - count[1] - count[2]}
    assert written["measured"]["tokens_per_second"]["after"] > 0
    assert written["measured"]["verify"]["perplexity_reloaded"] == made.verification.perplexity_reloaded


def test_the_strip_shows_what_is_left() -> None:
    assert draw_strip(Mask.parse("1,a3,m11"), 12) == [
        "layer     0         10",
        "attention █·█·████████",
        "MLP       █·█████████·",
    ]


def test_the_licence_is_carried_and_names_are_no_markup(store: Store, tmp_path: Path) -> None:
    source = save(make_model(CONFIGS["llama"]()), tmp_path / "a`<b>[x](y)")
    (source / "README.md").write_text("---\nlicense: mit\ntags: [x]\n---\n# Mine\n")
    (source / "LICENSE").write_text("Do as you like.")
    loaded = load_folder(source)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    out = tmp_path / "out"
    export(loaded, Mask.parse("1"), out, corpus, store)
    assert (out / "LICENSE").read_text() == "Do as you like."
    card = (out / "README.md").read_text()
    assert "\nlicense: mit\n" in card
    assert "# `a'<b>[x](y)`, pruned" in card
    assert "base_model" not in card


def test_the_card_can_be_read_by_machines(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Provenance("org/no: #1", "abc", "no")
    monkeypatch.setattr(write, "find_provenance", lambda checkpoint: origin)
    mask = Mask.parse("1")
    export(llama, mask, tmp_path / "out", llama_corpus, store)
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.base_model, data.license, data.tags) == (origin.base, origin.license, ["pruned"])
    assert data.library_name == "transformers"
    whole, pruned = score(llama, llama_corpus, [Mask(), mask], store)
    assert {result.metric_name: result.metric_value for result in data.eval_results} == {
        "Perplexity before pruning": whole.perplexity,
        "Perplexity after pruning": pruned.perplexity,
    }
    assert {(result.metric_type, result.dataset_name) for result in data.eval_results} == {
        ("perplexity", llama_corpus.name)
    }


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\r\ntags: [x]\r\nlicense: 'apache-2.0'  # so\r\n---\r\n# Mine", "apache-2.0"),
        ("---\nlicense: mit\nmodel-index: 3\nself: 1\n---\n", None),
        ("---\nlicense: mit\nmodel-index: 3\n---\n", "mit"),
        ("---\nlicense:\n- mit\n---\n", None),
        ("---\nlicense: no\n---\n", None),
        ("---\nlicense: two words\n---\n", None),
        ("---\nlicense: mit\nx: [\n---\n", None),
        ("---\nlicense: mit\nx: 2024-99-99\n---\n", None),
        ("---\n- license: mit\n---\n", None),
        ("---\nx: " + "[" * 9999 + "\n---\n", None),
        ("---\na: &a {x: 1}\nb: {<<: [*a, *a]}\nlicense: mit\n---\n", None),
        ("# license: mit\n", None),
        ("", None),
    ],
)
def test_a_licence_is_read_or_there_is_none(tmp_path: Path, card: str, found: str | None) -> None:
    (tmp_path / "README.md").write_text(card, newline="")
    assert find_provenance(Checkpoint("x", tmp_path)).license == found


def test_every_format_has_a_purpose_and_commands_that_name_the_folder() -> None:
    assert set(OFFERED) == set(FORMATS)
    folder = '/a b/it\'s "here"'
    for target in FORMATS.values():
        for language, code in make_commands(target, folder):
            if language == "python":
                texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
                assert any(str(text).startswith(folder) for text in texts)
            else:
                words = shlex.split(code)
                words += [json.loads(word)["model"] for word in words if word.startswith("{")]
                assert any(word.startswith(folder) for word in words)


class FakeHub:
    """Stands for the hub's client: keeps what it was told."""

    endpoint = "https://hub.invalid"

    def __init__(self) -> None:
        self.public: set[str] = set()
        self.calls: list[tuple[str, Any]] = []
        self.known = True

    def whoami(self) -> dict[str, str]:
        if not self.known:
            raise LocalTokenNotFoundError("Token is required, but no token found.\nMore.")
        return {"name": "me"}

    def repo_info(self, repository: str) -> Any:
        if repository not in self.public:
            response = httpx.Response(404, request=httpx.Request("GET", self.endpoint))
            raise RepositoryNotFoundError("404", response=response)
        return SimpleNamespace(private=False)

    def create_repo(self, repository: str, **options: Any) -> None:
        self.calls.append(("create", (repository, options)))

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]
    ) -> None:
        assert "model.safetensors" in fnmatch.filter(["model.safetensors", "README.md"], delete_patterns[0])
        assert not any(fnmatch.filter(["README.md", ".gitattributes", "config.json"], each) for each in delete_patterns)
        self.calls.append(("upload", (repo_id, sorted(path.name for path in Path(folder_path).iterdir()))))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    return made


def test_uploads_are_private_unless_told_otherwise(
    hub: FakeHub, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--model", str(tiny.folder("llama")), "--tokens", "48", "--window", "24", "--device", "cpu"]
    words += ["--no-cache", "--mask", "1", "--json"]
    for number, more in enumerate(([], ["--push-to-hub", "me/pruned"], ["--push-to-hub", "me/pruned", "--public"])):
        out = tmp_path / str(number)
        code, answer, _ = _run(*words, "--out", str(out), *more, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0
        assert json.loads(answer)["hub"] == ("https://hub.invalid/me/pruned" if more else None)
        files = sorted(path.name for path in out.iterdir())
        expected = [
            ("create", ("me/pruned", {"private": len(more) == 2, "exist_ok": True})),
            ("upload", ("me/pruned", files)),
        ]
        assert hub.calls == (expected if more else [])
        hub.calls.clear()


def test_the_hub_is_asked_before_anything_is_written(hub: FakeHub) -> None:
    with pytest.raises(ExportError, match="Not a name on the hub"):
        Destination("no//name")
    hub.public.add("me/open")
    with pytest.raises(ExportError, match="is public"):
        Destination("me/open")
    Destination("me/open", public=True)
    hub.known = False
    with pytest.raises(ExportError, match="Cannot log in"):
        Destination("me/pruned")
    assert hub.calls == []


def test_a_failed_upload_is_one_line(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise OSError("the network is gone\nand more")

    monkeypatch.setattr(hub, "upload_folder", fail)
    with pytest.raises(ExportError, match=r"the network is gone and more\)\. The folder that was written is whole"):
        Destination("me/pruned").upload(tmp_path)
