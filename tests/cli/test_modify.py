"""modify and --modify on the command line: their JSON, files of deltas, and bad input in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.deltas.delta_file import read_delta
from explorer.deltas.variant import Variant
from explorer.masks.mask import Mask
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny

Command = Callable[..., Any]


def test_what_was_made_and_what_it_wins_back(run: Command, tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    answer = run("modify", "--mask", "2", "--modify", "mean", "--out", str(out))
    assert answer["variant"] == "2 + mean"
    (made,) = answer["deltas"]
    assert made["tensors"] == {"stand_ins.2.bias": [32]}
    assert (made["parameters_added"], made["tokens"], made["text"]) == (32, 4 * WINDOW, "python-docs")
    assert 0 < made["forwards"] <= 1
    delta = read_delta(out)
    assert delta.digest == made["digest"]
    assert answer["out"] == [str(out)]
    ids = np.array(run("corpus")["held_out"])
    model = brute_force.modified(tiny.folder("llama"), Variant(Mask.parse("2"), (delta,)))
    scores = answer["scores"]
    assert scores["modified"]["window_nll"] == pytest.approx(list(brute_force.window_nll(model, ids)), rel=1e-5)
    assert scores["pruned"]["variant"] == "2"
    assert scores["baseline"]["mask"] == "none"
    lost, won = (scores["pruned"]["nll"] - scores[name]["nll"] for name in ("baseline", "modified"))
    assert answer["recovered"] == pytest.approx(won / lost)
    low, high = answer["recovered_ci95"]
    assert low < answer["recovered"] < high


def test_a_file_is_what_made_it(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "linear.safetensors"
    made = run("modify", "--mask", "2", "--modify", "linear;rank=4", "--out", str(out))
    by_file, by_name = (run("score", "--mask", "2", "--modify", given) for given in (str(out), "linear,rank=4"))
    assert by_file == by_name
    assert [each["variant"] for each in by_file["scores"]] == ["none", "2", "2 + linear;rank=4"]
    assert by_file["scores"][2]["nll"] == made["scores"]["modified"]["nll"]


def test_several_are_made_one_over_the_other(run: Command, tmp_path: Path) -> None:
    out = tmp_path / "both.safetensors"
    answer = run("modify", "--mask", "2,a1", "--modify", "mean", "--modify", "linear", "--out", str(out))
    assert answer["variant"] == "2,a1 + mean + linear"
    assert answer["out"] == [str(out), str(tmp_path / "both-2.safetensors")]
    again = run("score", "--mask", "2,a1", *(word for path in answer["out"] for word in ("--modify", path)))
    assert again["scores"][2]["nll"] == answer["scores"]["modified"]["nll"]


def test_another_text_is_fitted_to_and_another_judged_by(run: Command, tmp_path: Path) -> None:
    texts = [tmp_path / f"{name}.txt" for name in "ab"]
    for number, path in enumerate(texts):
        path.write_text(" ".join(str(number + i * i) for i in range(600)))
    given = ["--calibration", str(texts[0]), "--calibration", "python-docs@3", "--calibration-tokens", str(8 * WINDOW)]
    answer = run("modify", "--mask", "2", "--modify", "mean", *given, "--texts", str(texts[1]))
    assert answer["corpus"]["calibration"]["name"] == f"{texts[0]}@1 + python-docs@3"
    assert answer["deltas"][0]["tokens"] == 8 * WINDOW
    (other,) = answer["texts"]
    assert other["corpus"]["name"] == str(texts[1])
    assert other["scores"]["modified"]["variant"] == "2 + mean"
    alone = run("modify", "--mask", "2", "--modify", "mean")
    assert alone["deltas"][0]["digest"] != answer["deltas"][0]["digest"]
    assert alone["scores"]["pruned"]["nll"] == answer["scores"]["pruned"]["nll"]


def test_what_is_left_is_measured_as_it_is(run: Command) -> None:
    given = ["--mask", "2", "--modify", "mean"]
    answer = run("measure", "--measures", "loss,entropy", "--bootstrap", "20", *given)
    assert answer["variant"] == "2 + mean"
    for name in ("loss", "entropy"):
        assert [value is None for value in answer["measures"][name]["mlp"]["values"]] == [False, False, True, False]
    assert answer["block_influence"]["layer"][2] is None
    assert answer["angular_distance"]["mean"][0][2] is None
    scores = run("score", "--split", "calibration", "--mask", "2", "--mask", "2,m3", "--modify", "mean")["scores"]
    assert scores[3]["variant"] == "2 + mean"
    pairs = run("interactions", "--unit", "layer", *given)
    assert (pairs["variant"], pairs["units"]) == ("2 + mean", ["0", "1", "3"])
    alone = answer["measures"]["loss"]["layer"]["values"]
    assert [alone[layer] for layer in (0, 1, 3)] == pytest.approx(pairs["leave_one_out"], rel=1e-6)
    assert "taylor of 2 + mean" in run("measure", "--measures", "taylor", *given, bad=True)
    texts = ["--texts", "python-docs", "--texts", "python-docs"]
    several = run("measure", "--bootstrap", "20", *given, *texts)
    assert several["agreement"]["block-influence"]["mlp"]["spearman"] == [[1, 1], [1, 1]]


def test_text_is_written_with_it(run: Command) -> None:
    answer = run("generate", "--prompt", "The", "--mask", "2", "--modify", "mean", "--max-new-tokens", "3")
    assert (answer["mask"], answer["variant"]) == ("2", "2 + mean")


def test_plans_tell_what_is_won_back(run: Command) -> None:
    answer = run("plan", "--method", "greedy", "--unit", "layer", "--steps", "2", "--modify", "mean")
    assert answer["plan"] == "greedy/layer;steps=2;modify=mean"
    assert "modified" not in answer["steps"][0]
    for step in answer["steps"][1:]:
        scored = run("score", "--mask", step["mask"], "--modify", "mean")["scores"][2]
        assert step["modified"]["perplexity"] == scored["perplexity"]
    compared = run("compare", "--plans", "deepest", "--fractions", "25", "--modify", "mean")
    (step,) = compared["plans"][0]["steps"]
    assert step["modified"]["variant"] == "2 + mean"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mask", "none"], "nothing is off"),
        (["--mask", "2", "--modify", "nonsense"], "Unknown modifier"),
        (["--mask", "2", "--modify", "mean;x=1"], "no option 'x'"),
        (["--mask", "2", "--modify", ""], "No modifier is named"),
        (["--mask", "2", "--modify", "/nonexistent/delta.safetensors"], "Cannot read the delta"),
        (["--mask", "2", "--modify", "mean", "--out", "/nonexistent/x/d.safetensors"], "no folder"),
        (["--mask", "2", "--modify", "mean", "--log", "/nonexistent/x/log.jsonl"], "Cannot write the log"),
        (["--mask", "2", "--modify", "lora;steps=2.5"], "an integer"),
        (["--mask", "2", "--modify", "lora;steps=10;until=3;check=2"], "multiple of 2"),
        (["--mask", "2", "--calibration", "/nonexistent.txt"], "nonexistent"),
        (["--mask", "2", "--calibration-tokens", "-1"], "calibration-tokens"),
        (["--mask", "2", "--modify", "mean", "linear"], "--modify again"),
    ],
)
def test_bad_input_is_one_line(run: Command, words: list[str], said: str) -> None:
    assert said in run("modify", *words, bad=True)


def test_a_delta_of_another_mask_or_model_is_refused(run: Command, tmp_path: Path) -> None:
    out = str(tmp_path / "mean.safetensors")
    run("modify", "--mask", "2", "--modify", "mean", "--out", out)
    assert "for 2, and 1 is off" in run("score", "--mask", "1", "--modify", out, bad=True)
    assert "another model" in run("score", "--mask", "2", "--modify", out, bad=True, family="mistral")


@pytest.mark.parametrize(("modify", "format"), [("refit", "transformers"), ("mean", "pruned-remote-code")])
def test_what_is_exported_is_what_was_measured(run: Command, tmp_path: Path, modify: str, format: str) -> None:
    given = ["--mask", "2", "--modify", modify]
    answer = run("export", *given, "--format", format, "--out", str(tmp_path / "out"))
    assert answer["variant"] == f"2 + {modify}"
    assert answer["verify"]["max_abs_logit_difference"] < 1e-4
    scored = run("score", *given)["scores"][2]
    assert answer["verify"]["perplexity_reloaded"] == pytest.approx(scored["perplexity"], rel=1e-5)
    again = run("export", "--recipe", str(tmp_path / "out" / "recipe.json"), "--out", str(tmp_path / "again"))
    assert again["verify"] == answer["verify"]
    said = run("export", "--recipe", str(tmp_path / "out" / "recipe.json"), "--modify", "mean", "--out", "x", bad=True)
    assert "modifiers of its own" in said


def test_a_format_that_cannot_hold_what_stands_in_says_so(run: Command, tmp_path: Path) -> None:
    said = run(
        "export", "--mask", "2", "--modify", "mean", "--format", "deci", "--out", str(tmp_path / "out"), bad=True
    )
    assert "pruned-remote-code" in said
    assert not (tmp_path / "out").exists()


def test_what_trains_is_written_down_step_by_step(run: Command, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    given = ["--mask", "2", "--modify", "refit", "--modify", "lora;steps=4;check=2", "--log", str(log)]
    answer = run("modify", *given)
    assert answer["variant"] == "2 + refit + lora;check=2;steps=4"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["step"], line["loss"] is None) for line in lines] == [
        (1, False), (2, False), (2, True), (3, False), (4, False), (4, True),
    ]  # fmt: skip
    assert all(line["tokens_a_second"] > 0 for line in lines)
    assert [line["learning_rate"] for line in lines[:2]] == pytest.approx([0.0, 1e-4])
    log.unlink()
    assert run("modify", *given) == answer
    assert [json.loads(line) for line in log.read_text().splitlines()] == lines


def test_training_needs_no_mask(run: Command) -> None:
    answer = run("modify", "--mask", "none", "--modify", "lora;steps=2;warmup=0")
    assert answer["variant"] == "none + lora;steps=2;warmup=0"
    assert answer["recovered"] is None
    assert answer["scores"]["modified"]["nll"] != answer["scores"]["pruned"]["nll"]


def test_zeros_need_nothing_to_be_off(run: Command) -> None:
    answer = run("modify", "--modify", "wanda++;optimise=no;pattern=2:4")
    assert answer["variant"] == "none + wanda++;optimise=no;pattern=2:4"
    assert answer["recovered"] is None
    zeros = answer["zeros"]
    assert (zeros["matrices"], zeros["share"], zeros["pattern"], zeros["holding"]) == (28, 0.5, "2:4", 28)
    scored = run("score", "--modify", "wanda++;optimise=no;pattern=2:4")
    assert scored["scores"][-1]["nll"] == answer["scores"]["modified"]["nll"]


def test_layers_that_go_and_layers_with_zeros(run: Command) -> None:
    answer = run("combine", "--budget", "bytes=30%", "--modify", "magnitude;pattern=2:4")
    assert answer["score"]["variant"] == answer["variant"]
    assert answer["bytes"] > 0
    assert "within bytes" in run("combine", "--budget", "layers=2", bad=True)
