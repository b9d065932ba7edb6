"""Whatever is typed, and whatever is in a file: exit 0 or 2, one line on stderr, soon."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from explorer.cli import main
from explorer.masks.mask import Mask
from explorer.plans.plan import Plan, PlanSpec
from tests.support.tiny_models import WINDOW, Tiny

SECONDS = 20
DIGITS = "9" * 5000
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def place(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and files of every kind that the program reads."""
    made = tmp_path_factory.mktemp("hostile")
    shutil.copytree(tiny.folder("llama"), made / "model", ignore=shutil.ignore_patterns("cache"))
    plan = Plan(PlanSpec(), (Mask(), Mask.parse("1"), Mask.parse("1-2")), 4)
    (made / "plan.json").write_text(json.dumps(plan.describe()))
    (made / "tokens.json").write_text(json.dumps([[i % 250 for i in range(j, j + WINDOW)] for j in range(4)]))
    (made / "rows.jsonl").write_text(
        "".join(json.dumps({"text": f"some words, {i} of them\n" * 9}) + "\n" for i in range(9))
    )
    (made / "text.txt").write_text("words of a text, one after another\n" * 200)
    (made / "bytes.txt").write_bytes(bytes(range(256)) * 40)
    os.mkfifo(made / "fifo")
    (made / "loop").symlink_to(made / "loop")
    with (made / "sparse.txt").open("wb") as file:
        file.write(b"words and words\n" * 2**17)
        file.truncate(40 * 2**30)
    return made


@pytest.fixture(scope="module")
def run(place: Path) -> Command:
    """Run a verb in this process; return its exit status and what it wrote to stderr."""

    def command(verb: str, *words: str, model: Path | str = place / "model") -> tuple[int, str]:
        shared = ["--model", str(model), "--dtype", "float32", "--device", "cpu", "--json"]
        shared += ["--window", str(WINDOW), "--tokens", str(2 * WINDOW), "--cache", str(place / "cache")]
        before, out, errors = sys.argv, io.StringIO(), io.StringIO()
        sys.argv = ["explorer", verb, *shared, *words]
        start = time.monotonic()
        try:
            with (
                redirect_stdout(out),
                redirect_stderr(errors),
                pytest.raises(SystemExit) as exit_,
            ):
                main()
        finally:
            sys.argv = before
        code = exit_.value.code
        assert code in (0, 2), (verb, words, errors.getvalue()[-2000:])
        assert time.monotonic() - start < SECONDS, (verb, words)
        if code == 2:
            (line,) = errors.getvalue().splitlines()
            assert line.startswith("error: ")
            assert line.isprintable()
            assert len(line) < 2000
        else:
            json.loads(out.getvalue())
        return int(code or 0), errors.getvalue()

    return command


@pytest.mark.parametrize(
    "words",
    [
        ("info", "--mask", ",".join(["0-9999"] * 2000)),
        ("info", "--mask", DIGITS),
        ("info", "--model", "\x1b[31mred\x1b]0;pwn\x07\n"),
        ("info", "--model", "a\x1b[31m/b\x07"),
        ("info", "--model", "é" * 200),
        ("info", "--model", "a" * 300, "--config-only"),
        ("info", "--model", "a\0b"),
        ("info", "--model", "{place}/loop"),
        ("info", "--model", "{place}/fifo"),
        ("info", "--window", DIGITS),
        ("plan", "--budget", f"layers={DIGITS}"),
        ("plan", "--budget", f"bytes={DIGITS}GB"),
        ("plan", "--method", "evolve", "--width", "1000000000"),
        ("plan", "--method", "random", "--seed", DIGITS),
        ("plan", "--steps", "-1"),
        ("plan", "--confidence", "nan"),
        ("plan", "--protect", f"first{DIGITS}"),
        ("plan", "--out", "{place}/nowhere/plan.json"),
        ("compare", "--plans", f"random/layer;seed={DIGITS}"),
        ("compare", "--plans", "p" * 300),
        ("compare", "--plans", "{place}/fifo"),
        ("compare", "--fractions", DIGITS),
        ("score", "--plan", "/dev/zero", "--step", "0"),
        ("score", "--plan", "{place}/fifo", "--step", "0"),
        ("score", "--plan", "{place}/loop", "--step", "0"),
        ("score", "--plan", "{place}", "--step", "0"),
        ("score", "--text", "tokens:{place}/fifo"),
        ("score", "--text", "tokens:a\0b"),
        ("score", "--text", "{place}/bytes.txt"),
        ("score", "--text", "{place}"),
        ("score", "--text", "/dev/zero"),
        ("score", "--tokens", DIGITS),
        ("measure", "--bootstrap", "1000000000"),
        ("measure", "--bootstrap", "1" + "0" * 30),
        ("measure", "--permutations", DIGITS),
        ("measure", "--seed", DIGITS),
        ("generate", "--prompt", "hi", "--max-new-tokens", DIGITS),
        ("generate", "--prompt", "hi", "--temperature", "nan"),
        ("generate", "--prompt", ""),
        ("export", "--out", "{place}/loop/x", "--mask", "1"),
        ("export", "--out", "a\0b", "--mask", "1"),
        ("export", "--out", "o", "--recipe", "/dev/zero"),
        ("cache", "--older-than", f"{DIGITS}d"),
        ("cache", "--larger-than", "5 apples"),
    ],
    ids=lambda words: " ".join(words)[:40].encode("unicode_escape").decode(),
)
def test_bad_input_is_refused_in_one_line(run: Command, place: Path, words: tuple[str, ...]) -> None:
    code, _ = run(*(word.replace("{place}", str(place)) for word in words))
    assert code == 2


@pytest.mark.parametrize("text", ["text.txt", "sparse.txt", "rows.jsonl"])
def test_no_more_of_a_text_is_read_than_is_needed(run: Command, place: Path, text: str) -> None:
    assert run("score", "--text", str(place / text))[0] == 0


#: Values that no file should hold where another is expected.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.sampled_from([10**18, -1, 0, int(DIGITS[:400]), 1e308, -0.0]),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.sampled_from(["\x1b[31m", "a" * 5000, "none", "../../x", "\0"]),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(0, 9), max_size=2),
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, entry in items:
        yield from _paths(entry, (*path, key))


def _put(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = odd
    return changed


@st.composite
def spoiled(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON file with a value replaced or a key taken away, or cut short, or with bytes that are none."""
    kind = draw(st.sampled_from(["value", "value", "value", "key", "cut", "bytes"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content) - 1))]
    if kind == "bytes":
        at = draw(st.integers(0, len(content) - 1))
        return content[:at] + draw(st.binary(min_size=1, max_size=6)) + content[at + 1 :]
    value = json.loads(content)
    path = draw(st.sampled_from(list(_paths(value))))
    if kind == "key" and path and isinstance(path[-1], str):
        changed = copy.deepcopy(value)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return json.dumps(changed).encode()
    return json.dumps(_put(value, path, draw(ODD))).encode()


fuzzed = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("plan.json", ("score", "--step", "1", "--plan")),
        ("tokens.json", ("score", "--text")),
        ("model/config.json", ("info",)),
        ("model/tokenizer_config.json", ("generate", "--prompt", "some words", "--max-new-tokens", "2")),
        ("model/generation_config.json", ("generate", "--prompt", "some words", "--max-new-tokens", "2")),
    ],
)
def test_a_spoiled_file_is_read_or_refused(run: Command, place: Path, file: str, words: tuple[str, ...]) -> None:
    content = (place / file).read_bytes()

    @fuzzed
    @given(spoiled(content))
    def check(bad: bytes) -> None:
        target = place / "spoiled" / file
        if file.startswith("model/"):
            shutil.copytree(place / "model", target.parent, dirs_exist_ok=True)
            target.write_bytes(bad)
            run(*words, model=target.parent)
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(bad)
            run(*words, f"tokens:{target}" if file.startswith("tokens") else str(target))

    try:
        check()
    finally:
        shutil.rmtree(place / "spoiled", ignore_errors=True)


OPTIONS = {
    "score": ("--mask", "--text", "--split", "--bos"),
    "plan": (
        "--method",
        "--unit",
        "--budget",
        "--protect",
        "--criterion",
        "--seed",
        "--width",
        "--confidence",
        "--steps",
    ),
    "measure": ("--measures", "--bootstrap", "--seed", "--texts"),
    "compare": ("--plans", "--fractions"),
    "export": ("--mask", "--format"),
    "generate": ("--mask", "--temperature", "--max-new-tokens", "--seed"),
    "info": ("--mask", "--dtype", "--device", "--quantize", "--window"),
}
WORDS = st.one_of(
    st.text(max_size=12),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
    st.from_regex(r"[am]?[0-9]{1,5}(-[0-9]{1,5})?(,[am]?[0-9]{1,3})?", fullmatch=True),
    st.from_regex(r"(layers|bytes|kv|flops)=[0-9]{1,30}(%|GB|)", fullmatch=True),
    st.from_regex(r"(greedy|random|beam)/(site|layer);(seed|width|steps)=-?[0-9]{1,12}", fullmatch=True),
    st.from_regex(r"map:[0-9a-z]{1,3}=[0-9]{1,4}(GiB|)", fullmatch=True),
)


@pytest.mark.parametrize("verb", list(OPTIONS))
def test_a_strange_word_is_taken_or_refused(run: Command, place: Path, verb: str) -> None:
    always = {"export": ["--out", str(place / "out")], "generate": ["--prompt", "some words"]}.get(verb, [])

    @fuzzed
    @given(st.sampled_from(OPTIONS[verb]), WORDS)
    def check(option: str, word: str) -> None:
        run(verb, f"{option}={word}", *always)
        shutil.rmtree(place / "out", ignore_errors=True)

    check()
