"""Where an export goes: refused early, written beside its place, renamed at the end; leftovers of killed ones go.

While an export runs there is a folder `.NAME.partial-XXXX` beside the target. It holds a lock file, what is being
written, and what is being replaced. The lock ends with its process, so a folder whose lock is free is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from explorer.errors import ExportError
from explorer.paths import expand_user

#: Files beside weights and config that go along from the source.
CARRIED = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "spiece.model",
    "chat_template*", "generation_config.json", "*processor_config.json", "*.py", "LICENSE*", "NOTICE*",
)  # fmt: skip

_WRITTEN = (
    "config.json",
    "README.md",
    "recipe.json",
    "mergekit.yaml",
    "*.gguf",
    "*.safetensors",
    "*.index.json",
    "adapter",
)
_LOCK, _REPLACED = "layer-redundancy-explorer.lock", "replaced"
_SPARE = 1 << 26  # bytes for what is not weights


def check_target(out: Path, sources: list[Path], needed: int, overwrite: bool) -> Path:
    """Return the absolute target. Raises ExportError if an export there, of files in `sources`, is refused."""
    out = expand_user(out).absolute()
    try:
        resolved, exists = out.resolve(), out.exists()
    except OSError as error:
        raise ExportError("The target cannot be written", f"{error.strerror}", "Name another folder") from None
    except (RuntimeError, ValueError):  # a loop of links; a NUL
        raise ExportError("The target cannot be written", f"no folder can be {out}", "Name another") from None
    if any(resolved == source or source in resolved.parents or resolved in source.parents for source in sources):
        raise ExportError("The target overlaps the source checkpoint", str(out), "Name a folder elsewhere")
    if out.is_symlink():
        raise ExportError("The target is a link", str(out), "Name the folder itself")
    if exists:
        _check_replaceable(out, overwrite)
    parent = next(p for p in out.parents if p.exists())
    if not os.access(parent, os.W_OK | os.X_OK) or not parent.is_dir():
        raise ExportError("The target cannot be written", f"no permission in {parent}", "Name a folder elsewhere")
    free = shutil.disk_usage(parent).free
    if free < needed + _SPARE:
        raise ExportError(
            "Not enough disk", f"{free / 1e9:.2f} GB free in {parent}, {needed / 1e9:.2f} GB needed", "Free some space"
        )
    return out


def _check_replaceable(out: Path, overwrite: bool) -> None:
    """Raise ExportError unless the target is an empty folder, or an export and nothing else, to be replaced."""
    if not out.is_dir():
        raise ExportError("The target is a file", str(out), "Name a folder")
    names = sorted(path.name for path in out.iterdir())
    if names and not overwrite:
        raise ExportError("The target is not empty", str(out), "Name another, or allow it with --overwrite")
    if names and not {"config.json", "recipe.json"} & set(names):
        raise ExportError("The target holds no checkpoint to replace", str(out), "Name another folder")
    foreign = [name for name in names if not any(fnmatch(name, pattern) for pattern in (*CARRIED, *_WRITTEN))]
    if foreign:
        raise ExportError("The target holds more than a checkpoint", f"{foreign[0]} in {out}", "Name another folder")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a folder beside the target that takes its place if the block succeeds, and goes if it fails."""
    made = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage, lock = _make_stage(out)
    except OSError as error:
        found = f"{out} ({error.strerror})"
        raise ExportError("The target cannot be written", found, "Name a folder elsewhere") from None
    try:
        folder = stage / out.name
        folder.mkdir()
        yield folder
        _take_place(folder, out, stage)
    except OSError as error:
        raise ExportError(
            "Writing failed", error.strerror or str(error), "Free space, or name another folder"
        ) from error
    finally:
        _clear(stage)
        os.close(lock)
        for parent in made if not out.exists() else []:
            with suppress(OSError):
                parent.rmdir()


def _make_stage(out: Path) -> tuple[Path, int]:
    """Make the folder to write in, and return it with its lock held."""
    while True:
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        with suppress(FileNotFoundError):  # another export took it for a leftover before it was locked
            lock = os.open(stage / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (stage / _LOCK).exists():
                return stage, lock
            os.close(lock)


def _take_place(folder: Path, out: Path, stage: Path) -> None:
    """Rename a folder to the target; what was there goes only after that, and until then can be put back."""
    if not out.exists():
        os.replace(folder, out)
        return
    os.replace(out, stage / _REPLACED)
    try:
        os.replace(folder, out)
    except OSError:
        os.replace(stage / _REPLACED, out)
        raise
    os.replace(stage / _REPLACED, stage / "gone")


def _clear(stage: Path) -> None:
    """Remove a staging folder, its lock last: without one it could not be told from what is not ours."""
    for path in stage.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        (stage / _LOCK).unlink()
        stage.rmdir()


def remove_leftovers(parent: Path) -> None:
    """Remove what exports that were killed left in a folder; put back what one was about to replace."""
    for stage in parent.glob(".*.partial-*"):
        if stage.is_symlink() or not stage.is_dir():
            continue
        try:
            lock = os.open(stage / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            with suppress(OSError):
                stage.rmdir()  # only if it is empty: killed before it had a lock
            continue
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # an export that still runs
        else:
            out = parent / stage.name[1:].rpartition(".partial-")[0]
            if (stage / _REPLACED).is_dir() and not out.exists():
                os.replace(stage / _REPLACED, out)
            _clear(stage)
        finally:
            os.close(lock)
