"""LoadedModel, [Variant] -> a model as lm-evaluation-harness asks one. Imports lm_eval."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Any

import numpy as np
from lm_eval.api.model import LM

from explorer.benchmarks.likelihoods import find_likelihoods
from explorer.benchmarks.request import Item, Likelihood, RequestEncoder
from explorer.deltas import Variant
from explorer.errors import TaskError
from explorer.evaluation import write_until
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store, make_key
from explorer.text import ChatTemplate, decode

_MOST_NEW_TOKENS = 256  # of an answer, where a task does not say


class HarnessModel(LM):
    """Variants of a model, of which one answers at a time; log-likelihoods are found for all of them at once.

    Use it in a `with`: the process of the chat template, started when first needed, ends with the block.

    Args:
        loaded: the model.
        variants: who will answer.
        store: where answers are kept.
        progress: told how many items are answered.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        variants: Sequence[Mask | Variant],
        store: Store,
        progress: Progress = unreported,
    ) -> None:
        super().__init__()
        self.loaded, self.variants, self.store, self.progress = loaded, list(variants), store, progress
        self.encoder = RequestEncoder.of(loaded)
        self.variant: Mask | Variant = NONE
        #: What the variant made of the requests of each item, by (task, number of the item).
        self.likelihoods: dict[tuple[str, int], list[Likelihood]] = {}
        #: What all variants made of items: each of them is asked the same.
        self._found: dict[tuple[Item, ...], list[list[list[Likelihood]]]] = {}
        self._stack = ExitStack()
        self._template = self._stack.enter_context(ChatTemplate(loaded.tokenizer))

    def __enter__(self) -> HarnessModel:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def answer_as(self, variant: Mask | Variant) -> None:
        """Let one of the variants answer from now on."""
        self.variant, self.likelihoods = variant, {}

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether it is what greedy decoding would write."""
        owners = [list(group) for _, group in groupby(requests, key=lambda each: (each.task_name, each.doc_id))]
        found = self._answer([tuple(self.encoder.pair(*each.args) for each in owned) for owned in owners])
        for owned, likelihoods in zip(owners, found, strict=True):
            self.likelihoods.setdefault((owned[0].task_name, owned[0].doc_id), []).extend(likelihoods)
        return [(-each.nll, bool(each.greedy)) for likelihoods in found for each in likelihoods]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Return the log-likelihood of whole texts."""
        windows = [self.encoder.rolling(*each.args) for each in requests]
        found = iter(self._answer([(window,) for text in windows for window in text]))
        return [-sum(next(found)[0].nll for _ in text) for text in windows]

    def _answer(self, items: Sequence[Item]) -> list[list[Likelihood]]:
        asked = tuple(items)
        if asked not in self._found:
            self._found[asked] = find_likelihoods(self.loaded, asked, self.variants, self.store, self.progress)
        return self._found[asked][self.variants.index(self.variant)]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Return what follows each context, greedily, up to the first of its stops."""
        written = []
        for done, each in enumerate(requests):
            self.progress(done, len(requests), f"Writing answers as {self.variant}")
            written.append(self._write(*each.args))
        return written

    def _write(self, context: str, options: dict[str, Any]) -> str:
        """Write one answer, or find it in the store. Raises TaskError where the task wants it sampled."""
        if options.get("do_sample") and options.get("temperature", 1.0):
            raise TaskError("The task samples its answers", json.dumps(options), "Set do_sample: false in its file")
        until, most = options.get("until") or [], int(options.get("max_gen_toks", _MOST_NEW_TOKENS))
        stops = [until] if isinstance(until, str) else list(until)
        ids = self._fit(self.encoder.encode(context), most)
        key = make_key(
            "written",
            context=self.loaded.numerics_key(1),
            prompt=hashlib.sha256(repr(ids).encode()).hexdigest(),
            stops=json.dumps(stops),
            most=str(most),
            variant=self.variant.key,
        )
        known = self.store.arrays(key)
        if known is None:
            known = {"ids": np.array(write_until(self.loaded, self.variant, ids, stops, most), dtype=np.int64)}
            self.store.add_arrays(key, known)
        text = decode(self.loaded.tokenizer, known["ids"].tolist(), skip_special_tokens=True)
        return _cut_at(text, stops)

    def _fit(self, ids: tuple[int, ...], new_tokens: int) -> tuple[int, ...]:
        """Leave out the beginning of a context that has no room for an answer behind it."""
        if self.loaded.positions is None:
            return ids
        if (room := self.loaded.positions - new_tokens) <= 0:
            found = f"{new_tokens} tokens in {self.loaded.positions} positions"
            raise TaskError(
                "The answers are longer than the model's positions", found, "Lower max_gen_toks in its file"
            )
        return ids[-room:]

    @property
    def tokenizer_name(self) -> str:
        """The model's name."""
        return self.loaded.spec.model

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return turns as text: up to where the model's own begins, or to the end of the last one's words."""
        text = self._template.write(chat_history, goes_on=add_generation_prompt)
        if add_generation_prompt:
            return text
        last = chat_history[-1]["content"]
        words = last if last in text else last.strip()  # some templates strip what they are given
        return text[: text.rindex(words) + len(words)]


def _cut_at(text: str, stops: Iterable[str]) -> str:
    for stop in filter(None, stops):
        text = text.split(stop)[0]
    return text
