"""The whole export: refuse early, write beside the target, verify, rename."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from explorer.costs import take_inventory
from explorer.errors import ExportError
from explorer.export.card import make_card, make_command
from explorer.export.layout import Layout
from explorer.export.safetensors import Shard, plan_shards, write_shards
from explorer.export.verify import Verification, verify
from explorer.loading import LoadedModel
from explorer.masks import NONE, Mask
from explorer.records import Corpus, Progress, unreported
from explorer.store import Store

_CARRIED = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "spiece.model",
    "chat_template*", "generation_config.json", "*.py",
)  # fmt: skip

_WRITTEN = ("config.json", "README.md", "*.safetensors", "*.safetensors.index.json")


@dataclass(frozen=True)
class ExportPlan:
    """What an export would write, before anything is written."""

    layout: Layout
    shards: list[Shard]
    config: dict

    @property
    def bytes(self) -> int:
        """Bytes of weights to be written."""
        return sum(shard.size for shard in self.shards)


@dataclass(frozen=True)
class Exported:
    """A checkpoint that was written and found equal to what was measured."""

    out: Path
    bytes: int
    layers: int
    command: str
    verification: Verification


def plan_export(loaded: LoadedModel, mask: Mask) -> ExportPlan:
    """Decide what becomes of every tensor, reading headers only.

    Raises:
        MaskError: the mask names a layer that the model lacks.
        ExportError: no layer is left, or the mask cannot be written exactly.
    """
    layout = Layout(loaded.family, mask.checked(loaded.n_layers), loaded.n_layers)
    if not layout.kept:
        raise ExportError("Nothing is left to export", "every layer is off", "Keep at least one layer")
    if layout.zero_sites and "quantization_config" in loaded.checkpoint.config:
        raise ExportError(
            "Quantized weights cannot be zeroed", "the checkpoint is quantized", "Export from the 16-bit original"
        )
    shards = plan_shards(loaded.checkpoint.weights, layout.place)
    layout.check()
    return ExportPlan(layout, shards, layout.make_config(loaded.checkpoint.config, loaded.config))


def export(
    loaded: LoadedModel,
    mask: Mask,
    out: Path,
    corpus: Corpus,
    store: Store,
    *,
    overwrite: bool = False,
    progress: Progress = unreported,
) -> Exported:
    """Write the pruned checkpoint and prove it equal to what was measured.

    Layers that are off are dropped; sites that are off have their output projection zeroed. Bytes are copied from
    the checkpoint's files, never from the loaded copy. The target appears only when the reloaded copy has been
    compared with the masked model.

    Raises:
        MaskError, ExportError: refused before anything is written, or written and found different (then removed).
        Cancelled: `progress` raised it; nothing is left behind.
    """
    plan = plan_export(loaded, mask)
    command = make_command(loaded, corpus, mask, str(out))
    out = check_target(out, loaded.checkpoint.folder, plan.bytes, overwrite)
    with _staged(out) as folder:
        _write(loaded, plan, folder, progress)
        proof = verify(loaded, folder, mask, corpus, store, progress)
        written = Mask.of_layers(mask.whole_layers)  # zeroed sites are still there
        inventory = take_inventory(loaded.model, loaded.family)
        before, after = (inventory.costs(m, corpus.window) for m in (NONE, written))
        (folder / "README.md").write_text(make_card(loaded, corpus, mask, proof, before, after, command))
    return Exported(out, plan.bytes, len(plan.layout.kept), command, proof)


def check_target(out: Path, source: Path, needed: int, overwrite: bool) -> Path:
    """Return the absolute target. Raises ExportError if an export there is refused."""
    out = out.expanduser().absolute()
    try:
        resolved, exists = out.resolve(), out.exists()
    except OSError as error:
        raise ExportError("The target cannot be written", f"{error.strerror}", "Name another folder") from None
    if resolved == source or source in resolved.parents or resolved in source.parents:
        raise ExportError("The target overlaps the source checkpoint", str(out), "Name a folder elsewhere")
    if out.is_symlink():
        raise ExportError("The target is a link", str(out), "Name the folder itself")
    if exists:
        _check_replaceable(out, overwrite)
    parent = next(p for p in out.parents if p.exists())
    if not os.access(parent, os.W_OK | os.X_OK) or not parent.is_dir():
        raise ExportError("The target cannot be written", f"no permission in {parent}", "Name a folder elsewhere")
    free = shutil.disk_usage(parent).free
    if free < needed + 2**26:
        raise ExportError(
            "Not enough disk", f"{free / 1e9:.2f} GB free in {parent}, {needed / 1e9:.2f} GB needed", "Free some space"
        )
    return out


def _check_replaceable(out: Path, overwrite: bool) -> None:
    """Raise ExportError unless the target is an empty folder, or a checkpoint and nothing else, to be replaced."""
    if not out.is_dir():
        raise ExportError("The target is a file", str(out), "Name a folder")
    names = sorted(path.name for path in out.iterdir())
    if names and not overwrite:
        raise ExportError("The target is not empty", str(out), "Name another, or allow it with --overwrite")
    if names and "config.json" not in names:
        raise ExportError("The target holds no checkpoint to replace", str(out), "Name another folder")
    foreign = [name for name in names if not any(fnmatch(name, pattern) for pattern in (*_CARRIED, *_WRITTEN))]
    if foreign:
        raise ExportError("The target holds more than a checkpoint", f"{foreign[0]} in {out}", "Name another folder")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Give a folder beside the target that takes its place if the block succeeds, and goes if it fails."""
    made = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    except OSError as error:
        found = f"{out} ({error.strerror})"
        raise ExportError("The target cannot be written", found, "Name a folder elsewhere") from None
    try:
        yield folder
        folder.chmod(0o755)
        _take_place(folder, out)
    except OSError as error:
        raise ExportError(
            "Writing failed", error.strerror or str(error), "Free space, or name another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made if not out.exists() else []:
            with suppress(OSError):
                parent.rmdir()


def _take_place(folder: Path, out: Path) -> None:
    """Rename a folder to the target; what was there goes only after that."""
    if not out.exists():
        os.replace(folder, out)
        return
    old = folder.with_name(folder.name + ".old")
    os.replace(out, old)
    try:
        os.replace(folder, out)
    except OSError:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(loaded: LoadedModel, plan: ExportPlan, folder: Path, progress: Progress) -> None:
    source = loaded.checkpoint.folder
    for pattern in _CARRIED:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
    (folder / "config.json").write_text(json.dumps(plan.config, indent=2) + "\n")
    written = 0

    def report(size: int) -> None:
        nonlocal written
        written += size
        progress(written, plan.bytes, "Writing weights")

    write_shards(plan.shards, folder, report)
