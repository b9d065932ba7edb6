"""What a link may have this server read, over a table; and where exports from the page may go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from explorer.errors import ExportError
from explorer.text.hub_datasets import is_hub_name
from ui.export.export_folder import get_exports, place_export
from ui.parts.uploads import sort_out
from ui.view.permissions import Kind, NoName, Permissions


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder beside folders for models and texts, and things that nobody named."""
    for folder in ("work/models/llama", "work/.git", "models/tiny/.hidden", "texts", "secret", "modelsecret"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "models/inner").symlink_to(tmp_path / "models/tiny")
    (tmp_path / "models/out").symlink_to(tmp_path / "secret")
    (tmp_path / "work/out").symlink_to(tmp_path / "secret")
    (tmp_path / "work/circle").symlink_to(tmp_path / "work/circle")
    (tmp_path / "texts/out.txt").symlink_to(tmp_path / "secret/a.txt")
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def make(house: Path, **environment: str) -> Permissions:
    return Permissions.of({f"EXPLORER_{name.upper()}": value for name, value in environment.items()})


NAMED = [
    ("model", "SmolLM2-135M-Instruct", None),
    ("model", "org/model", None),
    ("model", "gpt2", None),
    ("model", "{house}/models/tiny", None),
    ("model", "{house}/models/inner", None),
    ("model", "{house}/models/not-there", None),
    ("model", "{house}/models/tiny/../tiny", None),
    ("model", "{house}/models", None),
    ("model", "{house}/models/out", "secret"),
    ("model", "{house}/models/out/deeper", "secret/deeper"),
    ("model", "{house}/models/../secret", "secret"),
    ("model", "{house}/modelsecret", "modelsecret"),
    ("model", "{house}/models/tiny/.hidden", "models/tiny/.hidden"),
    ("model", "{house}/texts", "texts"),
    ("model", "models/llama", "work/models/llama"),
    ("model", "./models/llama", "work/models/llama"),
    ("model", "out", "secret"),
    ("model", "../secret", "secret"),
    ("model", "~", "home"),
    ("model", "~/.ssh", "home/.ssh"),
    ("model", "model.gguf", "work/model.gguf"),
    ("model", "a/MODEL.GGUF", "work/a/MODEL.GGUF"),
    ("model", "a/b/c", "work/a/b/c"),
    ("model", "{house}/secret/", "secret"),
    ("model", "//{house}/secret", "secret"),
    ("text", "python-docs", None),
    ("text", "wikitext2", None),
    ("text", "hf:org/data:config:split:column", None),
    ("text", "hf:squad", None),
    ("text", "hf:{house}/texts/set::train", None),
    ("text", "hf:{house}/secret::train", "secret"),
    ("text", "hf:../secret", "secret"),
    ("text", "hf:~/set", "home/set"),
    ("text", "hf:a/b/c", "work/a/b/c"),
    ("text", "{house}/texts/a.txt", None),
    ("text", "tokens:{house}/texts/a.json", None),
    ("text", "{house}/texts/out.txt", "secret/a.txt"),
    ("text", "tokens:{house}/secret/a.json", "secret/a.json"),
    ("text", "tokens:~/a.json", "home/a.json"),
    ("text", "notes.txt", "work/notes.txt"),
    ("text", "{house}/models/a.txt", "models/a.txt"),
    ("text", "~/notes.md", "home/notes.md"),
]


@pytest.mark.parametrize(("kind", "name", "asked"), NAMED)
def test_a_link_reads_what_lies_in_the_folders_and_asks_for_the_rest(
    house: Path, kind: Kind, name: str, asked: str | None
) -> None:
    name = name.replace("{house}", str(house))
    found = make(house, models=str(house / "models"), texts=str(house / "texts")).asks(kind, name)
    assert found == (None if asked is None else house / asked)


@pytest.mark.parametrize(
    ("kind", "name", "asked"),
    [
        ("model", "models/llama", None),
        ("model", ".", None),
        ("model", ".git", "work/.git"),
        ("model", "out", "secret"),
        ("model", "{house}/models/tiny", "models/tiny"),
        ("model", "{house}/home/.cache/huggingface/hub/models--a--b/snapshots/1", None),
        ("model", "{house}/home/.cache/huggingface/token", "home/.cache/huggingface/token"),
        ("text", "notes.txt", None),
        ("text", ".env", "work/.env"),
        ("text", "/etc/passwd", "/etc/passwd"),
    ],
)
def test_without_folders_named_it_is_the_working_folder_and_the_cache_of_the_hub(
    house: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, name: str, asked: str | None
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(house / "home/.cache/huggingface/hub"))
    found = make(house).asks(kind, name.replace("{house}", str(house)))
    assert found == (None if asked is None else house / asked)


def test_the_root_of_the_file_system_is_no_working_folder(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert make(house).asks("text", "/etc/passwd") == Path("/etc/passwd")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("model", "a\0b"),
        ("text", "tokens:a\0b"),
        ("text", "\0"),
        ("text", "hf:"),
        ("text", "tokens:"),
        ("model", "é" * 200),
        ("text", "a" * 256 + ".txt"),
        ("text", "\ud800"),
        ("text", "hf:a\0"),
    ],
)
def test_what_is_no_name_at_all_is_said_to_be_none(house: Path, kind: Kind, name: str) -> None:
    with pytest.raises(NoName) as caught:
        make(house).asks(kind, name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["é" * 200, "a" * 5000, "circle", "a\nb"])
def test_odd_names_end_in_a_question_or_a_word_and_never_in_the_folders(house: Path, name: str) -> None:
    try:
        asked = make(house, models=str(house / "models")).asks("model", name)
    except NoName:
        return
    assert asked is not None


def test_what_was_agreed_to_is_not_asked_again(house: Path) -> None:
    permissions = make(house, models=str(house / "models"), model=str(house / "secret/chosen"))
    assert permissions.asks("model", str(house / "secret/chosen")) is None
    assert permissions.asks("model", "../secret") == house / "secret"
    permissions.agree("model", str(house / "models/out"))
    assert permissions.asks("model", "../secret") is None
    assert permissions.asks("model", "../secret/deeper") is not None
    assert permissions.asks("text", "../secret") is not None
    for number in range(3000):
        permissions.agree("text", f"/{number}")
    permissions.agree("text", "a\0b")
    assert len(permissions.agreed) == 1000


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("gpt2", True),
        ("meta-llama/Llama-2-7b_hf.v1", True),
        ("a" * 96, True),
        ("a" * 97, False),
        ("-a/b", False),
        ("a/.b", False),
        ("a//b", False),
        ("a/b/c", False),
        ("a..b", False),
        ("a--b", False),
        ("ä/b", False),
        ("a b", False),
        ("a/b\n", False),
        ("", False),
    ],
)
def test_names_of_the_hub(name: str, is_one: bool) -> None:
    assert is_hub_name(name) == is_one


@pytest.mark.parametrize("name", ["smaller", "a/smaller", "  spaced  ", "with space", "été", "a.b-c_d,e"])
def test_an_export_goes_below_the_folder(tmp_path: Path, name: str) -> None:
    assert place_export(name, tmp_path) == tmp_path / name.strip()


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../x", "a/../../x", "a/./../x", "/x", "//x", "~", "~/x", "~root/x", ".git", "a/.git/hooks",
     "a\\..\\x", "a\0b", "a\nb", "a" * 300, "é" * 150, "a/" * 300, "out", "out/x", "circle/x"],
)  # fmt: skip
def test_an_export_goes_nowhere_else(tmp_path: Path, name: str) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    (exports / "out").symlink_to(tmp_path)
    (exports / "circle").symlink_to(exports / "circle")
    with pytest.raises(ExportError) as caught:
        place_export(name, exports)
    assert len(str(caught.value).splitlines()) == 1


def test_the_folder_of_exports_is_the_operators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPLORER_EXPORTS", raising=False)
    assert get_exports() == Path("exports")
    monkeypatch.setenv("EXPLORER_EXPORTS", str(tmp_path))
    assert get_exports() == tmp_path


@dataclass
class File:
    name: str
    size: int

    def getvalue(self) -> bytes:
        return b""


def test_files_that_are_too_large_or_too_many_are_left_out() -> None:
    files = [File(str(number), 2**20) for number in range(10)]
    files.insert(1, File("large", 2**20 + 1))
    taken, left_out = sort_out(files, 1)
    assert [file.name for file in taken] == [str(number) for number in range(8)]
    assert [name for name, _ in left_out] == ["large", "8", "9"]
