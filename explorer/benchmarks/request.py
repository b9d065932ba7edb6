"""A context and what may follow it -> token ids, cut as lm-evaluation-harness cuts them. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from explorer.errors import TextError
from explorer.text import check_ids, decode, encode

if TYPE_CHECKING:
    from explorer.model import LoadedModel


@dataclass(frozen=True)
class Request:
    """Token ids, and those before them: asked is the log-likelihood of the first.

    Args:
        continuation: what is judged; it may be empty.
        context: what is before it, one id at least.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def given(self) -> tuple[int, ...]:
        """What the model reads: all ids but the last one of the continuation, which is only predicted."""
        return (self.context + self.continuation)[:-1] if self.continuation else self.context


class Likelihood(NamedTuple):
    """What a variant makes of one request.

    Args:
        nll: negative log-likelihood of the continuation in nats; infinite where the arithmetic overflowed.
        greedy: 1 where every token of it is the most likely one, else 0.
        accepted: sum over its tokens of sum min(p, q), p and q being the next-token distributions of the variant and of
            the unpruned model: how many tokens the latter would take if the former drafted them (arXiv:2211.17192).
    """

    nll: float
    greedy: float
    accepted: float


#: The requests of one item: its choices, or a window of a text.
Item = tuple[Request, ...]


@dataclass(frozen=True)
class RequestEncoder:
    """Texts -> requests, as lm-evaluation-harness 0.4.13 makes them for transformers.

    Args:
        tokenizer: of the model.
        vocabulary: rows of the embedding.
        positions: the longest window that the model takes; None where it has no limit.
    """

    tokenizer: Any
    vocabulary: int
    positions: int | None

    @classmethod
    def of(cls, loaded: LoadedModel) -> RequestEncoder:
        """Return the encoder of a model."""
        return cls(loaded.tokenizer, loaded.vocabulary, loaded.positions)

    @cached_property
    def prefix(self) -> int:
        """The id that stands before a text without context: BOS, or else the end of text. Raises TextError."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        found = "the tokenizer has neither BOS nor an end of text"
        raise TextError("Nothing can stand before the first token", found, "Use a task whose contexts are not empty")

    def pair(self, context: str, continuation: str) -> Request:
        """Return a continuation after its context; spaces that end the context go to the continuation.

        Both are encoded as one text, and cut where the context alone would end. Without a context the prefix is it.

        Raises TextError: the continuation is too long for the model, or the tokenizer fails.
        """
        if before := context.rstrip():
            start = self.encode(before)
            return self._cut(start, self.encode(context + continuation)[len(start) :])
        ids = self.encode(context + continuation, add_special_tokens=False)
        return self._cut(ids[:1], ids[1:]) if ids[:1] == (self.prefix,) else self._cut((self.prefix,), ids)

    def rolling(self, text: str) -> list[Request]:
        """Return a text as requests that predict each of its ids once, each with as much before it as there is room.

        Raises TextError: the tokenizer fails.
        """
        ids, made = self.encode(text), list[Request]()
        length = self.positions or len(ids)
        for start in range(0, len(ids), length):
            end = min(start + length, len(ids))
            made.append(Request(ids[max(0, end - length - 1) : start] or (self.prefix,), ids[start:end]))
        return made

    def encode(self, text: str, **options: Any) -> tuple[int, ...]:
        """Return the ids of a text, with what the tokenizer adds unless the text begins with that. Raises TextError."""
        bos = self.tokenizer.bos_token_id
        if not options and bos is not None and text.startswith(decode(self.tokenizer, [bos])):
            options = {"add_special_tokens": False}
        ids: Sequence[int] = encode(self.tokenizer, text, **options).input_ids
        check_ids(self.tokenizer, ids, self.vocabulary)
        return tuple(ids)

    def _cut(self, context: tuple[int, ...], continuation: tuple[int, ...]) -> Request:
        """Leave out the beginning of a context that is too long."""
        if self.positions is not None and len(continuation) > self.positions:
            found = f"{len(continuation)} tokens of {self.positions}"
            raise TextError("A continuation is longer than the model's positions", found, "Leave the item out")
        room = len(context) if self.positions is None else self.positions + 1 - len(continuation)
        return Request(context[-room:], continuation)
