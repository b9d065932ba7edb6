"""Modifier: a way to change a model, and the function that does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from explorer.deltas import ModifierSpec
from explorer.errors import ModifyError

if TYPE_CHECKING:
    from explorer.modifiers.fitted import Fitted
    from explorer.modifiers.setting import Setting


@dataclass(frozen=True)
class Option:
    """An option of a modifier.

    Args:
        name: as written in its spec.
        label: what it means.
        default: its value where the spec has none.
        choices: the values that it can have; empty for a number.
        word: that it can have in place of a number.
        least, most: of a number.
        whole: whether a number has to be an integer.
        form: a regular expression for what it can have in place of a number.
        example: of that.
    """

    name: str
    label: str
    default: str
    choices: tuple[str, ...] = ()
    word: str = ""
    least: float = 0.0
    most: float = float("inf")
    whole: bool = False
    form: str = ""
    example: str = ""

    def check(self, value: str) -> None:
        """Raise ModifyError if a value is none that the option can have."""
        if self.choices:
            if value not in self.choices:
                raise ModifyError(f"{self.name} has no such value", value, "Use " + ", ".join(self.choices))
            return
        if value == self.word:
            return
        if self.form:
            if not re.fullmatch(self.form, value):
                raise ModifyError(f"{self.name} has no such value", value, f"Write it like {self.example}")
            return
        try:
            sound = self.least <= float(value) <= self.most and not (self.whole and float(value) % 1)
        except ValueError:
            sound = False
        if not sound:
            or_word = self.word and f"{self.word} or "
            most = "" if self.most == float("inf") else f" to {self.most:g}"
            number = "an integer" if self.whole else "a number"
            raise ModifyError(
                f"{self.name} has no such value", value, f"Use {or_word}{number} from {self.least:g}{most}"
            )


@dataclass(frozen=True)
class Modifier:
    """A way to change a model: to make up for what was removed, or to remove more.

    Args:
        name: in `MODIFIERS`.
        label: its name on a page.
        source: where it was published.
        makes: whether weights that are there change, or new ones stand in for what is off.
        what: what it does, in a sentence.
        cost: what it takes.
        function: gives what it made.
        options: those that it has.
        needs_mask: whether something has to be off.
        trains: whether it takes steps of an optimizer, and so minutes.
        beside: whether what it changes can stand beside weights that are quantized, and leave them as they are.
    """

    name: str
    label: str
    source: str
    makes: Literal["weights", "stand-ins"]
    what: str
    cost: str
    function: Callable[[Setting], Fitted]
    options: tuple[Option, ...] = ()
    needs_mask: bool = True
    trains: bool = False
    beside: bool = False

    @property
    def recovers(self) -> bool:
        """Whether it makes up for what is off, and in closed form."""
        return self.needs_mask and not self.trains

    def read(self, spec: ModifierSpec) -> dict[str, str]:
        """Return the value of every option. Raises ModifyError: the spec has one that this lacks, or a wrong value."""
        known = {option.name: option for option in self.options}
        given = dict(spec.options)
        if strange := sorted(set(given) - set(known)):
            has = "It has " + ", ".join(known) if known else "It has none"
            raise ModifyError(f"{self.name} has no option {strange[0]!r}", str(spec), has)
        for name, value in given.items():
            known[name].check(value)
        return {name: given.get(name, option.default) for name, option in known.items()}
