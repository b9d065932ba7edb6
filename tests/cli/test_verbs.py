"""The verbs that measure and plan: their JSON, plan files in place of masks, and bad input in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.cli import main
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.evaluation.token_rate import TokenRate
from explorer.masks.mask import Mask
from explorer.measures.catalogue import MEASURES
from explorer.plans.plan import Plan
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny

Command = Callable[..., Any]


@pytest.fixture
def plan_file(run: Command, tmp_path: Path) -> Path:
    run("plan", "--method", "block-influence", "--unit", "site", "--steps", "4", "--out", str(tmp_path / "plan.json"))
    return tmp_path / "plan.json"


@pytest.mark.parametrize(
    "words",
    [("score", "--mask", "1,a2"), ("measure",), ("info", "--mask", "a1"), ("interactions",)],
    ids=lambda words: words[0],
)
def test_a_streamed_model_gives_the_same_answers(run: Command, words: tuple[str, ...]) -> None:
    assert run(*words, "--no-cache", "--stream") == run(*words, "--no-cache")


def test_a_streamed_model_is_exported_and_does_not_write(run: Command, tmp_path: Path) -> None:
    answer = run("export", "--mask", "1", "--out", str(tmp_path / "out"), "--stream")
    assert answer["verify"]["perplexity_masked"] == answer["verify"]["perplexity_reloaded"]
    assert answer["measured"]["tokens_per_second"] == {"before": None, "after": None}
    assert "does not write" in run("generate", "--prompt", "Once", "--stream", bad=True)
    assert "does not write" in run("compare", "--plans", "deepest", "--decode-speed", "--stream", bad=True)
    assert "Quantized weights" in run("score", "--quantize", "int8", "--stream", bad=True)


def test_plan(run: Command, tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "greedy.json"
    answer = run("plan", "--method", "greedy", "--steps", "2", "--out", str(out))
    assert (answer["method"], answer["unit"], answer["layers"]) == ("greedy", "site", 4)
    assert [step["mask"] for step in answer["steps"]] == [str(mask) for mask in Plan.load(out).masks]
    assert answer["order"][0] == answer["steps"][1]["mask"]
    assert answer["cost"]["layer_evaluations"] > 0
    assert json.loads(out.read_text()) == answer
    llama = tiny.load("llama")
    corpus = llama.tokenize("python-docs", 4 * WINDOW, WINDOW)
    for step in answer["steps"]:
        (found,) = score(llama, corpus, [Mask.parse(step["mask"])], Store(None))
        assert step["perplexity"] == pytest.approx(found.perplexity, rel=1e-5)  # of held-out windows
        assert step["parameters"] > 0
    again = run("plan", "--method", "greedy", "--steps", "2")
    assert again["cost"] == answer["cost"]


def test_a_budget_of_seconds_is_checked(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(loaded: Any, masks: Any, progress: Any) -> list[TokenRate]:
        """A token takes 12 seconds, of which each site has one."""
        rates = [1 / (12 - len(mask.sites)) for mask in masks]
        return [TokenRate(rate, (0.9 * rate, 1.1 * rate)) for rate in rates]

    monkeypatch.setattr(decode_speed, "measure_decode_speed", take)
    monkeypatch.setattr("explorer.evaluation.measure_decode_speed", take)
    answer = run("plan", "--method", "deepest", "--budget", "decode=80%")
    assert [step["mask"] for step in answer["steps"]] == ["none", "2", "1-2"]
    assert answer["decode"]["share"] == pytest.approx(8 / 12)
    assert answer["decode"]["share_ci95"] == pytest.approx([8 / 12 * 0.9 / 1.1, 8 / 12 * 1.1 / 0.9])


def test_budgets_and_options_reach_the_plan(run: Command) -> None:
    answer = run("plan", "--method", "random", "--seed", "5", "--budget", "parameters=20%", "--protect", "0, 3")
    assert answer["plan"] == "random/layer;protect=0,3;seed=5;budget=parameters=20%"
    parameters = [step["parameters"] for step in answer["steps"]]
    assert parameters[-1] <= 0.8 * parameters[0] < parameters[-2]
    assert Mask.parse(answer["steps"][-1]["mask"]).whole_layers <= {1, 2}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--method", "nosuch"], "nosuch"),
        (["--method", "deepest", "--unit", "site"], "'site'"),
        (["--method", "deepest", "--iterative"], "iterative"),
        (["--budget", "layers"], "budget"),
        (["--unit", "mlp", "--budget", "kv=10%"], "cannot be met"),
        (["--protect", "0-3"], "protected"),
        (["--protect", "x"], "'x'"),
        (["--steps", "-1"], "steps -1"),
        (["--method", "greedy", "--confidence", "2"], "confidence 2"),
        (["--method", "greedy", "--criterion", "bleu"], "bleu"),
        (["--out", "nosuch/plan.json", "--steps", "1"], "Cannot write the plan"),
    ],
)
def test_bad_plans_are_one_line(run: Command, words: list[str], found: str) -> None:
    assert found in run("plan", *words, bad=True)


def test_a_plan_file_stands_for_a_mask(run: Command, plan_file: Path, tmp_path: Path) -> None:
    plan, chosen = Plan.load(plan_file), ["--plan", str(plan_file), "--step", "3"]
    mask = str(plan.at(3))
    assert mask != "none"
    by_plan, by_mask = run("score", *chosen), run("score", "--mask", mask)
    assert by_plan["scores"] == by_mask["scores"]
    assert [entry["mask"] for entry in by_plan["scores"]] == ["none", mask]
    prompt = ["--prompt", "The quick", "--max-new-tokens", "4"]
    written = run("generate", *chosen, *prompt)
    assert (written["mask"], written["text"]) == (mask, run("generate", "--mask", mask, *prompt)["text"])
    answer = run("export", *chosen, "--out", str(tmp_path / "out"))
    assert answer["mask"] == mask
    assert answer["verify"]["max_abs_logit_difference"] < 1e-3


def test_what_is_wrong_is_said_before_anything_is_measured(
    run: Command, plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("measured")

    for name in (
        "explorer.plans.make.make_plan",
        "explorer.measures.measure.measure_importance",
        "explorer.measures.similarity.measure_similarity",
    ):
        monkeypatch.setattr(name, never)
    assert "Unknown method" in run("compare", "--plans", "greedy/site", "--plans", "blok-influence", bad=True)
    assert "Unknown measure" in run("measure", "--measures", "block-influence,typo", bad=True)
    assert "Cannot write the plan" in run("plan", "--out", str(tmp_path / "none" / "plan.json"), bad=True)
    other = json.loads(plan_file.read_text()) | {"layers": 9}
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert "another model" in run("compare", "--plans", "greedy", "--plans", str(tmp_path / "other.json"), bad=True)


def test_a_plan_wants_a_step(run: Command, plan_file: Path, tmp_path: Path) -> None:
    for words in (["score"], ["generate", "--prompt", "a"], ["export", "--out", str(tmp_path / "out")]):
        assert "No step of the plan" in run(*words, "--plan", str(plan_file), bad=True)
    assert [s["mask"] for s in run("score", "--plan", str(plan_file), "--step", "0")["scores"]] == ["none"]


@pytest.mark.parametrize("words", [["info", "--model"], ["corpus", "--text"], ["export", "--mask", "9", "--out"]])
def test_no_such_user_is_one_line(run: Command, words: list[str]) -> None:
    run(*words, "~nobody-of-that-name/x", bad=True)


def test_texts_side_by_side_for_people(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("Some other words, again and again. " * 200)
    size = ["--window", str(WINDOW), "--tokens", str(2 * WINDOW), "--cache", str(tmp_path / "cache")]
    words = ["measure", "--model", str(tiny.folder("llama")), *size, "--texts", "python-docs", "--texts", str(other)]
    monkeypatch.setattr(sys, "argv", ["explorer", *words])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert [lines.count("python-docs"), lines.count(str(other))] == [1, 1]
    assert sum(line.lstrip().startswith("0 ") for line in lines) == 2
    assert lines[lines.index("Spearman's rank correlation with python-docs") + 1].startswith("block-influence layer: ")


def test_bad_plan_files_are_one_line(run: Command, plan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"steps": []}')
    prompt, out = ["--prompt", "a"], ["--out", str(tmp_path / "out")]
    for verb, words in (("score", []), ("generate", prompt), ("export", out)):
        assert "Not a plan" in run(verb, *words, "--plan", str(tmp_path / "bad.json"), bad=True)
        assert "Cannot read" in run(verb, *words, "--plan", str(tmp_path / "nosuch.json"), bad=True)
        assert "step 9 of 4" in run(verb, *words, "--plan", str(plan_file), "--step", "9", bad=True)
        other = run(verb, *words, "--plan", str(plan_file), bad=True, family="qwen3")
        assert "4 layers; this one has 6" in other
        assert "--step 1" in run(verb, *words, "--step", "1", bad=True)
    assert "Both" in run("generate", *prompt, "--plan", str(plan_file), "--mask", "1", bad=True)
    assert "this one has 6" in run("compare", "--plans", str(plan_file), bad=True, family="qwen3")


def test_compare(run: Command, plan_file: Path) -> None:
    names = ["deepest/layer", "similarity-block/layer", "greedy/site;steps=2"]
    words = [word for name in (*names, str(plan_file)) for word in ("--plans", name)]
    answer = run("compare", *words, "--fractions", "25,50%")
    assert answer["fractions"] == [0.25, 0.5]
    assert [row["plan"] for row in answer["plans"]] == [*names, "block-influence/site;steps=4"]
    for row in answer["plans"]:
        assert set(row["cost"]) == {"layer_evaluations", "seconds"}
        for share, step in zip(answer["fractions"], row["steps"], strict=True):
            if step is None:
                assert (row["plan"], share) == ("greedy/site;steps=2", 0.5)
                continue
            assert len(Mask.parse(step["mask"]).sites) == 8 * share
            assert 0 <= step["top1_agreement"] <= 1
            assert step["kl"] > 0
            assert {
                "perplexity",
                "perplexity_ci95",
                "kl_ci95",
                "logit_l2",
                "parameters",
                "kv_bytes_per_token",
            } < set(step)
    assert answer["plans"][0]["steps"][0]["mask"] == "2"
    for fractions in ("0", "101", "x", "", "nan"):
        assert "fractions" in run("compare", "--fractions", fractions, bad=True)
    assert "nosuch" in run("compare", "--plans", "nosuch", bad=True)


def test_measure_several_texts(run: Command, tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("All happy families are alike; each unhappy family is unhappy in its own way. " * 40)
    names = ["block-influence", "loss", "replaceability", "magnitude"]
    words = ["--measures", ",".join(names), "--bootstrap", "50"]
    answer = run("measure", *words, "--texts", "python-docs", "--texts", str(text))
    assert [entry["corpus"]["name"] for entry in answer["texts"]] == ["python-docs", str(text)]
    assert list(answer["measures"]) == names
    for entry in answer["texts"]:
        for name in names:
            for unit, found in entry["measures"][name].items():
                values, intervals = np.array(found["values"]), found["ci95"]
                assert sorted(found["order"]) == [0, 1, 2, 3]
                first = values.argmax() if MEASURES[name].redundant == "high" else values.argmin()
                assert found["order"][0] == first
                assert (intervals is None) == (name == "magnitude"), unit
                if intervals is not None:
                    assert all(low <= high for low, high in intervals)
                    assert sum(found["rank_stability"]["share"]) == pytest.approx(found["rank_stability"]["k"])
    assert answer["texts"][0]["measures"] != answer["texts"][1]["measures"]
    agreement = answer["agreement"]["magnitude"]["mlp"]
    np.testing.assert_allclose(agreement["spearman"], np.ones((2, 2)))
    np.testing.assert_allclose(agreement["kendall"], np.ones((2, 2)))
    single = run("measure", *words)
    assert single["measures"] == answer["texts"][0]["measures"]
    assert "texts" not in single
    assert "'nosuch'" in run("measure", "--measures", "loss,nosuch", bad=True)
    assert "--texts" in run("measure", "--texts", bad=True)
    assert "bootstrap" in run("measure", "--bootstrap", "1", bad=True)


def test_interactions(run: Command, tiny: Tiny) -> None:
    answer = run("interactions", "--unit", "site")
    assert answer["units"] == ["a0", "m0", "a1", "m1", "a2", "m2", "a3", "m3"]
    assert len(answer["leave_one_out"]) == 8
    assert [answer["pairs"][k][k] for k in range(8)] == [None] * 8
    folder = tiny.folder("llama")
    corpus = tiny.load("llama").tokenize("python-docs", 4 * WINDOW, WINDOW)
    nll = {
        mask: brute_force.perplexity(brute_force.zeroed(folder, Mask.parse(mask)), corpus.calibration.ids)
        for mask in ("none", "a1", "m2", "a1,m2")
    }
    logs = {mask: float(np.log(value)) for mask, value in nll.items()}
    expected = logs["a1,m2"] - logs["a1"] - logs["m2"] + logs["none"]
    assert answer["pairs"][2][5] == answer["pairs"][5][2] == pytest.approx(expected, abs=1e-4)
    assert answer["leave_one_out"][2] == pytest.approx(logs["a1"] - logs["none"], abs=1e-4)
    assert "layer or site" in run("interactions", "--unit", "head", bad=True)


def test_an_option_is_given_once_for_each_word(run: Command) -> None:
    for verb, option in (("measure", "--texts"), ("compare", "--plans")):
        told = run(verb, option, "a", "b", "c", bad=True)
        assert told.rstrip().endswith(f"(b c): give {option} again before each word, as in {option} A {option} B")
    assert "unexpected extra argument" in run("score", "a", bad=True)
    assert "--texts" in run("measure", "--texts", bad=True)
