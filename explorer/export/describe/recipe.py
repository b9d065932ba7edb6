"""What was exported -> recipe.json: mask, modifiers, plan, measurements; and back, so that it can be made again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import StrictBool, StrictInt

from explorer.deltas import Delta, ModifierSpec, Variant
from explorer.errors import ExportError
from explorer.export.formats import Format
from explorer.export.measurements import ExportMeasurements
from explorer.jsonable import to_json
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.modifiers import modify
from explorer.progress import Progress, unreported
from explorer.read_back import NotWhatWasWritten, read_back
from explorer.reading import read_json
from explorer.storage import Store
from explorer.text import Corpus

RECIPE = "recipe.json"

#: Where a recipe says its format (`format` is the target), and the format that is written. Those of the first name no
#: modifiers, and no text to decide by.
_KEY, _FORMAT = "recipe", 2


@dataclass(frozen=True)
class Recipe:
    """What it takes to make an export again.

    Args:
        model, text, tokens, window, bos, dtype, quantize, trust_remote_code: as the command line takes them.
        digest: of the model's files.
        mask: what is off.
        format: the target.
        export_dtype: that weights are written in, or `auto`.
        plan: the plan that the mask is a step of, if it is one.
        modifiers: what makes up for what is off, in their order.
        deltas: digest of what each made.
        calibration, calibration_tokens: what modifiers are fitted on, as the command line takes them.
        calibration_digest: of those windows.
    """

    model: str
    digest: str
    mask: str
    format: str
    text: str
    tokens: StrictInt
    window: StrictInt
    bos: str
    dtype: str
    quantize: str
    trust_remote_code: StrictBool
    plan: dict[str, Any] | None = None
    modifiers: tuple[str, ...] = ()
    deltas: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    calibration_tokens: StrictInt = 0
    calibration_digest: str = ""
    export_dtype: str = "auto"

    @classmethod
    def of(
        cls, loaded: LoadedModel, corpus: Corpus, variant: Mask | Variant, target: Format, plan: dict[str, Any] | None
    ) -> Recipe:
        """Describe an export of a loaded model.

        Raises ExportError: deltas were fitted on different windows, so that no one recipe makes them.
        """
        texts, tokens, digest = _find_calibration(corpus, variant.deltas)
        return cls(
            model=loaded.spec.model,
            digest=loaded.digest,
            mask=str(variant.mask),
            format=target.name,
            export_dtype=target.dtype,
            text=corpus.name,
            tokens=corpus.held_out.ids.size,
            window=corpus.window,
            bos="always" if corpus.bos else "never",
            dtype=loaded.dtype,
            quantize=loaded.spec.quantize,
            trust_remote_code=loaded.spec.trust_remote_code,
            plan=plan,
            modifiers=tuple(str(delta.modifier) for delta in variant.deltas),
            deltas=tuple(delta.digest for delta in variant.deltas),
            calibration=texts,
            calibration_tokens=tokens,
            calibration_digest=digest,
        )

    def check_model(self, loaded: LoadedModel) -> None:
        """Raise ExportError if this is not the model that the recipe was made of."""
        if loaded.digest != self.digest:
            raise ExportError(
                "The model is not the recipe's",
                f"its files have digest {loaded.digest}",
                "Name the model it was made of",
            )

    def make(
        self, loaded: LoadedModel, corpus: Corpus, store: Store, progress: Progress = unreported
    ) -> Mask | Variant:
        """Make the variant again.

        Raises:
            ExportError: the calibration windows are not those that modifiers were fitted on.
            MaskError, ModifyError: the recipe names what there is not.
            DeviceError, Cancelled: see `modify`.
        """
        mask = Mask.parse(self.mask).checked(loaded.n_layers)
        if not self.modifiers:
            return mask
        if corpus.calibration.digest != self.calibration_digest:
            raise ExportError(
                "The calibration windows are not the recipe's",
                f"{corpus.calibration_name} has digest {corpus.calibration.digest}",
                "Name the text that the modifiers were fitted on",
            )
        return modify(loaded, corpus, mask, [ModifierSpec.parse(text) for text in self.modifiers], store, progress)


def _find_calibration(corpus: Corpus, deltas: Sequence[Delta]) -> tuple[tuple[str, ...], int, str]:
    """Return texts, ids and digest of the windows that deltas were fitted on; with none, those that are decided by."""
    origins = [delta.origin for delta in deltas]
    if len({origin.corpus for origin in origins}) > 1:
        found = " and ".join(dict.fromkeys(f"{origin.modifier} on {origin.text}" for origin in origins))
        raise ExportError("The deltas were fitted on different windows", found, "Make them anew on one text")
    if not origins or origins[0].corpus == corpus.calibration.digest:
        return corpus.calibration_names, corpus.tokens, corpus.calibration.digest
    return tuple(origins[0].text.split(" + ")), origins[0].tokens, origins[0].corpus


def write_recipe(recipe: Recipe, revision: str | None, found: ExportMeasurements) -> str:
    """Write the JSON: the recipe and what was measured."""
    document = {_KEY: _FORMAT, **asdict(recipe), "revision": revision, "measured": found.describe()}
    return json.dumps(to_json(document), indent=2, allow_nan=False) + "\n"


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises ExportError if the file is not one."""
    remedy = "Give the recipe.json of an export"
    document = read_json(path, ExportError, "Cannot read the recipe", remedy)
    if not isinstance(document, dict) or _KEY not in document:
        raise ExportError("Not a recipe", str(path), remedy)
    try:
        return read_back(Recipe, document, _FORMAT, _KEY)
    except NotWhatWasWritten as error:
        raise ExportError("Cannot read the recipe", str(error), remedy) from None
