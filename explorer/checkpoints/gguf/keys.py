"""The keys of a GGUF file, each taken by who uses it; what nobody took is refused."""

from __future__ import annotations

import math
from typing import Any

from explorer.checkpoints.gguf.file import GgufFile, refuse

#: Beginnings of keys that decide no number of the model: descriptions, the tokenizer (read apart), how it was made.
_FREE = ("general.", "tokenizer.", "split.", "quantize.", "imatrix.")

#: Keys of an architecture that decide no number of the model.
_DESCRIBING = ("rope.scaling.finetuned", "tensor_data_layout", "pooling_type")


class Keys:
    """Keys of a file's architecture, by their names without it."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file
        self.prefix = f"{file.architecture}."
        self.fields = {k.removeprefix(self.prefix): v for k, v in file.fields.items() if k.startswith(self.prefix)}
        self.taken: set[str] = set()

    def integer(self, name: str, default: int | None = None) -> int:
        """Take a whole number that is not negative. Raises ModelError: it is missing and has no default, or is none."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self._refuse(name, value)
        return value

    def real(self, name: str, default: float | None = None) -> float:
        """Take a finite number. Raises ModelError: it is missing and has no default, or is none."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse(name, value)
        return shorten(float(value))

    def text(self, name: str, default: str) -> str:
        """Take a text."""
        value = self._take(name, default)
        if not isinstance(value, str):
            self._refuse(name, value)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Take a yes or no."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            self._refuse(name, value)
        return value

    def layers(self, name: str) -> Any:
        """Take a value as it is, a list of one for each layer perhaps; None where there is none."""
        self.taken.add(name)
        return self.fields.get(name)

    def only(self, name: str, *allowed: Any) -> None:
        """Take a key that, where it is there, must have one of some values."""
        if name in self.fields and self._take(name, None) not in allowed:
            self._refuse(name, self.fields[name])

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def finish(self) -> None:
        """Raise ModelError if a key of the file was taken by nobody and may decide a number."""
        foreign = [key for key in self.file.fields if not key.startswith((self.prefix, *_FREE))]
        unused = [self.prefix + key for key in self.fields if key not in self.taken and key not in _DESCRIBING]
        if named := sorted(unused) + sorted(foreign):
            more = f" and {len(named) - 1} more" if len(named) > 1 else ""
            value = str(self.file.fields[named[0]])[:40]
            refuse(self.file.path, f"the key {named[0]} = {value}{more} has no meaning here for {self.prefix[:-1]!r}")
        self.file_type()

    def file_type(self) -> None:
        """Raise ModelError if the file is no model: an adapter, or a projector of images."""
        if (kind := self.file.fields.get("general.type", "model")) != "model":
            refuse(self.file.path, f"it holds no model: general.type is {kind!r}")

    def _take(self, name: str, default: Any) -> Any:
        self.taken.add(name)
        value = self.fields.get(name, default)
        if value is None:
            refuse(self.file.path, f"the key {self.prefix}{name} is missing")
        if isinstance(value, list):  # one for each layer; alike, or they have no place in a config
            if not value or any(entry != value[0] for entry in value):
                refuse(self.file.path, f"{self.prefix}{name} differs from layer to layer")
            return value[0]
        return value

    def _refuse(self, name: str, value: Any) -> None:
        refuse(self.file.path, f"{self.prefix}{name} is {str(value)[:40]}")


def shorten(value: float) -> float:
    """Return the shortest number that is the same in float32, for files hold float32: 1e-05, not 9.99999974e-06."""
    import numpy as np

    single = np.float32(value)
    return float(str(single)) if float(single) == value else value
