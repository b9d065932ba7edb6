"""A modifier and its options, and the text form of one and of several. Knows no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from explorer.errors import ModifyError, shorten

_LONGEST = 400  # characters of a spec's text
_NAME, _OPTION = re.compile(r"[a-z][a-z0-9+-]*"), re.compile(r"[a-z][a-z0-9-]*")
_VALUE = re.compile(r"[A-Za-z0-9.:_+%-]+")
_BEFORE_OPTION = re.compile(",(?=[^,;]*=)")


@dataclass(frozen=True)
class ModifierSpec:
    """A way to change weights by name: `linear;rank=64`.

    The text form is canonical: options are sorted, `parse` and `str` are inverse. What options there are, and which
    values they take, is the modifier's to say: see `modifiers.find_modifier`.

    Args:
        name: of the modifier.
        options: (name, value) pairs, sorted by name.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> ModifierSpec:
        """Read the text form. Raises ModifyError on malformed text."""
        name, *rest = (part.strip() for part in text[: _LONGEST + 1].split(";"))
        options = dict(part.partition("=")[::2] for part in rest)
        sound = _NAME.fullmatch(name) and all(
            _OPTION.fullmatch(key) and _VALUE.fullmatch(value) for key, value in options.items()
        )
        if len(text) > _LONGEST or len(options) < len(rest) or not sound:
            raise ModifyError("Malformed modifier", shorten(repr(text), 100), "Write NAME or NAME;option=value")
        return cls(name, tuple(sorted(options.items())))

    def having(self, **options: str) -> ModifierSpec:
        """Return this with some options, in place of its own of these names."""
        return ModifierSpec(self.name, tuple(sorted((dict(self.options) | options).items())))

    def __str__(self) -> str:
        return ";".join([self.name, *(f"{key}={value}" for key, value in self.options)])


def read_modifiers(text: str) -> tuple[ModifierSpec, ...]:
    """Read modifiers in their order: `linear,rank=64,refit`. Raises ModifyError.

    What has a `=` is an option of the modifier before it; a `;` may stand before it too.
    """
    parts = _BEFORE_OPTION.sub(";", text).split(",") if text.strip() else ()
    return tuple(map(ModifierSpec.parse, parts))


def write_modifiers(specs: Iterable[ModifierSpec]) -> str:
    """Write modifiers as one text without a `;`, which separates what a plan's text is made of."""
    return ",".join(str(spec).replace(";", ",") for spec in specs)
