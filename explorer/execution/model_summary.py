"""What the pages show of the model and the text."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.model import CostModel, LoadedModel, count_parameters
from explorer.text import Corpus


@dataclass(frozen=True)
class ModelSummary:
    """What the pages show of the model and the text."""

    architecture: str
    n_layers: int
    precision: str
    device: str
    cost_model: CostModel
    chat: bool
    text: str
    protocol: str
    window: int
    held_out_tokens: int
    calibration_tokens: int
    calibration_text: str
    notices: tuple[str, ...] = ()
    digest: str = ""  # of the model's files
    held_out_digest: str = ""


def summarize(loaded: LoadedModel, corpus: Corpus) -> ModelSummary:
    """Summarize a model and a text."""
    return ModelSummary(
        architecture=type(loaded.model).__name__,
        n_layers=loaded.n_layers,
        precision=loaded.precision,
        device=str(loaded.device),
        cost_model=count_parameters(loaded.model, loaded.architecture),
        chat=loaded.tokenizer.chat_template is not None,
        text=corpus.name,
        protocol=corpus.protocol,
        window=corpus.window,
        held_out_tokens=corpus.held_out.ids.size,
        calibration_tokens=corpus.calibration.ids.size,
        calibration_text=corpus.calibration_name,
        notices=loaded.notices,
        digest=loaded.digest,
        held_out_digest=corpus.held_out.digest,
    )
