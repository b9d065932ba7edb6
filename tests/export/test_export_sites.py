"""Formats that leave out single attention and MLPs: what transformers loads is the masked model."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, dynamic_module_utils

from explorer.checkpoints.spec import ModelSpec
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export, plan_export
from explorer.masks.mask import Mask, Site
from explorer.model.loading import LoadedModel, load
from explorer.model.parameter_counts import count_parameters
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, load_folder, make_model, save
from tests.support.wide_models import WIDE


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


@pytest.fixture(scope="session", params=list(WIDE))
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A tiny model of each family that maps to nemotron-nas."""
    return load_folder(save(make_model(WIDE[request.param]()), tmp_path_factory.mktemp("wide") / request.param))


def _masks(n_layers: int) -> list[Mask]:
    last = n_layers - 1
    texts = ("0", f"{last}", f"a0-{last}", f"m{last},a1", f"0,a1,m{last}", "1,a0,m2", f"a0,m1-{last}")
    return [Mask.parse(text) for text in texts]


def _reload(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()


@torch.no_grad()
def _generate(model: Any, ids: torch.Tensor, steps: int, cached: bool) -> list[int]:
    options = {"use_cache": cached, "do_sample": False, "min_new_tokens": steps, "max_new_tokens": steps}
    return model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **options)[0].tolist()


def _check(loaded: LoadedModel, corpus: Corpus, store: Store, mask: Mask, format: str, out: Path) -> None:
    made = export(loaded, mask, out, corpus, store, format=format)
    zeroed = brute_force.zeroed(loaded.checkpoint.folder, mask)
    expected = brute_force.logits(zeroed, corpus.held_out.ids)
    close = {"rtol": 0, "atol": 1e-5 * float(expected.abs().max())}
    reloaded = _reload(out)
    found = brute_force.logits(reloaded, corpus.held_out.ids)
    torch.testing.assert_close(found, expected, **close)
    assert made.verification.max_abs_logit_difference <= close["atol"]
    prompt = torch.from_numpy(corpus.held_out.ids[:1, :5])
    written = _generate(reloaded, prompt, WINDOW, True)
    assert written == _generate(reloaded, prompt, WINDOW, False)
    assert written == _generate(zeroed, prompt, WINDOW, True)


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_deci_is_the_masked_model(wide: LoadedModel, store: Store, tmp_path: Path) -> None:
    corpus = wide.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for mask in _masks(wide.n_layers):
        out = tmp_path / str(mask)
        _check(wide, corpus, store, mask, "deci", out)
        config = json.loads((out / "config.json").read_text())
        kept = [layer for layer in range(4) if layer not in mask.whole_layers]
        first = Site(kept[0], "attention")
        assert config["model_type"] == "nemotron-nas"
        assert config["architectures"] == ["DeciLMForCausalLM"]
        for layer, block in zip(kept, config["block_configs"], strict=True):
            off = [site in mask.sites and site != first for site in (Site(layer, "attention"), Site(layer, "mlp"))]
            assert [block["attention"]["no_op"], block["ffn"]["no_op"]] == off
            assert off[1] or _read_width(block["ffn"], 32) == 256
        assert not config["block_configs"][0]["attention"]["no_op"]
        blocks = AutoConfig.from_pretrained(out, trust_remote_code=True).block_configs  # as vLLM reads them
        assert [block.ffn.no_op for block in blocks] == [block["ffn"]["no_op"] for block in config["block_configs"]]


def _read_width(ffn: dict[str, Any], hidden: int) -> int:
    """Width of an MLP as vLLM reads it."""
    if "ffn_mult" not in ffn:
        return ffn["intermediate_size"]
    width = int(2 * ffn["ffn_mult"] * hidden / 3)
    return width + -width % 256


@pytest.mark.parametrize(
    ("change", "refusing"),
    [
        ({"intermediate_size": 48}, ["sglang", "mlx_lm"]),
        ({"head_dim": 16}, ["mlx_lm"]),
        ({"intermediate_size": 48, "head_dim": 16}, ["sglang", "mlx_lm"]),
        ({}, []),
    ],
)
def test_deci_of_other_widths_says_who_does_not_load_it(
    store: Store, tmp_path: Path, change: dict[str, int], refusing: list[str]
) -> None:
    config = WIDE["llama"]()
    for name, value in change.items():
        setattr(config, name, value)
    loaded = load_folder(save(make_model(config), tmp_path / "source"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    out = tmp_path / "out"
    _check(loaded, corpus, store, Mask.parse("0,a1,m2"), "deci", out)
    written = json.loads((out / "config.json").read_text())
    assert written["head_dim"] == config.head_dim
    for block in written["block_configs"]:
        assert block["ffn"]["no_op"] or _read_width(block["ffn"], 32) == config.intermediate_size
        assert block["ffn"].get("hidden_act", "silu") == "silu"
    card = (out / "README.md").read_text()
    for program, command in (("sglang", "python -m sglang.launch_server"), ("mlx_lm", "mlx_lm.generate")):
        assert (f"{program} does not load it: " in card) == (program in refusing)
        assert (command in card) == (program not in refusing)
    assert "vllm serve . --trust-remote-code" in card


@pytest.mark.parametrize("format", ["deci", "pruned-remote-code"])
def test_the_tokenizer_is_found_without_running_code(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    source = save(make_model(WIDE["llama"]()), tmp_path / "source")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    del settings["tokenizer_class"]
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded, out = load_folder(source), tmp_path / "out"
    out.mkdir()
    plan_export(loaded, Mask.parse("a1"), format).write(out, lambda size: None)
    written = json.loads((out / "tokenizer_config.json").read_text())
    assert written == settings | {"tokenizer_class": type(loaded.tokenizer).__name__}
    monkeypatch.setattr(dynamic_module_utils, "get_class_in_module", None)  # whoever runs code calls this
    found = AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    assert type(found) is type(loaded.tokenizer)
    assert found("the cat sat").input_ids == loaded.tokenizer("the cat sat").input_ids


def test_remote_code_is_the_masked_model(loaded: LoadedModel, corpus: Corpus, store: Store, tmp_path: Path) -> None:
    for mask in _masks(loaded.n_layers):
        _check(loaded, corpus, store, mask, "pruned-remote-code", tmp_path / str(mask))
    _check_without_head(loaded, corpus, mask, tmp_path / str(mask))


@torch.no_grad()
def _check_without_head(loaded: LoadedModel, corpus: Corpus, mask: Mask, folder: Path) -> None:
    """What vLLM and SGLang make of the config has the masked model's last states, and takes attention of their own."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert list(config.auto_map) == ["AutoConfig", "AutoModel", "AutoModelForCausalLM"]  # vLLM wants the config first
    made = AutoModel.from_config(config, trust_remote_code=True)
    read, report = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert made.state_dict().keys() == read.state_dict().keys()
    assert not report["missing_keys"]
    assert type(made).is_backend_compatible() == type(loaded.model.base_model).is_backend_compatible()
    before, after = map(_find_attending, (loaded.model, made))
    assert before != list(range(loaded.n_layers)) or after == list(range(config.num_hidden_layers))
    ids = torch.from_numpy(corpus.held_out.ids)
    expected = brute_force.zeroed(loaded.checkpoint.folder, mask).base_model(ids, use_cache=False).last_hidden_state
    found = read.float().eval()(ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def _find_attending(model: Any) -> list[int]:
    """Return the layers in which vLLM finds attention: by the source of a module's forward."""
    sources = ((module, inspect.getsource(type(module).forward)) for module in model.modules())
    return sorted(module.layer_idx for module, source in sources if "= ALL_ATTENTION_FUNCTIONS" in source)


@pytest.mark.parametrize("more", ["m1", "a0", "none"])
def test_pruned_loaded_and_pruned_again(
    loaded: LoadedModel, corpus: Corpus, store: Store, tmp_path: Path, more: str
) -> None:
    _check_again(loaded, corpus, store, ("pruned-remote-code",) * 2, more, tmp_path)


@pytest.mark.parametrize("formats", [("deci", "deci"), ("pruned-remote-code", "deci")])
@pytest.mark.parametrize("more", ["m1", "none"])
def test_pruned_as_deci_loaded_and_pruned_again(
    wide: LoadedModel, store: Store, tmp_path: Path, formats: tuple[str, str], more: str
) -> None:
    _check_again(wide, wide.tokenize("python-docs", 2 * WINDOW, WINDOW), store, formats, more, tmp_path)


def _check_again(
    loaded: LoadedModel, corpus: Corpus, store: Store, formats: tuple[str, str], more: str, folder: Path
) -> None:
    """Pruned, loaded and pruned further is what is pruned at once, in scores, costs and logits."""
    first, later = Mask.parse("0,a2"), {"m1": "0,2", "a0": "0,a1-2", "none": "0,a2"}[more]
    export(loaded, first, folder / "first", corpus, store, format=formats[0])
    spec = ModelSpec(str(folder / "first"), "float32", "cpu", trust_remote_code=True)
    again = load(spec, store, folder / "cache")
    nll, costs = [], []
    for each, mask in ((loaded, Mask.parse(later)), (again, Mask.parse(more))):
        nll.append(score(each, corpus, [mask], store)[0].nll)
        costs.append(count_parameters(each.model, each.architecture).costs(mask, WINDOW))
    np.testing.assert_allclose(*nll, rtol=1e-5)
    assert costs[0].kv_bytes_per_token == costs[1].kv_bytes_per_token
    if formats[0] == "pruned-remote-code" and more != "m1":  # else norms make a difference
        assert costs[0] == costs[1]
    assert again.absent == Mask.parse("a1")
    gone = make_plan(again, corpus, PlanSpec("random", "attention"), store).masks[-1]
    assert not gone.sites & again.absent.sites  # it cannot go again
    export(again, Mask.parse(more), folder / "second", corpus, store, format=formats[1])
    expected = brute_force.logits(brute_force.zeroed(loaded.checkpoint.folder, Mask.parse(later)), corpus.held_out.ids)
    found = brute_force.logits(_reload(folder / "second"), corpus.held_out.ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    with pytest.raises(ExportError, match=f"The model is a pruned one: it lacks a1. Use --format {formats[0]}"):
        plan_export(again, Mask.parse(more), "transformers")
    assert plan_export(again, Mask.parse(more)).format.name == formats[0]


def test_what_is_off_is_not_in_the_files(wide: LoadedModel, store: Store, tmp_path: Path) -> None:
    corpus = wide.tokenize("python-docs", 2 * WINDOW, WINDOW)
    layer = wide.model.model.layers[1]
    without = _count(layer.self_attn) + _count(layer.mlp)
    for format, norms in (("deci", 2 * 32), ("pruned-remote-code", 0)):
        out = tmp_path / format
        export(wide, Mask.parse("a1,m2"), out, corpus, store, format=format)
        added = 3 * 32 if format == "deci" and wide.config.model_type == "qwen2" else 0  # zeros for the output's bias
        assert _count(_reload(out)) == _count(brute_force.plain(wide.checkpoint.folder)) - without - norms + added


def test_saved_again_it_is_the_same(wide: LoadedModel, store: Store, tmp_path: Path) -> None:
    corpus = wide.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for format in ("deci", "pruned-remote-code"):
        out, again = tmp_path / format, tmp_path / f"{format}-again"
        export(wide, Mask.parse("2,a1,m3"), out, corpus, store, format=format)
        reloaded = _reload(out)
        reloaded.save_pretrained(again)
        expected = brute_force.logits(reloaded, corpus.held_out.ids)
        assert torch.equal(brute_force.logits(_reload(again), corpus.held_out.ids), expected)
        tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=True)
        assert tokenizer("the cat").input_ids == wide.tokenizer("the cat").input_ids


def test_what_is_off_learns_nothing_and_the_rest_does(wide: LoadedModel, store: Store, tmp_path: Path) -> None:
    corpus = wide.tokenize("python-docs", 2 * WINDOW, WINDOW)
    export(wide, Mask.parse("a1,m2"), tmp_path / "out", corpus, store, format="deci")
    model = _reload(tmp_path / "out").train()
    ids = torch.from_numpy(corpus.held_out.ids)
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_no_code_is_run_unless_it_is_trusted(wide: LoadedModel, store: Store, tmp_path: Path) -> None:
    corpus = wide.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for format in ("deci", "pruned-remote-code"):
        export(wide, Mask.parse("a1"), tmp_path / format, corpus, store, format=format)
        with pytest.raises(ValueError, match=r"nemotron-nas|pruned-|trust_remote_code"):
            AutoModelForCausalLM.from_pretrained(tmp_path / format, trust_remote_code=False)


def test_models_that_do_not_map_are_refused(tiny: Any, store: Store, tmp_path: Path) -> None:
    for family, found in (
        ("mistral", "sliding window of 8"),
        ("qwen2", "sliding window of 8"),
        ("gpt2", "its type is gpt2"),
    ):
        with pytest.raises(ExportError, match=found):
            plan_export(tiny.load(family), Mask.parse("a1"), "deci")


@pytest.mark.parametrize("format", ["transformers", "nosuch"])
def test_formats_that_cannot_hold_the_mask_are_refused(llama: LoadedModel, format: str) -> None:
    with pytest.raises(ExportError, match="Use "):
        plan_export(llama, Mask.parse("1,a2"), format)


def test_sharded_sources(tmp_path: Path, store: Store) -> None:
    source = save(make_model(WIDE["qwen2"]()), tmp_path / "source", max_shard_size="60KB")
    loaded = load_folder(source)
    assert len(loaded.checkpoint.weights) > 2
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for format in ("deci", "pruned-remote-code"):
        _check(loaded, corpus, store, Mask.parse("3,a0-1,m2"), format, tmp_path / format)
