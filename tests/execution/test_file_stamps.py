"""What a page asks for sees the files of a text or model as they are at one moment, and changes from the next on."""

from __future__ import annotations

from pathlib import Path

from explorer.execution.file_stamps import seeing_files_once, stamp, stamp_once


def test_a_file_that_changes_is_seen_by_the_next_look(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("before")
    before = stamp(str(text))
    with seeing_files_once():
        assert stamp_once(str(text)) == before
        text.write_text("after that")
        assert stamp_once(str(text)) == before
        assert stamp(str(text)) != before
    with seeing_files_once():
        assert stamp_once(str(text)) == stamp(str(text)) != before
    text.unlink()
    assert stamp_once(str(text)) == ()


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    assert [(name, size) for name, size, _ in stamp(str(tmp_path))] == [("a", 1), ("b", 1)]
    assert stamp("") == ()
