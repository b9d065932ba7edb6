"""LoadedModel, Mask, prompt -> text, with a KV cache that has no place for attention that is off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DummyLayer

from explorer.errors import TextError
from explorer.loading import LoadedModel
from explorer.masks import Mask
from explorer.records import Sample
from explorer.stopwatch import timing

#: Told the text so far after every token. It may raise `Cancelled` to stop.
Listener = Callable[[str], None]


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    mask: Mask,
    prompt: str,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
    listener: Listener | None = None,
) -> Sample:
    """Write on from a prompt under a mask: greedy at temperature 0, else sampled from the seed.

    Args:
        chat: put the prompt in the tokenizer's chat template as the user's turn.
        listener: told the text so far after every token.

    Raises:
        MaskError: the mask names a layer that the model lacks.
        TextError: the prompt is empty, or too long for the model's positions; or the temperature is too low.
    """
    ids = _encode(loaded, prompt, chat)
    if loaded.positions is not None and ids.shape[1] + max_new_tokens > loaded.positions:
        raise TextError(
            "The text would outgrow the model's positions",
            f"{ids.shape[1]} + {max_new_tokens} tokens of {loaded.positions}",
            "Shorten the prompt or ask for fewer tokens",
        )
    sampling = _sampling(temperature)
    devices = [loaded.device] if loaded.device.type == "cuda" else []
    with loaded.hooks.masked(mask.checked(loaded.n_layers)), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        prompt_perplexity = _measure_prompt(loaded, ids)
        start = time.perf_counter()
        output = _write(loaded, mask, ids, max_new_tokens, listener, **sampling)
    new = output[ids.shape[1] :]
    text = loaded.tokenizer.decode(new, skip_special_tokens=True)
    return Sample(prompt, mask, text, tuple(new.tolist()), time.perf_counter() - start, prompt_perplexity)


@torch.inference_mode()
def time_decoding(loaded: LoadedModel, mask: Mask, tokens: int) -> float | None:
    """Time decoded tokens per second under a mask, once, one text at a time, after a short prompt.

    The first token, which follows the prompt, is not counted. None if other work was let in meanwhile.
    """
    times: list[float] = []
    ids = _encode(loaded, "Once upon a time", chat=False)
    with loaded.hooks.masked(mask.checked(loaded.n_layers)), timing() as watch:
        tick = lambda text: times.append(time.perf_counter())  # noqa: E731
        _write(loaded, mask, ids, tokens, tick, min_new_tokens=tokens, **_sampling(0))
    return None if watch.stood else (len(times) - 1) / (times[-1] - times[0])


def _write(
    loaded: LoadedModel, mask: Mask, ids: torch.Tensor, tokens: int, listener: Listener | None, **more: Any
) -> torch.Tensor:
    """Return the ids of a prompt and what the model, masked by the caller, writes after it."""
    return loaded.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        past_key_values=make_cache(loaded, mask),
        max_new_tokens=tokens,
        pad_token_id=_pad_token(loaded.tokenizer),
        stopping_criteria=StoppingCriteriaList([_Listening(loaded.tokenizer, ids.shape[1], listener)]),
        **more,
    )[0]


def _measure_prompt(loaded: LoadedModel, ids: torch.Tensor) -> float | None:
    """Return the perplexity of a prompt (1, length) under the mask of the caller; None for a single token."""
    if ids.shape[1] < 2:
        return None
    logits = loaded.model(ids, use_cache=False).logits[0, :-1].float()
    return math.exp(min(float(F.cross_entropy(logits, ids[0, 1:].to(logits.device))), 700.0))


def make_cache(loaded: LoadedModel, mask: Mask) -> DynamicCache:
    """Make a KV cache that holds nothing for attention that is off, and keeps every layer's index.

    With all attention off one empty layer stays, to be asked for its length.
    """
    cache = DynamicCache(config=loaded.model.config)
    off = [layer for layer in range(loaded.n_layers) if mask.off(layer)[0]]
    for layer in off[: loaded.n_layers - 1] if len(off) == loaded.n_layers else off:
        cache.layers[layer] = DummyLayer()
    return cache


def _encode(loaded: LoadedModel, prompt: str, chat: bool) -> torch.Tensor:
    """Return the prompt's ids (1, length), with what the tokenizer adds."""
    if not prompt.strip():
        raise TextError("The prompt is empty", repr(prompt), "Write some words to go on from")
    if chat and loaded.tokenizer.chat_template is None:
        raise TextError("The model has no chat template", loaded.spec.model, "Leave the chat template off")
    text = prompt = prompt.encode(errors="replace").decode()
    if chat:
        turn = [{"role": "user", "content": prompt}]
        text = loaded.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = loaded.tokenizer(text, return_tensors="pt", add_special_tokens=not chat).input_ids
    return ids.to(loaded.device)


def _sampling(temperature: float) -> dict[str, Any]:
    if temperature <= 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature < 1e-5:
        raise TextError("The temperature is too low to sample by", str(temperature), "Use 0, or 1e-5 and more")
    return {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}


def _pad_token(tokenizer: Any) -> int | None:
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


class _Listening(StoppingCriteria):
    """Never stops; tells the listener the text after every token."""

    def __init__(self, tokenizer: Any, prompt_length: int, listener: Listener | None) -> None:
        self.tokenizer, self.prompt_length, self.listener = tokenizer, prompt_length, listener

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if self.listener:
            self.listener(self.tokenizer.decode(input_ids[0, self.prompt_length :], skip_special_tokens=True))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
