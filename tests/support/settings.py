"""What a modifier works with, made by hand."""

from __future__ import annotations

from explorer.deltas.delta import Origin
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.masks.mask import Mask
from explorer.model.layerwise import LayerwisePass
from explorer.model.loading import LoadedModel
from explorer.modifiers.catalogue import find_modifier
from explorer.modifiers.reference import Reference
from explorer.modifiers.setting import Setting
from explorer.text.windows import Corpus
from tests.support.tiny_models import WINDOW


def make_setting(
    loaded: LoadedModel, mask: Mask, text: str, windows: int = 20, corpus: Corpus | None = None
) -> Setting:
    """A setting over calibration windows of the built-in text, if there are no others."""
    spec = ModifierSpec.parse(text)
    calibration = corpus.calibration if corpus else loaded.tokenize("python-docs", windows * WINDOW, WINDOW).calibration
    run = LayerwisePass(loaded, calibration.ids, 4)
    origin = Origin(spec, mask, loaded.digest, "python-docs", calibration.ids.size, calibration.digest)
    return Setting(run, Reference(run), origin, (), find_modifier(spec).read(spec))
