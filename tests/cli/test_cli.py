"""The command line: its JSON is a contract, and bad input is one line on stderr."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.cli import main
from explorer.masks.mask import Mask
from explorer.verbs import VERBS
from tests.support import brute_force
from tests.support.tiny_models import REPOSITORY, WINDOW, Tiny

SIZE = ["--window", str(WINDOW), "--tokens", str(4 * WINDOW)]


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "explorer", *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def common(tiny: Tiny, tmp_path: Path) -> list[str]:
    """The options that every verb takes."""
    model = ["--model", str(tiny.folder("llama")), "--text", "python-docs", "--dtype", "float32", "--device", "cpu"]
    return [*model, *SIZE, "--cache", str(tmp_path / "cache")]


def test_help_costs_no_torch() -> None:
    """In one process, the help of the program and of every verb, as of commands that are added later."""
    script = (
        "import sys; from explorer.cli import main; from explorer.cli.verb import app\n"
        "for words in [], *([each.name] for each in app.registered_commands):\n"
        "    sys.argv = ['layer-redundancy', *words, '--help']\n"
        "    try: main()\n"
        "    except SystemExit as exit_: assert not exit_.code, words\n"
        "    assert not {'torch', 'transformers'} & set(sys.modules), words"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: layer-redundancy") > len(VERBS)


def _answer(verb: str, *words: str) -> Any:
    """Run a verb with --json in a process of its own; stdout must be one JSON document."""
    done = _run(verb, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(done.stdout, parse_constant=refuse)


def _ids(loaded) -> np.ndarray:
    return loaded.tokenize("python-docs", 4 * WINDOW, WINDOW).held_out.ids


def test_info(tiny: Tiny, common: list[str]) -> None:
    answer, model = _answer("info", *common), tiny.load("llama").model
    parameters = sum(p.numel() for p in model.parameters())
    expected = {
        "model": str(tiny.folder("llama")), "architecture": "LlamaForCausalLM", "layers": 4, "parameters": parameters,
        "bytes": 4 * parameters, "dtype": "float32", "device": "cpu", "kv_bytes_per_token": 4 * 2 * 2 * 8 * 4,
    }  # fmt: skip
    assert {key: answer[key] for key in expected} == expected
    assert [site["site"] for site in answer["sites"]] == [f"{part}{layer}" for layer in range(4) for part in "am"]


def test_measure(tiny: Tiny, common: list[str]) -> None:
    answer = _answer("measure", *common)
    assert answer["tokens"] == 4 * WINDOW
    ids = np.array(_answer("corpus", *common)["calibration"])
    plain = brute_force.plain(tiny.folder("llama"))
    states, _ = brute_force.hidden_states(plain, ids)
    for choice in ("last_token", "mean"):
        for row, right in zip(
            answer["angular_distance"][choice], brute_force.angular_distances(states, choice), strict=True
        ):
            np.testing.assert_allclose(row, right, atol=1e-4)
    for unit, right in brute_force.influences(plain, ids).items():
        np.testing.assert_allclose(answer["block_influence"][unit], right, atol=1e-4)


def test_corpus(tiny: Tiny, common: list[str]) -> None:
    answer = _answer("corpus", *common)
    made = tiny.load("llama").tokenize("python-docs", 4 * WINDOW, WINDOW)
    assert answer["calibration"] == made.calibration.ids.tolist()
    assert answer["held_out"] == made.held_out.ids.tolist()
    assert answer["window"] == WINDOW
    assert answer["digest"] == made.digest


def test_score(tiny: Tiny, common: list[str]) -> None:
    answer = _answer("score", *common, "--mask", "m1,a1", "--mask", "a2", "--mask", "0-3")
    assert answer["corpus"]["window"] == WINDOW
    assert [entry["mask"] for entry in answer["scores"]] == ["none", "1", "a2", "0-3"]
    ids, folder = _ids(tiny.load("llama")), tiny.folder("llama")
    baseline = brute_force.window_nll(brute_force.plain(folder), ids).sum()
    tokens = 4 * (WINDOW - 1)
    for entry in answer["scores"]:
        nll = brute_force.window_nll(brute_force.zeroed(folder, Mask.parse(entry["mask"])), ids).sum()
        assert entry["tokens"] == tokens
        assert entry["nll"] == pytest.approx(nll, rel=1e-5)
        assert entry["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-4)
        assert entry["delta_nll_per_token"] == pytest.approx((nll - baseline) / tokens, abs=1e-4)
        low, high = entry["delta_ci95"]
        assert low <= entry["delta_nll_per_token"] <= high
    again = _answer("score", *common, "--mask", "1", "--split", "calibration")
    assert again["corpus"]["split"] == "calibration"
    assert again["scores"][0]["nll"] != answer["scores"][0]["nll"]


def test_generate(tiny: Tiny, common: list[str]) -> None:
    prompt = "The quick brown fox"
    answer = _answer("generate", *common, "--mask", "a0,2", "--prompt", prompt, "--max-new-tokens", "6")
    tokenizer = tiny.load("llama").tokenizer
    for name, mask in (("text", "2,a0"), ("original", "none")):
        oracle = brute_force.zeroed(tiny.folder("llama"), Mask.parse(mask))
        ids = brute_force.greedy(oracle, tokenizer(prompt).input_ids, 6)
        assert answer[name] == tokenizer.decode(ids, skip_special_tokens=True)
    assert answer["prompt"] == prompt
    assert answer["mask"] == "2,a0"
    assert all(speed > 0 for speed in answer["tokens_per_second"].values())


def test_export(tiny: Tiny, common: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = _answer("export", *common, "--mask", "1,a2", "--out", str(out))
    assert answer["out"] == str(out)
    assert answer["layers"] == 3
    assert answer["bytes"] <= (out / "model.safetensors").stat().st_size
    assert answer["verify"]["max_abs_logit_difference"] < 1e-3
    assert answer["verify"]["perplexity_masked"] == pytest.approx(answer["verify"]["perplexity_reloaded"], rel=1e-5)
    ids = _ids(tiny.load("llama"))
    assert brute_force.perplexity(brute_force.plain(out), ids) == pytest.approx(
        answer["verify"]["perplexity_reloaded"], rel=1e-5
    )


def test_prepare_and_no_cache(tiny: Tiny, common: list[str], tmp_path: Path) -> None:
    answer = _answer("prepare", *common, "--no-cache")
    assert Path(answer["folder"]) == tiny.folder("llama").resolve()
    assert not (tmp_path / "cache").exists()


def test_words_for_people(common: list[str]) -> None:
    done = _run("score", *common, "--mask", "a1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["variant", "none", "a1"]


def _bad(words: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the command line in this process; return its one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["explorer", *words, "--json"])
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capfd.readouterr()
    assert exit_.value.code == 2
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["score", "--mask", "4"], "layers 0 to 3"),
        (["score", "--mask", "3-x"], "Malformed mask"),
        (["score", "--mask", ""], "Malformed mask"),
        (["score", "--split", "test"], "calibration or held-out"),
        (["score", "--model", "./nosuch"], "No such model"),
        (["score", "--model", "nosuchowner/nosuchmodel"], "nosuchowner/nosuchmodel"),
        (["score", "--text", "nosuchtext"], "No such text"),
        (["score", "--window", "256", "--tokens", "256"], "beyond the model's positions"),
        (["score", "--tokens", "5"], "Not one window fits"),
        (["score", "--window", "many"], "--window"),
        (["score", "--bos", "sometimes"], "BOS"),
        (["score", "--dtype", "int3"], "Unknown dtype"),
        (["score", "--device", "tpu"], "Unknown device"),
        (["score", "--nosuchoption"], "nosuchoption"),
        (["nosuchverb"], "nosuchverb"),
        (["generate"], "--prompt"),
        (["generate", "--prompt", ""], "prompt is empty"),
        (["generate", "--prompt", "a", "--max-new-tokens", "0"], "max-new-tokens"),
        (["generate", "--prompt", "a", "--max-new-tokens", "1000"], "positions"),
        (["generate", "--prompt", "a", "--mask", "9"], "layers 0 to 3"),
        (["generate", "--prompt", "a", "--seed", str(10**30)], "seed"),
        (["generate", "--prompt", "a", "--temperature", "nan"], "temperature"),
        (["export", "--mask", "1"], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    common: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    found: str,
) -> None:
    assert found in _bad([words[0], *common, *words[1:]], capfd, monkeypatch)


def test_bad_targets_are_one_line(
    common: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "every layer is off" in _bad(
        ["export", *common, "--mask", "0-3", "--out", str(tmp_path / "out")], capfd, monkeypatch
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    assert "not empty" in _bad(["export", *common, "--mask", "1", "--out", str(tmp_path / "full")], capfd, monkeypatch)
    (tmp_path / "file").write_text("")
    assert "cache" in _bad(["info", *common, "--cache", str(tmp_path / "file")], capfd, monkeypatch)


@pytest.mark.parametrize(
    "words",
    [["score", "--mask", "99"], ["score", "--model", "nosuchowner/nosuchmodel"], ["corpus", "--text", "hf:no/no"]],
)
def test_bad_input_in_a_process_of_its_own(common: list[str], words: list[str]) -> None:
    done = _run(words[0], *common, *words[1:], "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
