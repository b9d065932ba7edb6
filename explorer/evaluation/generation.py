"""LoadedModel, Variant, prompt -> text, with a KV cache where the model has one."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from explorer.deltas import Variant
from explorer.errors import TextError, UnsupportedModel
from explorer.evaluation.samples import Sample
from explorer.evaluation.token_streaming import Listener, TextSoFar, TokenTimes
from explorer.masks import Mask
from explorer.model import Ids, LoadedModel, refusing_failures
from explorer.stopwatch import timing
from explorer.text import ChatTemplate, check_ids, decode, encode


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    variant: Mask | Variant,
    prompt: str,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
    listener: Listener | None = None,
) -> Sample:
    """Write on from a prompt with what is off, and changed: greedy at temperature 0, else sampled from the seed.

    Nothing of the checkpoint's generation config changes what that means but the tokens that end a text. Where a logit
    is not a number or infinite, the text ends before, and the sample says that it overflowed.

    Args:
        chat: put the prompt in the tokenizer's chat template as the user's turn.
        listener: told the text so far after every token.

    Raises:
        MaskError: the variant names a layer that the model lacks.
        TextError: the prompt is empty, or too long for the model's positions; or the temperature is too low.
        UnsupportedModel: the model is streamed.
    """
    check_writes(loaded)
    ids = _encode(loaded, prompt, chat)
    if loaded.positions is not None and ids.shape[1] + max_new_tokens > loaded.positions:
        raise TextError(
            "The text would outgrow the model's positions",
            f"{ids.shape[1]} + {max_new_tokens} tokens of {loaded.positions}",
            "Shorten the prompt or ask for fewer tokens",
        )
    sampling = _sampling(temperature)
    streamer = TextSoFar(loaded.tokenizer, listener) if listener else None
    devices = [loaded.device] if loaded.device.type == "cuda" else []
    with loaded.wrappers.as_variant(variant.checked(loaded.n_layers)), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        prompt_perplexity = _measure_prompt(loaded, ids)
        start = time.perf_counter()
        output, overflow = _write(loaded, ids, max_new_tokens, streamer, **sampling)
        seconds = time.perf_counter() - start
    new = output[ids.shape[1] :].tolist()
    return Sample(
        prompt,
        variant,
        decode(loaded.tokenizer, new, skip_special_tokens=True),
        tuple(new),
        seconds,
        prompt_perplexity,
        overflow,
    )


@torch.inference_mode()
def write_until(
    loaded: LoadedModel, variant: Mask | Variant, ids: Sequence[int], stops: Sequence[str], max_new_tokens: int
) -> list[int]:
    """Write on greedily from token ids until one of some texts is written, or a token that ends a text.

    Returns:
        The new ids, up to the one that completed a stop; where a logit is not finite they end before.

    Raises:
        MaskError: the variant names a layer that the model lacks.
        UnsupportedModel: the model is streamed.
    """
    check_writes(loaded)
    prompt = torch.tensor([ids], device=loaded.device)
    stopping = StoppingCriteriaList([_Stop(loaded.tokenizer, len(ids), stops)])
    with loaded.wrappers.as_variant(variant.checked(loaded.n_layers)):
        written, _ = _write(loaded, prompt, max_new_tokens, None, stopping, **_sampling(0))
    return written[len(ids) :].tolist()


class _Stop(StoppingCriteria):
    """Ends a text when what was written has one of some texts in it."""

    def __init__(self, tokenizer: Any, start: int, stops: Sequence[str]) -> None:
        self.tokenizer, self.start, self.stops = tokenizer, start, [stop for stop in stops if stop]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        text = decode(self.tokenizer, input_ids[0, self.start :].tolist())
        done = any(stop in text for stop in self.stops)
        return torch.full((len(input_ids),), done, device=input_ids.device)


def check_writes(loaded: LoadedModel) -> None:
    """Raise UnsupportedModel for a streamed model, which would be read once for every token."""
    if loaded.spec.stream:
        found = "the weights would be read once a token"
        raise UnsupportedModel("A streamed model does not write", found, "Load it without --stream")


@torch.inference_mode()
def time_decoding(loaded: LoadedModel, variant: Mask | Variant, tokens: int) -> float | None:
    """Time decoded tokens per second of a variant, once, one text at a time, after a short prompt.

    The first token, which follows the prompt, is not counted. None if other work was let in meanwhile, or
    the arithmetic overflows.
    """
    times = TokenTimes()
    ids = _encode(loaded, "Once upon a time", chat=False)
    with loaded.wrappers.as_variant(variant.checked(loaded.n_layers)), timing() as watch:
        _write(loaded, ids, tokens, times, min_new_tokens=tokens, **_sampling(0))
    return None if watch.stood else times.rate


def write_exactly(tokens: int) -> GenerationConfig:
    """Return how transformers writes so many tokens greedily, wherever a text would end."""
    config = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, use_cache=True)
    config.eos_token_id, config.pad_token_id = None, 0
    return config


def write_greedily(
    model: Any, ids: Ids, tokens: int, cached: bool
) -> tuple[list[int], list[Float[torch.Tensor, "1 vocabulary"]]]:
    """Write so many tokens, the likeliest ones, on from ids (1, length); return them and the logits that each is of.

    Raises UnsupportedModel: the model's own code fails.
    """
    config = write_exactly(tokens)
    config.use_cache, config.return_dict_in_generate, config.output_logits = cached, True, True
    with refusing_failures(model, "The model does not write", "Keep one attention on, or score it only"):
        written = model.generate(ids, generation_config=config, attention_mask=torch.ones_like(ids))
    return written.sequences[0, ids.shape[1] :].tolist(), list(written.logits)


def _write(
    loaded: LoadedModel,
    ids: torch.Tensor,
    tokens: int,
    streamer: BaseStreamer | None,
    stopping: StoppingCriteriaList | None = None,
    **more: Any,
) -> tuple[torch.Tensor, bool]:
    """Return the ids of a prompt and of what the model, masked by the caller, writes on; and whether it overflowed."""
    config = GenerationConfig(
        max_new_tokens=tokens,
        use_cache=takes_cache(loaded),
        eos_token_id=_find_ends(loaded) or None,
        pad_token_id=_pad_token(loaded.tokenizer),
        **more,
    )
    try:
        with refusing_failures(loaded.model, "The model does not write", "Keep one attention on, or score it only"):
            written = loaded.model.generate(
                ids,
                generation_config=config,
                attention_mask=torch.ones_like(ids),
                logits_processor=LogitsProcessorList([_Finite()]),
                streamer=streamer,
                stopping_criteria=stopping,
            )
    except _Overflow as overflow:
        return overflow.ids[0], True
    return written[0], False


def _find_ends(loaded: LoadedModel) -> list[int]:
    """Return the tokens that end a text: the tokenizer's, and those of the checkpoint's generation config."""
    named = loaded.model.generation_config.eos_token_id
    entries = [loaded.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return sorted({entry for entry in entries if entry is not None})


class _Overflow(Exception):
    """A logit is not finite; `ids` (1, length) are the prompt's and what was written until then."""

    def __init__(self, ids: torch.Tensor) -> None:
        self.ids = ids


class _Finite(LogitsProcessor):
    """Leaves logits as they are, and ends a text before a token would be chosen by what is no number."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(scores.max()):  # NaN if one is
            raise _Overflow(input_ids)
        return scores


def _measure_prompt(loaded: LoadedModel, ids: torch.Tensor) -> float | None:
    """Return the perplexity of a prompt (1, length) under the mask of the caller: None for a single token.

    It is infinite if a logit overflows.
    """
    if ids.shape[1] < 2:
        return None
    logits = loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    nll = float(F.cross_entropy(logits, ids[0, 1:].to(logits.device)))
    return math.exp(min(nll, 700.0)) if math.isfinite(nll) else math.inf


def takes_cache(loaded: LoadedModel) -> bool:
    """Tell whether a model takes a cache of transformers, under any name, or a state in its place."""
    return not {"cache_params", "past_key_values", "state"}.isdisjoint(
        inspect.signature(loaded.model.forward).parameters
    )


def _encode(loaded: LoadedModel, prompt: str, chat: bool) -> torch.Tensor:
    """Return the prompt's ids (1, length), with what the tokenizer adds."""
    if not prompt.strip():
        raise TextError("The prompt is empty", repr(prompt), "Write some words to go on from")
    if chat and loaded.tokenizer.chat_template is None:
        raise TextError("The model has no chat template", loaded.spec.model, "Leave the chat template off")
    text = prompt = prompt.encode(errors="replace").decode()
    if chat:
        with ChatTemplate(loaded.tokenizer) as template:
            text = template.write([{"role": "user", "content": prompt}], goes_on=True)
    ids = encode(loaded.tokenizer, text, return_tensors="pt", add_special_tokens=not chat).input_ids
    if ids.numel() == 0:
        raise TextError("The tokenizer makes no token of the prompt", repr(prompt), "Write other words to go on from")
    check_ids(loaded.tokenizer, ids[0].tolist(), loaded.vocabulary)
    return ids.to(loaded.device)


def _sampling(temperature: float) -> dict[str, Any]:
    if temperature <= 0:
        return {"do_sample": False}
    if temperature < 1e-5:
        raise TextError("The temperature is too low to sample by", str(temperature), "Use 0, or 1e-5 and more")
    return {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}


def _pad_token(tokenizer: Any) -> int | None:
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
