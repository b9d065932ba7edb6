"""Plan: an order of removal, and the masks that a slider walks through; a small JSON file.

`PlanSpec` says which plan is meant, in one line of text that serves the URL, the file and the database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from explorer.benchmarks import is_item_criterion
from explorer.deltas import ModifierSpec, read_modifiers
from explorer.errors import MaskError, PlanError
from explorer.masks import NONE, Mask
from explorer.measures import CRITERIA
from explorer.modifiers import find_modifier
from explorer.plans.budgets import Budget
from explorer.plans.catalogue import METHODS
from explorer.reading import read_json

#: The largest width, seed and number of steps, and the longest text of protected layers.
MOST_WIDTH, MOST_SEED, MOST_STEPS = 1000, 2**63 - 1, 20_000
_LONGEST = 10_000

#: Of the files; one of a later format is refused.
_FORMAT = 1

#: Sites that the masks of a plan file name, all together, at the most.
_MOST_SITES = 1_000_000

_FILE_REMEDY = "Use a file that 'plan' wrote"
_REMEDY = "Write METHOD/UNIT[;option=value], such as block-influence/layer or greedy/site;criterion=kl"


def check_criterion(name: str) -> str:
    """Return the name of a criterion. Raises PlanError if there is none of this name."""
    if name not in CRITERIA and not is_item_criterion(name):
        remedy = f"Use one of {', '.join(CRITERIA)}, task:NAME or probe:NAME"
        raise PlanError("Unknown criterion", repr(name), remedy)
    return name


@dataclass(frozen=True)
class PlanSpec:
    """How to choose what to remove. Its text form is `METHOD/UNIT`, with `;name=value` where not the default.

    Args:
        method: a name in `METHODS`.
        unit: `layer`, `attention`, `mlp`, or `site` for both of these together.
        iterative: measure again after each removal.
        protect: layers that stay whole, such as `0-3,28-29`; `firstN` and `lastN` are so many, `first,last` the four
            and two of Shortened LLaMA's "+"; `none` protects none.
        criterion: what a search lowers: a name in `CRITERIA`, or `task:NAME`, `probe:NAME`.
        seed: of what is drawn at random.
        width: what the method's option of this name says, such as masks that a beam keeps.
        confidence: of the races by which a search drops candidates; 1 is exact.
        steps: removals at the most; 0 goes as far as there is something left.
        budget: what has to go, such as `parameters=20%`, after which the plan ends; see `budgets`.
        modify: what makes up for each mask that a search tries before it is judged: a modifier as `write_modifiers`
            writes it, such as `refit,where=before`.
    """

    method: str = "block-influence"
    unit: str = "layer"
    iterative: bool = False
    protect: str = "none"
    criterion: str = "perplexity"
    seed: int = 0
    width: int = 4
    confidence: float = 0.95
    steps: int = 0
    budget: str = ""
    modify: str = ""

    def __post_init__(self) -> None:
        method = METHODS.get(self.method)
        if method is None:
            raise PlanError("Unknown method", repr(self.method), "Use one of " + ", ".join(METHODS))
        if self.unit not in method.units:
            raise PlanError(
                f"{self.method} does not rank by {self.unit!r}", self.method, "Use " + " or ".join(method.units)
            )
        if self.iterative and not method.iterative:
            raise PlanError(f"{self.method} does not measure again", "iterative", "Leave it out")
        check_criterion(self.criterion)
        self._check_numbers()
        if self.modify and not method.search:
            raise PlanError(f"{self.method} judges no masks", f"modify {self.modify}", "Leave it out, or use greedy")
        if self.modifier is not None:
            find_modifier(self.modifier)
        if self.budget:
            Budget.parse(self.budget)
        if len(self.protect) > _LONGEST:
            raise PlanError("Too many layers are protected", self.protect[:40] + "...", "Write ranges, such as 0-3,28")
        self.protected(10**4)

    def _check_numbers(self) -> None:
        for name, value, least, most in (
            ("width", self.width, 1, MOST_WIDTH),
            ("steps", self.steps, 0, MOST_STEPS),
            ("seed", self.seed, 0, MOST_SEED),
        ):
            if not least <= value <= most:
                raise PlanError("Out of range", f"{name} {value}", f"Use a {name} from {least} to {most}")
        if not 0 < self.confidence <= 1:
            raise PlanError("Out of range", f"confidence {self.confidence}", "Use a confidence above 0, at most 1")

    @classmethod
    def parse(cls, text: str) -> PlanSpec:
        """Read the text form. Raises PlanError or MaskError on malformed text."""
        head, *options = text.strip().split(";")
        method, _, unit = head.partition("/")
        values: dict[str, Any] = {"method": method}
        if unit or method in METHODS:
            values["unit"] = unit or METHODS[method].units[0]
        for option in options:
            name, _, value = option.partition("=")
            kind = _KINDS.get(name)
            try:
                if kind is None or not value or (kind is bool and value not in ("yes", "no")):
                    raise ValueError
                values[name] = value == "yes" if kind is bool else kind(value)
            except ValueError:
                raise PlanError("Malformed plan", repr(option), _REMEDY) from None
        return cls(**values)

    def __str__(self) -> str:
        options = [f for f in fields(self) if f.name not in ("method", "unit")]
        names = [f.name for f in options if getattr(self, f.name) != f.default]
        written = [f";{name}={'yes' if getattr(self, name) is True else getattr(self, name)}" for name in names]
        return f"{self.method}/{self.unit}" + "".join(written)

    @property
    def modifier(self) -> ModifierSpec | None:
        """What makes up for each mask that a search tries. Raises ModifyError or PlanError."""
        first, *more = read_modifiers(self.modify) or (None,)
        if more:
            raise PlanError("A search tries one modifier", self.modify, "Name one")
        return first

    def protected(self, n_layers: int) -> frozenset[int]:
        """The layers that stay whole in a model of so many. Raises MaskError if `protect` is malformed."""
        ends = [_END.fullmatch(term.strip()) for term in self.protect.split(",")]
        named = [term for term, end in zip(self.protect.split(","), ends, strict=True) if end is None]
        layers = {site.layer for site in Mask.parse(",".join(named)).sites} if named else set()
        for end in filter(None, ends):
            count = int(end[2] or _PLUS[end[1]])
            layers |= set(range(count) if end[1] == "first" else range(n_layers - count, n_layers))
        return frozenset(layer for layer in layers if 0 <= layer < n_layers)


_END = re.compile(r"(first|last)(\d{0,4})")
_PLUS = {"first": 4, "last": 2}
_DEFAULT = PlanSpec()
_KINDS: dict[str, Any] = {f.name: type(getattr(_DEFAULT, f.name)) for f in fields(PlanSpec)}


@dataclass(frozen=True)
class Effort:
    """What making a plan took.

    Args:
        layer_evaluations: layers run, times the windows that each was run on.
        seconds: wall time; of what was not stored before.
    """

    layer_evaluations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """An order of removal.

    Args:
        spec: how it was made.
        masks: what is off after 0, 1, 2 ... steps; the first is empty. Most methods add to the mask before; those
            that choose anew for every size do not.
        n_layers: L of the model.
        model: its name.
        text: name of the text whose calibration windows decided.
        effort: what it took.
    """

    spec: PlanSpec
    masks: tuple[Mask, ...]
    n_layers: int
    model: str = ""
    text: str = ""
    effort: Effort = field(default_factory=Effort, compare=False)

    @property
    def order(self) -> tuple[str, ...] | None:
        """What each step removes, as mask terms; None if the masks are not nested."""
        steps = list(zip(self.masks, self.masks[1:], strict=False))
        if not all(before <= after for before, after in steps):
            return None
        return tuple(str(after - before) for before, after in steps)

    def at(self, step: int) -> Mask:
        """Return the mask after some steps. Raises PlanError beyond the plan's end."""
        if not 0 <= step < len(self.masks):
            raise PlanError("No such step", f"step {step} of {len(self.masks) - 1}", "Name a step that the plan has")
        return self.masks[step]

    def nearest(self, share: float) -> int | None:
        """The step at which the share of sites that are off is nearest to this one; None if the plan ends before."""
        shares = [len(mask.sites) / (2 * self.n_layers) for mask in self.masks]
        if max(shares) < share - 0.5 / self.n_layers:
            return None
        return min(range(len(shares)), key=lambda step: abs(shares[step] - share))

    def describe(self) -> dict[str, Any]:
        """Return the plan as what JSON holds."""
        order = self.order
        return {
            "format": _FORMAT,
            "plan": str(self.spec),
            "method": self.spec.method,
            "unit": self.spec.unit,
            "model": self.model,
            "layers": self.n_layers,
            "text": self.text,
            "order": None if order is None else list(order),
            "steps": [{"mask": str(mask)} for mask in self.masks],
            "cost": {"layer_evaluations": self.effort.layer_evaluations, "seconds": self.effort.seconds},
        }

    @classmethod
    def read(cls, found: Any) -> Plan:
        """Make a plan of what `describe` gave. Raises PlanError if it is something else."""
        from explorer.plans.plan_file import PlanFile
        from explorer.read_back import read_back

        try:
            _check_length(found)
            file = read_back(PlanFile, found, _FORMAT)
            spec = PlanSpec.parse(file.plan)
            masks = _read_masks([step.mask for step in file.steps], file.layers)
        except ValueError as error:
            raise PlanError("Not a plan", str(error), _FILE_REMEDY) from None
        except MaskError as error:
            raise PlanError("Not a plan", f"{error.what}, {error.found}", _FILE_REMEDY) from None
        if not masks or masks[0] != NONE:
            raise PlanError("Not a plan", "its first step removes something", _FILE_REMEDY)
        effort = Effort(file.cost.layer_evaluations, file.cost.seconds)
        return cls(spec, masks, file.layers, file.model, file.text, effort)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan file. Raises PlanError."""
        return cls.read(read_json(path, PlanError, "Cannot read the plan", "Name a file that 'plan' wrote"))


def _check_length(found: Any) -> None:
    """Raise ValueError if a plan file has too many steps, before they take memory."""
    steps = found.get("steps") if isinstance(found, dict) else None
    if isinstance(steps, list) and len(steps) > MOST_STEPS + 1:
        raise ValueError(f"{len(steps)} steps, and {MOST_STEPS} at the most can be read")


def _read_masks(texts: list[str], n_layers: int) -> tuple[Mask, ...]:
    """Read the masks of a plan's steps. Raises MaskError or ValueError, before they take memory."""
    masks: list[Mask] = []
    left = _MOST_SITES
    for text in texts:
        masks.append(Mask.parse(text).checked(n_layers))
        left -= len(masks[-1].sites)
        if left < 0:
            raise ValueError(f"its steps name more than {_MOST_SITES} sites")
    return tuple(masks)
