"""What every verb works with: the shared options, the model and text they name, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from explorer.checkpoints import DEFAULT_MODEL, ModelSpec
from explorer.deltas import Variant, read_delta, read_modifiers
from explorer.errors import ModifyError, PlanError, escape
from explorer.masks import Mask
from explorer.model import CostModel, Costs
from explorer.paths import OFFLOADED
from explorer.plans import Plan
from explorer.progress import Progress
from explorer.reading import is_file
from explorer.storage import Store, remove_leftovers
from explorer.text import DEFAULT_TEXT, Corpus, check_window, read_mixture

if TYPE_CHECKING:
    from explorer.model import LoadedModel


@dataclass(frozen=True)
class Settings:
    """The options that every verb takes."""

    model: Annotated[
        str, typer.Option(help="Hub id, folder or .gguf file.", envvar="EXPLORER_MODEL", show_default=DEFAULT_MODEL)
    ] = DEFAULT_MODEL
    text: Annotated[
        str,
        typer.Option(
            help="python-docs, wikitext2, c4, a .txt, .md, .jsonl or .parquet file, "
            "hf:DATASET[:CONFIG[:SPLIT[:COLUMN]]] or tokens:FILE.json."
        ),
    ] = DEFAULT_TEXT
    tokens: Annotated[int, typer.Option(help="Token ids in each split, rounded down to windows.")] = 2048
    window: Annotated[int, typer.Option(help="Token ids in a window, BOS included.")] = 256
    calibration: Annotated[
        list[str],
        typer.Option(help="Text that is decided by, if not --text; again to mix several, NAME@2 for twice as much."),
    ] = field(default_factory=list)
    calibration_tokens: Annotated[int, typer.Option(help="Token ids to decide by; 0: as --tokens.", min=0)] = 0
    bos: Annotated[str, typer.Option(help="BOS before each window: auto, always or never.")] = "auto"
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto"
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, cuda:i, or map[:0=20GiB,cpu=40GiB]: over GPUs, memory, disk."),
    ] = "auto"
    quantize: Annotated[str, typer.Option(help="none, int8 or nf4, by bitsandbytes.")] = "none"
    stream: Annotated[
        bool, typer.Option("--stream", help="Read each layer from the files when it is run, for models beyond memory.")
    ] = False
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code the model brings.")] = False
    executor: Annotated[
        str,
        typer.Option(
            help="Who runs many masks: local, or ray[://HEAD:10001][;workers=N], on RAY_ADDRESS or this machine."
        ),
    ] = "local"
    cache: Annotated[Path, typer.Option(help="Folder of converted models and results.", envvar="EXPLORER_CACHE")] = (
        Path("cache")
    )
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write stored results.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False


class Work:
    """What a verb works with, made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._bar = ProgressBar()
        self.progress: Progress = self._bar
        self._open = ExitStack()

    @cached_property
    def spec(self) -> ModelSpec:
        """The model asked for."""
        s = self.settings
        return ModelSpec(s.model, s.dtype, s.device, s.trust_remote_code, s.quantize, s.stream)

    @cached_property
    def store(self) -> Store:
        """Where results are kept."""
        self.tidy()
        return Store(None if self.settings.no_cache else self.settings.cache)

    def tidy(self) -> None:
        """Let go what killed processes left half written in the cache."""
        for name in ("models", "arrays", OFFLOADED):
            remove_leftovers(self.settings.cache / name)

    def close(self) -> None:
        """Take the bar off the screen, and close what is open."""
        self._bar.close()
        self._open.close()
        if "store" in self.__dict__:
            self.store.close()

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model in memory."""
        from explorer.execution import ExecutorSpec, spreading
        from explorer.model import load, quieten_libraries

        ExecutorSpec.parse(self.settings.executor)  # raises before anything is read
        if not self.settings.text.startswith("tokens:"):
            check_window(self.settings.window, self.settings.tokens, None)
        quieten_libraries()
        loaded = load(self.spec, self.store, self.settings.cache, self.progress)
        self._bar.close()
        for notice in loaded.notices:
            print(f"note: {notice}", file=sys.stderr)
        self._open.enter_context(spreading(loaded, self.settings.executor, self.settings.cache))
        return loaded

    def cut(self, text: str, calibration: Mapping[str, float] = {}, calibration_tokens: int = 0) -> Corpus:
        """Cut a text into windows; see `LoadedModel.tokenize`."""
        s = self.settings
        return self.loaded.tokenize(text, s.tokens, s.window, s.bos, calibration, calibration_tokens)

    @cached_property
    def corpus(self) -> Corpus:
        """The text as windows."""
        return self.cut(self.settings.text, read_mixture(self.settings.calibration), self.settings.calibration_tokens)

    def corpora(self, texts: Sequence[str]) -> list[Corpus]:
        """Several texts as windows; without names, the one text."""
        return [self.cut(text) for text in texts] or [self.corpus]

    def names_file(self, given: str) -> bool:
        """Tell whether an option names a file rather than a plan or a modifier."""
        return given.endswith(".safetensors") or is_file(given)

    def mask(self, text: str, plan: Path | None = None, step: int | None = None) -> Mask:
        """Read a mask, or a step of a plan file, and check it against the model."""
        if plan is None:
            if step is not None:
                raise PlanError("A step of no plan", f"--step {step}", "Name the plan file with --plan")
            return Mask.parse(text).checked(self.loaded.n_layers)
        if text != "none":
            raise PlanError("Both a mask and a plan", f"{text} and {plan}", "Give one of them")
        found = self.check_plan(Plan.load(plan))
        if step is None:
            raise PlanError("No step of the plan", str(plan), "Say with --step how many of its removals to take")
        return found.at(step)

    def vary(self, mask: Mask, modify: Sequence[str]) -> Mask | Variant:
        """Return a mask with what `--modify` names made for it, or read from files, each over those before."""
        from explorer.modifiers import modify as make_deltas

        variant = Variant(mask)
        for given in modify:
            if self.names_file(given):
                delta = read_delta(Path(given))
                if delta.origin.base != self.loaded.digest:
                    raise ModifyError("The delta is of another model", given, "Make it again with 'modify --out'")
                variant = Variant(mask, (*variant.deltas, delta))
            else:
                specs = read_modifiers(given)
                if not specs:
                    raise ModifyError("No modifier is named", "--modify with nothing", "Name one, such as refit")
                variant = make_deltas(self.loaded, self.corpus, variant, specs, self.store, self.progress)
        return variant.plain

    def check_plan(self, found: Plan) -> Plan:
        """Return a plan. Raises PlanError if it is for a model of another number of layers."""
        if found.n_layers != self.loaded.n_layers:
            layers = f"{found.n_layers} layers; this one has {self.loaded.n_layers}"
            raise PlanError("The plan is for another model", layers, "Make one for this model with 'plan'")
        return found

    @cached_property
    def _inventory(self) -> CostModel:
        from explorer.model import count_parameters

        return count_parameters(self.loaded.model, self.loaded.architecture)

    def costs(self, mask: Mask) -> Costs:
        """What the model needs under a mask, at a context of one window."""
        return self._inventory.costs(mask, self.corpus.window)


class ProgressBar:
    """Shows progress on stderr if that is a terminal; a new bar for each kind of work."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._of: tuple[str, int] | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show how far work is; see `progress.Progress`."""
        if self._bar is None or self._of != (what, total):
            self.close()
            self._of = what, total
            self._bar = tqdm(total=total, desc=escape(what), file=sys.stderr, disable=None, leave=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
