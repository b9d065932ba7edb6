"""The targets of an export: chosen by what one wants to do, each with what it saves and who loads it."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from explorer.execution import ExportPreview, Job
from explorer.export import FORMATS, WRITTEN_AS_TEXT, Drafting, Exported, describe_timings, make_commands, tell_text
from ui.export.archive import link_archive
from ui.parts import define, describe_bytes, escape_markdown, kept

#: What one may want, and the formats for it: the first that takes the mask is offered, the others beside it.
PURPOSES = {
    "Fine-tune or serve it as its own architecture": ("transformers",),
    "Serve it with vLLM, SGLang or MLX, with real savings": ("deci",),
    "Fine-tune or run it in transformers, or serve any family, with real savings": ("pruned-remote-code",),
    "Load it in transformers without its code, with real savings": ("transformers-skip",),
    "Run it with llama.cpp": ("gguf", "gguf-q8_0", "gguf-f16", "gguf-bf16"),
    "Load it anywhere, without savings for single attention and MLPs": ("transformers-zeroed",),
    "Train its adapter on, with PEFT": ("adapter",),
    "Let it draft for the original, in transformers or vLLM": ("draft",),
    "Let it draft for the original, in llama.cpp": ("draft-gguf",),
    "Build it with mergekit": ("mergekit",),
    "Share what was removed and measured": ("recipe",),
}
OFFERED = tuple(name for names in PURPOSES.values() for name in names)


@dataclass(frozen=True, kw_only=True)
class Started:
    """The export that was started last."""

    job: Job | None = None


def choose_target(outlooks: dict[str, ExportPreview]) -> str:
    """Draw the purposes, and return the format chosen; those that do not take the mask say why."""
    purposes = list(PURPOSES)
    first = next(i for i, purpose in enumerate(purposes) if _fitting(PURPOSES[purpose], outlooks))
    captions = [_describe(PURPOSES[purpose], outlooks) for purpose in purposes]
    chosen = st.radio("What for?", purposes, first, captions=captions, **kept("export purpose"))
    formats = PURPOSES[chosen]
    if len(formats) == 1:
        return formats[0]
    labels = {name: f"{name}: {describe_bytes(outlooks[name].bytes)}" for name in _fitting(formats, outlooks)}
    return st.selectbox("Type of the blocks", list(labels), format_func=labels.__getitem__) if labels else formats[0]


def _fitting(formats: tuple[str, ...], outlooks: dict[str, ExportPreview]) -> list[str]:
    return [name for name in formats if not outlooks[name].refused]


def _describe(formats: tuple[str, ...], outlooks: dict[str, ExportPreview]) -> str:
    name = next(iter(_fitting(formats, outlooks)), formats[0])
    preview = outlooks[name]
    if preview.refused:
        return _show_plainly(f"{name}: not for this mask or model. {preview.refused}")
    of = f"{describe_bytes(preview.bytes)}, the whole model's files {describe_bytes(preview.source_bytes)}"
    size = "no weights" if name in WRITTEN_AS_TEXT else of
    return _show_plainly(f"{name}, {size}. Loaded by {FORMATS[name].loads}.")


def _show_plainly(text: str) -> str:
    """Show what is said of a format without the marks that a model card sets names in."""
    return escape_markdown(text.replace("`", ""))


def draw_target(name: str, preview: ExportPreview, free: int) -> None:
    """Draw what would be written in a format, and whether there is room."""
    target = FORMATS[name]
    left, middle, right = st.columns(3)
    left.metric("Layers written", preview.layers)
    own = "In the precision that was measured, or the format's own"
    middle.metric("Weights on disk", describe_bytes(preview.bytes), help=own)
    right.metric("Disk free there", describe_bytes(free))
    lines = [f"Dropped: {target.dropped}.", f"Zeroed: {target.zeroed}."]
    if target.cache:
        lines.append(f"No keys and values are kept for: {target.cache}.")
    lines.append(define("mask", "dropped, zeroed", "adapter"))
    if preview.zeroed:
        lines.append(f"With this mask {preview.zeroed} zeroed, saving neither memory nor compute.")
    st.caption("  \n".join(map(_show_plainly, lines)))
    if preview.bytes > preview.source_bytes > 0:
        st.warning("This is larger than the whole model's files: they hold its weights in a smaller type.")


def draw_exported(made: Exported) -> None:
    """Draw the proof, and the commands that load what was written."""
    st.success(escape_markdown(f"Wrote {made.out}"))
    if (address := link_archive(made.out)) is not None:
        st.link_button("Download as an archive", address)
    proof = made.evidence.proof
    if proof is None:
        st.caption("No weights were written, so nothing was reloaded.")
    else:
        left, middle, right = st.columns(3)
        left.metric("Largest logit difference", f"{proof.max_abs_logit_difference:.3g}")
        middle.metric("Perplexity, reloaded", f"{proof.perplexity_reloaded:.4f}")
        right.metric("Perplexity, measured", f"{proof.perplexity_masked:.4f}")
        words = f"Reloaded by {proof.loader} and compared with the masked model on the held-out windows."
        words += f"{tell_text(proof)} {define('held-out', 'window')}"
        if proof.llama_cpp is not None:
            words += f" Perplexity by llama.cpp: {proof.llama_cpp:.4f}."
        st.caption(escape_markdown(words))
    if (benchmark := made.evidence.benchmark) is not None:
        st.caption(escape_markdown(f"Reloaded, and timed in turns with the whole model on {benchmark.machine}."))
        st.markdown("\n".join(describe_timings(benchmark)))
    draft = made.evidence.draft
    if draft is not None:
        _draw_draft(draft)
    drafted = 1 if draft is None else draft.drafted
    for language, code in make_commands(made.format, str(made.out), made.original, drafted):
        st.code(code, language=language)
    st.caption("The same export from the command line")
    st.code(made.command, language="bash")


def _draw_draft(draft: Drafting) -> None:
    """Draw what it is worth as a draft for the original, expected and measured."""
    left, middle, right = st.columns(3)
    left.metric("Expected acceptance", f"{draft.acceptance:.0%}")
    middle.metric("Speed-up, predicted", _describe_times(draft.speed_up))
    right.metric("Speed-up, measured", _describe_times(None if draft.measured is None else draft.measured.speed_up))
    words = f"With {draft.drafted} tokens drafted at once. " + define("expected acceptance")
    if (measured := draft.measured) is None:
        words += f" Assisted generation was not measured: {draft.assisted}."
    else:
        words += f" Of {measured.tokens} tokens written with its help {measured.same} are the original's own."
    st.caption(escape_markdown(words))


def _describe_times(times: float | None) -> str:
    return "not measured" if times is None else f"{times:.2f} times"
