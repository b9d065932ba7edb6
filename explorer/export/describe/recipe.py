"""What was exported -> recipe.json: mask, plan and measurements; and back, so that the export can be made again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import StrictBool, StrictInt

from explorer.errors import ExportError
from explorer.export.measurements import ExportMeasurements
from explorer.jsonable import to_json
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.read_back import NotWhatWasWritten, read_back
from explorer.reading import read_json
from explorer.text import Corpus

FILE = "recipe.json"

#: Where a recipe says its format (`format` is the target), and the format that is written.
_KEY, _FORMAT = "recipe", 1


@dataclass(frozen=True)
class Recipe:
    """What it takes to make an export again.

    Args:
        model, text, tokens, window, bos, dtype, quantize, trust_remote_code: as the command line takes them.
        digest: of the model's files.
        mask: what is off.
        format: the target.
        plan: the plan that the mask is a step of, if it is one.
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

    @classmethod
    def of(cls, loaded: LoadedModel, corpus: Corpus, mask: Mask, format: str, plan: dict[str, Any] | None) -> Recipe:
        """Describe an export of a loaded model."""
        return cls(
            model=loaded.spec.model,
            digest=loaded.digest,
            mask=str(mask),
            format=format,
            text=corpus.name,
            tokens=corpus.tokens,
            window=corpus.window,
            bos="always" if corpus.bos else "never",
            dtype=loaded.dtype,
            quantize=loaded.spec.quantize,
            trust_remote_code=loaded.spec.trust_remote_code,
            plan=plan,
        )

    def check_model(self, loaded: LoadedModel) -> None:
        """Raise ExportError if this is not the model that the recipe was made of."""
        if loaded.digest != self.digest:
            raise ExportError(
                "The model is not the recipe's",
                f"its files have digest {loaded.digest}",
                "Name the model it was made of",
            )


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
