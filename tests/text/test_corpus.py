"""Corpus: every reader, windows that never overlap, and every error."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from explorer.errors import TextError
from explorer.text.tokenization import tokenize
from explorer.text.windows import Corpus, Windows
from tests.support.tiny_models import make_tokenizer

PLAIN, GEMMA = make_tokenizer(), make_tokenizer(bos=True)
BOS = 256
DOCUMENTS = [f"Document {n}: the winter of {1900 + n} was long, and there was hardly any coal." for n in range(12)]
JOINED = "\n\n".join(DOCUMENTS)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(JOINED)
    return path


def _ids(windows: Windows, bos: bool = False) -> list[int]:
    return windows.ids[:, int(bos) :].ravel().tolist()


def _woven(corpus: Corpus, bos: bool = False) -> list[int]:
    """The ids of both splits, window by window, in the order of the text."""
    pairs = zip(corpus.calibration.ids[:, int(bos) :], corpus.held_out.ids[:, int(bos) :], strict=True)
    return [i for pair in pairs for row in pair for i in row.tolist()]


@pytest.mark.parametrize("window", [2, 7, 24])
@pytest.mark.parametrize("tokenizer", [PLAIN, GEMMA], ids=["no_bos", "bos"])
def test_windows_are_the_text_dealt_out_in_order(text: Path, tokenizer: Any, window: int) -> None:
    bos = tokenizer is GEMMA
    corpus = tokenize(str(text), tokenizer, tokens=5 * window + 1, window=window)
    assert corpus.bos == bos
    for split in (corpus.calibration, corpus.held_out):
        assert split.ids.shape == (5, window)
        assert (split.ids[:, 0] == BOS).all() == bos
    expected = PLAIN(JOINED).input_ids
    assert _woven(corpus, bos) == expected[: 10 * (window - bos)]


@pytest.mark.parametrize(
    ("tokenizer", "bos", "added"),
    [(PLAIN, "always", True), (GEMMA, "never", False), (PLAIN, "auto", False), (GEMMA, "auto", True)],
)
def test_bos_on_demand(text: Path, tokenizer: Any, bos: str, added: bool) -> None:
    corpus = tokenize(str(text), tokenizer, tokens=48, window=12, bos=bos)
    assert corpus.bos == added
    assert (corpus.held_out.ids[:, 0] == BOS).all() == added
    assert not (corpus.held_out.ids[:, 1:] == BOS).any()
    assert ("BOS first" in corpus.protocol) == added


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 8))
def test_longer_corpus_contains_the_shorter(window: int, few: int, more: int) -> None:
    shorter, longer = (tokenize("python-docs", PLAIN, tokens=n * window, window=window) for n in (few, few + more))
    for split in ("calibration", "held-out"):
        np.testing.assert_array_equal(longer.split(split).ids[:few], shorter.split(split).ids)
        np.testing.assert_array_equal(longer.split(split).text_bytes[:few], shorter.split(split).text_bytes)
    assert shorter.digest != longer.digest


def test_reading_in_pieces_cuts_no_token(tmp_path: Path) -> None:
    """A tokenizer of long words: the last token read must be the whole word, however much was read."""
    words = [f"w{'o' * (n % 11)}rd{n}" for n in range(400)]
    vocabulary = {"<unk>": 0, **{word: n + 1 for n, word in enumerate(words)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    path = tmp_path / "words.txt"
    path.write_text(" ".join(words))
    for n in range(1, 100):
        assert _woven(tokenize(str(path), fast, tokens=2 * n, window=2)) == list(range(1, 4 * n + 1))


def test_short_text_gives_what_it_has(text: Path) -> None:
    total = len(PLAIN(JOINED).input_ids)
    corpus = tokenize(str(text), PLAIN, tokens=10**6, window=32)
    assert len(corpus.calibration) == len(corpus.held_out) == total // 32 // 2
    assert corpus.tokens == corpus.calibration.ids.size


@pytest.mark.parametrize("tokenizer", [PLAIN, GEMMA], ids=["no_bos", "bos"])
def test_text_bytes_are_those_of_the_predicted_tokens(text: Path, tokenizer: Any) -> None:
    corpus = tokenize(str(text), tokenizer, tokens=20 * 6, window=20)
    for split in (corpus.calibration, corpus.held_out):
        decoded = [len(PLAIN.decode(row[1:]).encode()) for row in split.ids]
        assert split.text_bytes.tolist() == decoded


def test_text_bytes_count_utf8(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    path.write_text("größe £5 → 数 " * 40, encoding="utf-8")
    corpus = tokenize(str(path), GEMMA, tokens=10**5, window=33)
    assert int(corpus.calibration.text_bytes.sum() + corpus.held_out.text_bytes.sum()) == pytest.approx(
        2 * len(corpus.calibration) * 32, abs=3 * 2 * len(corpus.calibration)
    )  # a byte a token, but for characters that a window's edge cuts


def _write_jsonl(path: Path, column: str = "text") -> None:
    path.write_text("\n\n".join(json.dumps({"id": n, column: d}) for n, d in enumerate(DOCUMENTS)) + "\n")


def _write_parquet(path: Path, column: str = "text") -> None:
    table = pyarrow.table({"id": list(range(len(DOCUMENTS))), column: DOCUMENTS})
    pyarrow.parquet.write_table(table, path, row_group_size=5)


def _write_plain(path: Path) -> None:
    path.write_text(JOINED, encoding="utf-8")


WRITERS = {".txt": _write_plain, ".md": _write_plain, ".jsonl": _write_jsonl, ".parquet": _write_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_of_file_gives_the_same_windows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    WRITERS[suffix](path)
    corpus = tokenize(str(path), PLAIN, tokens=10**5, window=16)
    total = len(PLAIN(JOINED).input_ids) // 32 * 32
    assert _woven(corpus) == PLAIN(JOINED).input_ids[:total]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_data_set_folder_through_datasets(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    WRITERS[suffix](folder / f"train{suffix}", "body")  # type: ignore[call-arg]
    corpus = tokenize(f"hf:{folder}::train:body", PLAIN, tokens=10**5, window=16)
    total = len(PLAIN(JOINED).input_ids) // 32 * 32
    assert _woven(corpus) == PLAIN(JOINED).input_ids[:total]
    with pytest.raises(TextError, match=r"Missing column 'text'.*'id', 'body'"):
        tokenize(f"hf:{folder}", PLAIN, tokens=64, window=16)
    with pytest.raises(TextError, match="Cannot read the data set"):
        tokenize(f"hf:{folder}::nosuchsplit:body", PLAIN, tokens=64, window=16)


def test_tokens_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    rows = [[5, 6, 7, 8], [9, 10, 11, 299]]
    path.write_text(json.dumps(rows))
    corpus = tokenize(f"tokens:{path}", GEMMA, tokens=1, window=99, bos="always", vocabulary=300)
    assert corpus.calibration.ids.tolist() == corpus.held_out.ids.tolist() == rows
    assert corpus.window == 4
    assert not corpus.bos
    with_bos = [[BOS, *row] for row in rows]
    path.write_text(json.dumps(with_bos))
    assert tokenize(f"tokens:{path}", GEMMA, tokens=1, window=99, bos="never").bos


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[[]]", "[1, 2]", "[[1, 2], [3]]", '[["a", "b"]]', "[[1.5, 2.5]]", "[[true, false]]",
     "[[[1, 2]]]", "null", "[[1, null]]", "[[1, 300]]", "[[1, -1]]", f"[[1, {2**70}]]", "[[1]]"],
)  # fmt: skip
def test_bad_tokens_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "windows.json"
    path.write_text(content)
    with pytest.raises(TextError):
        tokenize(f"tokens:{path}", PLAIN, tokens=16, window=8, vocabulary=300)


def test_bad_bytes_in_a_tokens_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "windows.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TextError):
        tokenize(f"tokens:{tmp_path / 'windows.json'}", PLAIN, tokens=16, window=8)
    with pytest.raises(TextError, match="No such file"):
        tokenize(f"tokens:{tmp_path / 'absent.json'}", PLAIN, tokens=16, window=8)
    with pytest.raises(TextError):
        tokenize(f"tokens:{tmp_path}", PLAIN, tokens=16, window=8)


def test_tokens_beyond_the_positions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "windows.json").write_text(json.dumps([[1] * 40]))
    with pytest.raises(TextError, match="40 > 32"):
        tokenize(f"tokens:{tmp_path / 'windows.json'}", PLAIN, tokens=8, window=8, positions=32)


def _refused(match: str, text: str = "python-docs", tokenizer: Any = PLAIN, **options: Any) -> None:
    with pytest.raises(TextError, match=match) as caught:
        tokenize(text, tokenizer, **{"tokens": 64, "window": 16, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", " \n\t\n "])
def test_empty_text_is_refused(tmp_path: Path, content: str) -> None:
    for suffix in (".txt", ".md"):
        (tmp_path / f"empty{suffix}").write_text(content)
        _refused("text is empty", str(tmp_path / f"empty{suffix}"))
    (tmp_path / "empty.jsonl").write_text("")
    _refused("text is empty", str(tmp_path / "empty.jsonl"))


def test_text_shorter_than_one_window_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Too short.")
    _refused("shorter than one window", str(tmp_path / "short.txt"))
    (tmp_path / "half.txt").write_text("x" * 31)
    _refused("shorter than one window", str(tmp_path / "half.txt"))
    (tmp_path / "just.txt").write_text("x" * 32)
    assert len(tokenize(str(tmp_path / "just.txt"), PLAIN, tokens=64, window=16).held_out) == 1


def test_windows_that_do_not_fit_are_refused() -> None:
    _refused("beyond the model's positions: 200 > 128", window=200, tokens=400, positions=128)
    _refused("Not one window fits", window=16, tokens=15)
    _refused("predicts nothing", window=1)
    _refused("predicts nothing", window=0)
    _refused("predicts nothing", window=-4)
    _refused("Not one window fits", tokens=0)


def test_unknown_texts_are_refused(tmp_path: Path) -> None:
    _refused("No such text", "nosuchtext")
    _refused("No such text", str(tmp_path))
    _refused("No such text", "somebody put the text itself here " * 20)
    (tmp_path / "text.docx").write_bytes(b"PK\3\4\0\0\0")
    _refused("not text", str(tmp_path / "text.docx"))
    _refused("Cannot read the data set", "hf:nosuchowner/nosuchset")
    _refused("The data set has no name", "hf:")


@pytest.mark.parametrize("name", ["text.raw", "text.log", "text.rst", "text.tex", "text.py", "text"])
def test_content_decides_what_is_text(text: Path, name: str) -> None:
    path = text.rename(text.with_name(name))
    assert _woven(tokenize(str(path), PLAIN, tokens=64, window=16)) == PLAIN(JOINED).input_ids[:128]


def test_of_a_file_no_more_is_read_than_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("w") as file:
        file.write(JOINED * 200)
        file.truncate(40 << 30)  # a hole, of NULs
    tracemalloc.start()
    assert _woven(tokenize(str(path), PLAIN, tokens=64, window=16)) == PLAIN(JOINED).input_ids[:128]
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    path.write_text("too short")
    os.truncate(path, 40 << 30)
    _refused("has a NUL", str(path))


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "loop").symlink_to("loop")
    for name in (str(tmp_path / "pipe.txt"), "/dev/zero", str(tmp_path / "loop"), "a\0b", "é" * 200, "x/" * 3000):
        _refused("No such text", name)
        _refused("Cannot read the windows", f"tokens:{name}")


TURNS = [{"role": "user", "content": "How do I sort a list? " * 4}, {"role": "assistant", "content": "sorted. " * 4}]
TEMPLATE = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}{{ eos_token }}"


def _with_template(template: str) -> Any:
    made = make_tokenizer()
    made.chat_template = template
    return made


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_conversations_are_read_through_the_template(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"chat{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": TURNS}) for _ in range(5)))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"text": [TURNS] * 5}), path)
    tokenizer = _with_template(TEMPLATE)
    written = "\n\n".join([tokenizer.apply_chat_template(TURNS, tokenize=False)] * 5)
    corpus = tokenize(str(path), tokenizer, tokens=10**4, window=16)
    assert _woven(corpus) == tokenizer(written).input_ids[: 2 * 16 * len(corpus.held_out)]
    assert len(corpus.held_out) > 20
    _refused("no chat template", str(path))


@pytest.mark.parametrize(
    "value", [["a", "b"], [1, 2], {"a": "b"}, 5, 1.5, True, [{"role": "user"}], [{"role": 1, "content": "a"}]]
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_columns_that_hold_no_text_are_refused_with_their_type(tmp_path: Path, suffix: str, value: Any) -> None:
    path = tmp_path / f"odd{suffix}"
    if suffix == ".jsonl":
        path.write_text(json.dumps({"text": value}))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"text": [value]}), path)
    _refused(f"holds no text: (line 1 of )?odd{suffix} has ", str(path), _with_template(TEMPLATE))


def test_a_duration_column_is_refused(tmp_path: Path) -> None:
    table = pyarrow.table({"text": pyarrow.array([2**62], pyarrow.duration("s"))})
    pyarrow.parquet.write_table(table, tmp_path / "odd.parquet")
    _refused(r"duration\[s\]", str(tmp_path / "odd.parquet"))


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ raise_exception('System message must come first') }}", "System message must come first"),
        ("{% for m in messages %}", "[Ee]nd of template|endfor"),
        ("{{ messages[0].__class__.__mro__ }}", "unsafe"),
        ("{{ 'a' * 10**10 }}", "memory"),
        ("{{ nothing.at.all }}", "undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_templates_that_fail_are_refused(tmp_path: Path, template: str, found: str) -> None:
    (tmp_path / "chat.jsonl").write_text(json.dumps({"text": TURNS}))
    _refused(f"chat template fails: .*({found})", str(tmp_path / "chat.jsonl"), _with_template(template))


@pytest.mark.parametrize("template", [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = b %}{% endfor %}{% endfor %}",
    "{{ 9 ** (9 ** 9) }}",
])  # fmt: skip
def test_templates_that_do_not_end_are_ended(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.text.chat_template._SECONDS", 1)
    (tmp_path / "chat.jsonl").write_text(json.dumps({"text": TURNS}))
    _refused("takes more than 1 s", str(tmp_path / "chat.jsonl"), _with_template(template))


def test_ids_beyond_the_embedding_are_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    beyond = tokenizer.convert_tokens_to_ids("<|im_start|>")
    (tmp_path / "chat.txt").write_text("<|im_start|>user\nhello there\n" * 40)
    corpus = tokenize(str(tmp_path / "chat.txt"), tokenizer, tokens=64, window=16, vocabulary=beyond + 1)
    assert (corpus.calibration.ids == beyond).any()
    _refused(rf"'<\|im_start\|>' is id {beyond}", str(tmp_path / "chat.txt"), tokenizer, vocabulary=beyond)
    (tmp_path / "bytes.txt").write_text("x" * 1000)  # without a merge, so of BOS alone
    _refused(f"'<bos>' is id {BOS}", str(tmp_path / "bytes.txt"), GEMMA, vocabulary=BOS)


class Bytes:
    """A slow tokenizer: an id for `width` bytes of UTF-8, decoded as tiktoken and ByT5 do, from nothing but the ids."""

    bos_token_id, is_fast, chat_template = None, False, None

    def __init__(self, width: int, errors: str, changed: str = "") -> None:
        self.width, self.errors, self.changed, self.known = width, errors, changed, list[bytes]()

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        data = text.encode()
        pieces = [data[at : at + self.width] for at in range(0, len(data), self.width)]
        for piece in pieces:
            self.known += [] if piece in self.known else [piece]
        return SimpleNamespace(input_ids=[self.known.index(piece) for piece in pieces])

    def decode(self, ids: list[int], **_: Any) -> str:
        text = b"".join(self.known[i] for i in ids).decode(errors=self.errors)
        return text.replace(self.changed, "") if self.changed else text


@pytest.mark.parametrize(("width", "errors"), [(1, "ignore"), (1, "replace"), (3, "replace"), (5, "ignore")])
@pytest.mark.parametrize("changed", ["", "g"])
def test_bytes_of_slow_tokenizers_are_those_of_the_text(tmp_path: Path, width: int, errors: str, changed: str) -> None:
    text = "Überschüssige Größen für Fußgänger → ändern, 数 und 🙂. " * 300
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    corpus = tokenize(str(tmp_path / "text.txt"), Bytes(width, errors, changed), tokens=40 * 48, window=48)
    for split in (corpus.calibration, corpus.held_out):
        exact = 47 * width  # of the predicted ids of a window
        assert split.text_bytes.sum() == pytest.approx(len(split) * exact, rel=0.01)
        if not changed:
            assert abs(split.text_bytes - exact).max() <= 6  # a character that is cut at each end


class Broken:
    """A tokenizer that fails as it is told."""

    bos_token_id, is_fast, chat_template = None, True, None

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        if self.error is not None:
            raise self.error
        return SimpleNamespace(input_ids=[], offset_mapping=[])


def test_tokenizers_that_fail_are_refused() -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    for error in (Exception("WordLevel error: Missing [UNK] token"), KeyError("x"), panic("index\nout of bounds")):
        _refused("The tokenizer fails on the text", tokenizer=Broken(error))
    _refused("shorter than one window: 0 tokens", tokenizer=Broken(None))


def test_a_tokenizer_that_blows_up_is_given_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand ids a character: the text is not read on for more of them."""
    given: list[int] = []

    class Many(Broken):
        def __call__(self, text: str, **_: Any) -> SimpleNamespace:
            given.append(len(text))
            return SimpleNamespace(input_ids=[0] * (1000 * len(text)), offset_mapping=[(0, 0)] * (1000 * len(text)))

    corpus = tokenize("python-docs", Many(None), tokens=64 * 16, window=16)
    assert max(given) <= 256
    assert corpus.held_out.text_bytes.sum() == 0


def test_unreachable_hub_texts_are_refused() -> None:
    _refused("Cannot read the data set", "wikitext2")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("größe".encode("latin-1") * 100)
    _refused("not UTF-8", str(tmp_path / "latin.txt"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "gr\xf6\xdfe"}\n')
    _refused("not UTF-8", str(tmp_path / "latin.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"text": "one"}\nnot json\n')
    _refused("line 2 of bad.jsonl", str(tmp_path / "bad.jsonl"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 is not enough")
    _refused("Not a Parquet file", str(tmp_path / "bad.parquet"))


def test_missing_columns_are_refused(tmp_path: Path) -> None:
    _write_jsonl(tmp_path / "body.jsonl", "body")
    _refused("Missing column 'text'.*'id', 'body'", str(tmp_path / "body.jsonl"))
    _write_parquet(tmp_path / "body.parquet", "body")
    _refused("Missing column 'text'.*'id', 'body'", str(tmp_path / "body.parquet"))
    (tmp_path / "list.jsonl").write_text("[1, 2]\n")
    _refused("Missing column 'text'", str(tmp_path / "list.jsonl"))


def test_bad_choices_of_bos_are_refused() -> None:
    _refused("Unknown choice for BOS", bos="sometimes")
    without = make_tokenizer()
    without.bos_token = None
    _refused("no BOS token", tokenizer=without, bos="always")
