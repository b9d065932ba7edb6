"""Files from the browser: so many, and so large, and no more."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import streamlit as st

from ui.parts.markdown import escape_markdown

MOST_FILES = 8

#: Endings of files that are texts.
TEXT_KINDS = ["txt", "md", "jsonl", "parquet"]


class Uploaded(Protocol):
    """What is needed of an uploaded file."""

    name: str
    size: int

    def getvalue(self) -> bytes:
        """Return its content."""


def upload(label: str, kinds: str | list[str], key: str, megabytes: int) -> list[Uploaded]:
    """Let the user add files; return those that may be read, and say why of the others.

    Args:
        megabytes: of one file at most. The browser is told; what it sends all the same is left out here.
    """
    files = st.file_uploader(label, kinds, accept_multiple_files=True, key=key, max_upload_size=megabytes)
    taken, left_out = sort_out(files, megabytes)
    for name, reason in left_out:
        st.error(escape_markdown(f"{name}: {reason}"))
    return taken


def sort_out(files: Sequence[Uploaded], megabytes: int) -> tuple[list[Uploaded], list[tuple[str, str]]]:
    """Part files into those to be read, and the names of the others with the reason."""
    taken: list[Uploaded] = []
    left_out = []
    for file in files:
        if file.size > megabytes * 2**20:
            left_out.append((file.name, f"larger than {megabytes} MB; put it on the server and name its path instead."))
        elif len(taken) == MOST_FILES:
            left_out.append((file.name, f"one more than the {MOST_FILES} that are read at once."))
        else:
            taken.append(file)
    return taken, left_out


def keep_upload(name: str, content: bytes, cache: Path) -> Path:
    """Keep an uploaded text in the cache, under its name and a digest of its content."""
    folder = cache / "uploads" / hashlib.sha256(content).hexdigest()[:12]
    path = folder / Path(name).name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path
