"""modify: make up for what was removed, or put zeros into what is left, and say what becomes of the loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.deltas import Delta, Variant, write_delta
from explorer.errors import ModifyError
from explorer.masks import Mask
from explorer.model import count_added
from explorer.modifiers import MODIFIERS
from explorer.processes import is_first
from explorer.verbs.describe import describe_corpus, describe_score
from explorer.verbs.options import SHELL, TEXTS, MaskOption, ModifyOption, PlanOption, StepOption
from explorer.verbs.work import Work

if TYPE_CHECKING:
    from explorer.evaluation import Recovered, Score
    from explorer.text import Corpus

_DEFAULT = "refit"


def modify(
    work: Work,
    mask: MaskOption = "none",
    plan: PlanOption = None,
    step: StepOption = None,
    modify: ModifyOption = [],  # noqa: B006
    texts: Annotated[
        list[str], typer.Option("--texts", metavar="T", help="Another text to judge by as well; again for more."), TEXTS
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Write what was made to a file, for --modify."), SHELL] = None,
    log: Annotated[
        Path | None, typer.Option(help="Write a line a step of what trains to a file, as JSON."), SHELL
    ] = None,
) -> tuple[dict[str, Any], str]:
    """Make up for what is off, refitting what is left if nothing else is named: how much of the loss is won back."""
    from explorer.evaluation import find_recovered, score
    from explorer.sparsity import count_zeros, list_zeros

    if out is not None and not out.absolute().parent.is_dir():
        raise ModifyError("Cannot write the delta", f"no folder {out.parent}", "Name a file in a folder that is there")
    chosen = work.mask(mask, plan, step)
    variant = _make(work, chosen, modify or [_DEFAULT], log)
    rows = []
    for corpus in [work.corpus, *(work.corpora(texts) if texts else [])]:
        pruned, modified = score(work.loaded, corpus, [chosen, variant], work.store, progress=work.progress)
        rows.append((corpus, pruned, modified, find_recovered(pruned, modified)))
    zeros = count_zeros(list_zeros(work.loaded, variant))
    written = [] if out is None or not is_first() else _write(out, variant.deltas)
    answer: dict[str, Any] = {
        "model": work.settings.model,
        "corpus": describe_corpus(work.corpus),
        "variant": str(variant),
        "deltas": [_describe_delta(work, delta) for delta in variant.deltas],
        **_describe(rows[0]),
        "texts": [{"corpus": describe_corpus(row[0]), **_describe(row)} for row in rows[1:]],
        "zeros": zeros and zeros.describe(),
        "out": written,
    }
    lines = [
        f"{delta.modifier}: {len(delta.tensors)} tensors, {count_added(work.loaded, [delta]):,} parameters added, "
        f"{delta.origin.forwards:.2f} forward passes of {delta.origin.tokens:,} tokens of {delta.origin.text}, "
        f"{delta.origin.seconds:.1f} s"
        for delta in variant.deltas
    ]
    lines += [f"Zeros: {zeros}"] if zeros else []
    lines += [f"{'text':<24}{'whole':<11}{'pruned':<11}{'modified':<11}won back of the loss (95% interval)"]
    lines += [_write_row(*row) for row in rows]
    return answer, "\n".join([*lines, *(f"Wrote {path}" for path in written)])


def _make(work: Work, mask: Mask, modify: list[str], log: Path | None) -> Mask | Variant:
    if log is None or not is_first():
        return work.vary(mask, modify)
    from explorer.healing import watching
    from explorer.verbs.training_log import TrainingLog

    written = TrainingLog(log)
    with watching(written):
        variant = work.vary(mask, modify)
    written.add_history(work.loaded, work.corpus.window, variant.deltas, work.store)
    return variant


def _describe(row: tuple[Corpus, Score, Score, Recovered]) -> dict[str, Any]:
    _, pruned, modified, recovered = row
    return {
        "scores": {
            "baseline": describe_score(pruned.unpruned),
            "pruned": describe_score(pruned),
            "modified": describe_score(modified),
        },
        "recovered": recovered.share,
        "recovered_ci95": recovered.interval,
    }


def _describe_delta(work: Work, delta: Delta) -> dict[str, Any]:
    return {
        "modifier": str(delta.modifier),
        "source": MODIFIERS[delta.modifier.name].source,
        "digest": delta.digest,
        "tensors": {name: list(tensor.shape) for name, tensor in delta.tensors.items()},
        "parameters_added": count_added(work.loaded, [delta]),
        "text": delta.origin.text,
        "tokens": delta.origin.tokens,
        "seconds": delta.origin.seconds,
        "forwards": delta.origin.forwards,
    }


def _write_row(corpus: Corpus, pruned: Score, modified: Score, recovered: Recovered) -> str:
    perplexities = (f"{found.perplexity:<11.5g}" for found in (pruned.unpruned, pruned, modified))
    share = "nothing was lost" if math.isnan(recovered.share) else f"{recovered.share:.1%}"
    interval = "" if recovered.interval is None else f"  [{recovered.interval[0]:.1%}, {recovered.interval[1]:.1%}]"
    return f"{corpus.name:<24}{''.join(perplexities)}{share}{interval}"


def _write(out: Path, deltas: tuple[Delta, ...]) -> list[str]:
    """Write each delta to a file: the first under the name given, others with a number behind it."""
    paths = [out if not place else out.with_stem(f"{out.stem}-{place + 1}") for place in range(len(deltas))]
    try:
        for path, delta in zip(paths, deltas, strict=True):
            write_delta(path, delta)
    except OSError as error:
        raise ModifyError("Cannot write the delta", f"{out} ({error.strerror})", "Name another file") from None
    return [str(path) for path in paths]
