"""LoadedModel, a draft for it -> text that transformers writes with its help: how fast, and whether it is the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from explorer.evaluation.decode_speed import RUNS
from explorer.evaluation.generation import write_exactly
from explorer.evaluation.token_rate import TokenRate
from explorer.model import LoadedModel, refusing_failures
from explorer.progress import Progress, unreported
from explorer.stopwatch import timing

_ROUNDS = 2 * RUNS  # tried at the most, where other work comes in between
TOKENS = 24  # written in a run


@dataclass(frozen=True)
class AssistedSpeed:
    """Greedy text of a model by itself and with a draft's help, from the same prompts.

    Args:
        alone, assisted: how fast it is written; None where other work came in between.
        per_pass: tokens written for each pass of the model.
        tokens: written with the draft's help.
        same: how many of them are those of the model by itself, text by text up to the first that differs.
    """

    alone: TokenRate | None
    assisted: TokenRate | None
    per_pass: float
    tokens: int
    same: int

    @property
    def speed_up(self) -> float | None:
        """How many times faster the median run is."""
        return self.assisted.median / self.alone.median if self.alone and self.assisted else None


class _Passes(BaseStreamer):
    """Notes when tokens came, and how many at once."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.counts: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, then what each pass wrote."""
        self.times.append(time.perf_counter())
        self.counts.append(value.numel())

    def end(self) -> None:
        """Nothing more comes."""

    @property
    def rate(self) -> float:
        """Tokens a second after the first pass."""
        return sum(self.counts[2:]) / (self.times[-1] - self.times[1])


@torch.inference_mode()
def measure_assisted(
    loaded: LoadedModel, draft: Any, prompts: Sequence[Sequence[int]], drafted: int, progress: Progress = unreported
) -> AssistedSpeed:
    """Write from each prompt in turn, by the model alone and then with a draft's help.

    Args:
        draft: a transformers model with the same vocabulary.
        prompts: token ids.
        drafted: tokens that it drafts at once.
        progress: told the rounds.

    Raises:
        UnsupportedModel: transformers cannot take the model, or its draft, back to an earlier token.
        Cancelled: `progress` raised it.
    """
    settings = draft.generation_config
    settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = drafted, "constant"
    settings.assistant_confidence_threshold = 0.0  # it drafts as many, whatever it thinks of them
    tokens = same = passes = 0
    rounds: list[tuple[float, float]] = []
    for number in range(-1, _ROUNDS):  # the first round is slower, and not counted
        progress(max(number, 0), RUNS, "Drafting")
        if len(rounds) == RUNS:
            break
        prompt = torch.tensor([list(prompts[number % len(prompts)])], device=loaded.device)
        with timing() as watch:
            (plain, alone), (text, helped) = (_write(loaded, prompt, each) for each in (None, draft))
        tokens, passes = tokens + len(text), passes + len(helped.counts) - 1
        same += int((plain == text).cumprod(0).sum())
        if number >= 0 and not watch.stood:
            rounds.append((alone.rate, helped.rate))
    speeds = [TokenRate.of(each) for each in zip(*rounds, strict=True)]
    slow, fast = speeds if len(rounds) == RUNS else (None, None)
    return AssistedSpeed(slow, fast, tokens / passes, tokens, same)


def _write(loaded: LoadedModel, prompt: torch.Tensor, draft: Any) -> tuple[torch.Tensor, _Passes]:
    """Return what is written after a prompt (1, length), and when it came."""
    room = (loaded.positions or 2**31) - prompt.shape[1] - 1
    length = min(TOKENS, room)
    config = write_exactly(length)
    passes = _Passes()
    with refusing_failures(loaded.model, "No draft helps this model in transformers", "Use its servers' own drafting"):
        written = loaded.model.generate(
            prompt,
            generation_config=config,
            attention_mask=torch.ones_like(prompt),
            assistant_model=draft,
            streamer=passes,
        )
    return written[0, prompt.shape[1] :], passes
