"""Files that a user names, and words of others that are printed: in bounds, in one line."""

from __future__ import annotations

import json
import os
import re
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from explorer.checkpoints.config_schema import check_config, check_size
from explorer.errors import ExplorerError, PlanError, escape, first_line, shorten
from explorer.masks.mask import Mask
from explorer.measures.importance import Importance
from explorer.plans.plan import Plan, PlanSpec
from explorer.reading import Unreadable, is_special, read_json, read_text


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Names that nothing can be read from."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "latin").write_bytes("größe".encode("latin-1"))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(40 << 30)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "why"),
    [("pipe", "no regular file"), ("device", "no regular file"), (".", "no regular file"), ("loop", "symbolic links"),
     ("latin", "not UTF-8: invalid start byte at byte"), ("large", "larger than 8 MiB"), ("none", "No such file"),
     ("x" * 300, "too long"), ("é" * 200, "too long"), ("a\0b", "NUL")],
)  # fmt: skip
def test_what_cannot_be_read_is_said_at_once(odd: Path, name: str, why: str) -> None:
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(Unreadable, match=why):
        read_text(odd / name)
    assert time.monotonic() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()
    with pytest.raises(PlanError, match=r"^Cannot read it: [^\n]*\. Do that\.$"):
        read_json(odd / name, PlanError, "Cannot read it", "Do that")


@pytest.mark.parametrize("content", ["9" * 5000, "[" * 10**5, "{", "", "{'a': 1}", '{"a": ' + "9" * 5000 + "}"])
def test_what_is_not_json_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(PlanError, match=r"^Cannot read it: [^\n]*file\.json is not JSON \([^\n]*\)\. Do that\.$"):
        read_json(tmp_path / "file.json", PlanError, "Cannot read it", "Do that")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('\ufeff{"a": "ü"}', encoding="utf-8")
    assert read_json(tmp_path / "file.json", PlanError, "what", "remedy") == {"a": "ü"}
    assert read_text(tmp_path / "file.json", 14) == '{"a": "ü"}'
    with pytest.raises(Unreadable):
        read_text(tmp_path / "file.json", 13)


def test_what_is_special(odd: Path) -> None:
    assert [is_special(odd / name) for name in ("pipe", "device")] == [True, True]
    assert [is_special(odd / name) for name in ("latin", ".", "loop", "none")] == [False] * 4


@given(st.text(), st.text(), st.text())
def test_errors_are_one_line_that_can_be_printed(what: str, found: str, remedy: str) -> None:
    line = str(ExplorerError(what, found, remedy))
    assert line.isprintable()
    assert len(line) <= 10 * 3 * 410


@given(st.text())
def test_escaped_letters_are_python_s(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert escape(text, kept="\n").replace("\n", "\\n") == shown


def test_terminals_are_told_nothing() -> None:
    assert escape("a\x1b[31mü\x07\u202e\u2028\n") == r"a\x1b[31mü\x07\u202e\u2028\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("Class validation error:\n    ValueError: 32 is no multiple of 3.\n"),
         "Class validation error: ValueError: 32 is no multiple of 3"),
        (RuntimeError("\n----\nYou set it. For details look at the above report!\nlm_head has 3 rows"),
         "lm_head has 3 rows"),
        (KeyError("rope"), "KeyError: 'rope'"),
        (MemoryError(), "MemoryError"),
        (ValueError("a\x1b b"), r"a\x1b b"),
    ],
)  # fmt: skip
def test_other_libraries_errors_are_told_whole(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_long_words_lose_their_middle() -> None:
    assert len(shorten("9" * 5000)) == 400
    assert shorten("abcdefghij" * 3, 20) == "abcdefghij ... fghij"
    assert shorten("abc") == "abc"


def test_masks_take_no_longer_than_their_text() -> None:
    start = time.monotonic()
    assert str(Mask.parse(",".join(["0-9999"] * 14_000))) == "0-9999"
    with pytest.raises(Exception, match="too long"):
        Mask.parse(",".join(["0-9999"] * 10**6))
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("layers", "masks", "why"),
    [(4, ["none", "0-9999"], "out of range"), (9999, ["none", *["0-9998"] * 100], "more than 100000 sites"),
     (4, ["none"] * 30_000, "30000 steps"), (4, ["none", "x" * 10**6], "too long")],
)  # fmt: skip
def test_plans_are_checked_before_they_take_memory(
    layers: int, masks: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.plans.plan._MOST_SITES", 100_000)
    described: Any = {"plan": str(PlanSpec()), "layers": layers, "steps": [{"mask": mask} for mask in masks]}
    tracemalloc.start()
    with pytest.raises(PlanError, match=f"(?i){why}"):
        Plan.read(described)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "words",
    ["width=1001", "width=0", "seed=9223372036854775808", "seed=-1", "steps=20001", "confidence=nan", "confidence=inf",
     "confidence=0", "protect=" + "1," * 5001 + "1"],
)  # fmt: skip
def test_numbers_of_a_plan_have_bounds(words: str) -> None:
    with pytest.raises(PlanError, match=r"Out of range|Too many layers"):
        PlanSpec.parse(f"beam/site;{words}")
    assert PlanSpec.parse("beam/site;width=1000;seed=9223372036854775807;steps=20000").width == 1000


def test_draws_are_held_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).normal(size=(9, 50))
    found = Importance("loss", "layer", samples.mean(0), samples)
    whole = found.intervals(500, 3), found.rank_stability(5, 500, 3)
    monkeypatch.setattr("explorer.numerics.resampling._HELD", 600)
    parts = found.intervals(500, 3), found.rank_stability(5, 500, 3)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-12)
    np.testing.assert_array_equal(parts[1], whole[1])
    weights = np.random.default_rng(3).multinomial(9, np.full(9, 1 / 9), size=500) / 9
    low, high = np.quantile(weights @ samples, (0.025, 0.975), axis=0)
    assert ((whole[0][:, 0] <= low + 1e-9) & (whole[0][:, 1] >= high - 1e-9)).all()


_LLAMA = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 32, "vocab_size": 300, "intermediate_size": 48}


@pytest.mark.parametrize("field", [
    "num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size", "num_attention_heads", "rms_norm_eps",
    "architectures", "auto_map", "quantization_config", "text_config", "rope_parameters", "layer_types", "dtype",
])  # fmt: skip
@pytest.mark.parametrize("value", ["four\x1b", True, float("inf"), ["a", {}], {"a": ["b"]}, -(10**9), 10**12])
def test_a_field_of_a_wrong_type_or_range_is_named(field: str, value: Any) -> None:
    right = {
        "num_attention_heads": int, "rms_norm_eps": float, "dtype": str, "layer_types": list, "architectures": list,
    }.get(field, int if field in _LLAMA else dict)  # fmt: skip
    if (right is dict and isinstance(value, dict)) or (right in (str, float) and type(value) in (int, str)):
        return
    with pytest.raises(ExplorerError, match=rf"^Cannot use config\.json: {field}") as caught:
        check_config({**_LLAMA, field: value})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (
            {"text_config": {"hidden_size": -1}},
            "text_config.hidden_size is -1: input should be greater than or equal to 1",
        ),
        ({"layer_types": ["full", 3]}, "layer_types.1 is 3: input should be a valid string"),
        ({"intermediate_size": [1, "x"]}, "intermediate_size is [1, 'x']: input should be a valid integer"),
        ({"text_config": 3}, "text_config is 3: input should be a valid dictionary"),
    ],
)
def test_a_wrong_field_is_told_by_its_way_alone(more: dict[str, Any], found: str) -> None:
    with pytest.raises(ExplorerError) as caught:
        check_config({**_LLAMA, **more})
    assert str(caught.value) == f"Cannot use config.json: {found}. Correct it, or copy it again."


def test_a_field_that_is_not_there_is_told_as_missing() -> None:
    plan = Plan(PlanSpec("greedy", "site"), (Mask(), Mask.parse("a1")), 4).describe()
    for change, found in (
        ({"steps": [{"mask": "none"}, {}]}, "steps.1.mask is missing"),
        ({"cost": 3}, "cost is 3: input should be a"),
        ({"layers": 0}, "layers is 0: input should be greater than or equal to 1"),
    ):
        with pytest.raises(PlanError, match=f"^Not a plan: {re.escape(found)}"):
            Plan.read({**plan, **change})


@pytest.mark.parametrize(
    "more",
    [{}, {"intermediate_size": [48, None]}, {"dtype": {"": "bfloat16"}}, {"rope_theta": None}, {"eos_token_id": [1, 2]},
     {"text_config": {"num_hidden_layers": 1024}}, {"num_hidden_layers": 1024}, {"unknown": object}],
)  # fmt: skip
def test_configs_of_known_families_pass(more: dict[str, Any]) -> None:
    assert check_config({**_LLAMA, **more}) == {**_LLAMA, **more}


def test_a_config_far_larger_than_its_files_is_refused() -> None:
    check_size(_LLAMA, 4 * 32 * 48)
    for field in ("vocab_size", "intermediate_size", "hidden_size"):
        with pytest.raises(ExplorerError, match="Weights do not fit the config"):
            check_size({**_LLAMA, field: 10**6}, 10**5)


def test_json_of_the_program_is_read_again(tmp_path: Path) -> None:
    plan = Plan(PlanSpec("greedy", "site"), (Mask(), Mask.parse("a1"), Mask.parse("a1,m2")), 4)
    (tmp_path / "plan.json").write_text(json.dumps(plan.describe()))
    assert Plan.load(tmp_path / "plan.json") == plan
