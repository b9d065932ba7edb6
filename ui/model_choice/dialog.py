"""The dialog in which model and text are chosen without leaving the page, and the button that opens it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from explorer.errors import ExplorerError
from explorer.execution import Job, View, ask_memory
from explorer.masks import NONE
from explorer.model import check_text, find_faults
from ui import session
from ui.live import draw_progress, get_engine, get_owner, open_dialog, panel, watch
from ui.model_choice.at_hand import draw_models, remember_model
from ui.model_choice.facts import draw_facts
from ui.model_choice.hub_search import draw_hub
from ui.model_choice.outlook import describe_outlook
from ui.parts import TEXT_KINDS, define, escape_markdown, keep_upload, kept, upload
from ui.view import MOST_TOKENS, Loading, get_permissions, get_view, read_faults, request_view

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8", "nf4")
_FIELDS = ("model", "text", "tokens", "window", "dtype", "device", "quantize", "calibration", "calibration_tokens")
_QUANTIZE_HELP = "Weights in 8 bits (LLM.int8) or 4 bits (NF4, double quantization) by bitsandbytes"
_TEXT_HELP = "python-docs, wikitext2, c4, a file, hf:DATASET:CONFIG:SPLIT:COLUMN or tokens:FILE.json"
_MEGABYTES = 64


@dataclass(frozen=True, kw_only=True)
class Dialog:
    """The dialog.

    Args:
        open: whether it is open.
        taken: the digests of the texts that were dropped or pasted and have become files.
    """

    open: bool = False
    taken: frozenset[str] = frozenset()


def draw_model_button(view: View) -> None:
    """Draw the model's name as a button that opens the dialog."""
    with st.container(key="model_button", width="content", gap=None):
        st.caption("Model")
        if st.button(
            escape_markdown(view.model), key="choose_model", type="tertiary", icon=":material/expand_more:",
            icon_position="right", on_click=open_choice, help=escape_markdown(f"{view.model}: choose model and text"),
        ):  # fmt: skip
            st.rerun()


def open_choice() -> None:
    """Open the dialog, on what is coming or shown; for callbacks."""
    loading = session.read(Loading)
    shown: View = loading.refused or loading.coming or get_view()
    for name in _FIELDS:
        st.session_state[f"choice {name}"] = getattr(shown, name)
    st.session_state["choice dtype"] = shown.dtype if shown.dtype in DTYPES else DTYPES[0]
    st.session_state["choice quantize"] = shown.quantize if shown.quantize in QUANTIZATIONS else QUANTIZATIONS[0]
    session.change(Dialog, open=True)


def _close() -> None:
    session.change(Dialog, open=False)
    session.change(Loading, refused=None)


def draw_choice(facts_job: Job) -> None:
    """Draw the dialog if it is open; what loaded is remembered as one of this session's models."""
    if facts_job.state == "done":
        remember_model(get_view().model)
    if session.read(Loading).reopen:
        session.change(Loading, reopen=False)
        open_choice()
    if session.read(Dialog).open:
        open_dialog("memory", "facts")
        st.dialog("Model and text", width="large", on_dismiss=_close)(lambda: _draw(facts_job))()


def _draw(facts_job: Job) -> None:
    choice, facts = st.tabs(["Choose", "Facts of what is loaded"])
    with choice:
        left, right = st.columns([2, 3], gap="medium")
        with left:
            draw_models(_choose)
            draw_hub(_choose)
        with right:
            _draw_fields()
    with facts:
        panel("facts", lambda: _draw_facts(facts_job))


def _draw_facts(facts_job: Job) -> None:
    if watch(facts_job).state == "done":
        draw_facts(facts_job.result)
    else:
        st.caption("They are known when the model is loaded.")


def _choose(name: str) -> None:
    st.session_state["choice model"] = name
    _forget_refusal()


def _forget_refusal() -> None:
    session.change(Loading, faults={})


def _draw_fields() -> None:
    model = _write("Model", "model", help="A hub id, a folder of safetensors, or a .gguf file")
    at_model = st.container()
    left, right = st.columns(2)
    with left:
        of_text = st.container()
    with right:
        calibration = _write("Calibration text", "calibration", placeholder="the same text", help=define("calibration"))
        at_calibration = st.container()
    _take_own_text()
    with of_text:
        text = _write("Text", "text", help=_TEXT_HELP)
        at_text = st.container()
    columns = st.columns(3)
    tokens = _count(columns[0], "Tokens in each split", "tokens", 2, 256, define("calibration", "held-out"))
    calibration_tokens = _count(
        columns[1], "Calibration tokens", "calibration_tokens", 0, 1024, "0: as many as in each split"
    )
    window = _count(columns[2], "Window", "window", 2, 64, define("window"))
    at_window = st.container()
    columns = st.columns(3)
    dtype = _pick(columns[0], "Precision", "dtype", DTYPES, None)
    quantize = _pick(columns[1], "Quantize", "quantize", QUANTIZATIONS, _QUANTIZE_HELP)
    with columns[2]:
        device = _write("Device", "device", help="auto, cpu, cuda, cuda:i, or map: spread over all there is")
    at_device = st.container()
    asked = replace(
        get_view(), model=model, text=text, tokens=tokens, window=window, dtype=dtype, device=device,
        quantize=quantize, calibration=calibration, calibration_tokens=calibration_tokens,
    )  # fmt: skip
    faults = _find_faults(asked)
    places = {
        at_model: ("model",), at_text: ("text",), at_calibration: ("calibration",), at_window: ("window",),
        at_device: ("dtype", "quantize", "device"),
    }  # fmt: skip
    for place, fields in places.items():
        for said in (faults[field] for field in fields if field in faults):
            place.error(escape_markdown(said))
    if not faults.keys() & {"model", "dtype", "quantize", "device"}:
        panel("memory", lambda: _draw_outlook(asked))
    _offer_load(asked, faults)


def _write(label: str, name: str, help: str, placeholder: str = "") -> str:
    given = st.text_input(
        label, **kept(f"choice {name}"), on_change=_forget_refusal, help=help, placeholder=placeholder
    )
    return given.strip()


def _count(place: st.delta_generator.DeltaGenerator, label: str, name: str, low: int, step: int, help: str) -> int:
    given = place.number_input(
        label, low, MOST_TOKENS, step=step, **kept(f"choice {name}"), help=help, on_change=_forget_refusal
    )
    return int(given)


def _pick(
    place: st.delta_generator.DeltaGenerator, label: str, name: str, options: Sequence[str], help: str | None
) -> str:
    return place.selectbox(label, options, **kept(f"choice {name}"), help=help, on_change=_forget_refusal)


def _find_faults(asked: View) -> dict[str, str]:
    """What is wrong, by field: what can be seen at once, and what the last load was refused for."""
    faults: dict[str, ExplorerError] = find_faults(asked.spec, asked.text, asked.tokens, asked.window)
    if asked.calibration:
        try:
            check_text(asked.calibration)
        except ExplorerError as error:
            faults["calibration"] = error
    return {**read_faults(), **{field: str(error) for field, error in faults.items()}}


def _take_own_text() -> None:
    """Let a text be dropped or pasted; it is kept on the server, and its path becomes the text's name."""
    with st.expander("A text of your own: drop a file, or paste it"):
        files = upload("Text file", TEXT_KINDS, "choice file", megabytes=_MEGABYTES)
        pasted = st.text_area("Pasted text", key="choice pasted", height=90, placeholder="Paste, then Ctrl+Enter")
    given = [(file.name, file.getvalue()) for file in files[-1:]]
    if pasted.strip():
        given.append(("pasted.txt", pasted.encode(errors="replace")))
    for name, content in given:
        taken = session.read(Dialog).taken
        if (digest := hashlib.sha256(content + name.encode()).hexdigest()) not in taken:
            session.change(Dialog, taken=taken | {digest})
            st.session_state["choice text"] = str(keep_upload(name, content, get_engine().cache))
            _forget_refusal()


def _draw_outlook(asked: View) -> None:
    """Say whether the model fits into memory, or how far it is known."""
    job = watch(ask_memory(get_engine(), get_owner(), asked.spec, get_view().spec))
    with st.container(key="outlook"):
        if job.state == "done":
            words, heed = describe_outlook(job.result)
            (st.warning if heed else st.caption)(escape_markdown(words))
        elif job.active:
            draw_progress(job)
        elif job.state == "failed":
            st.caption(escape_markdown(f"What it takes is not known before it is loaded. {job.error}"))
        else:
            st.caption("What it takes was not asked.")


def _offer_load(asked: View, faults: dict[str, str]) -> None:
    if not st.button("Load", type="primary", key="load"):
        return
    if faults.keys() - read_faults().keys():
        return
    get_engine().worker.forget_failed()
    permissions = get_permissions()
    permissions.agree("model", asked.model)
    for text in filter(None, (asked.text, asked.calibration)):
        permissions.agree("text", text)
    _close()
    request_view(asked if asked.spec == get_view().spec else replace(asked, mask=NONE), choice=True)
    st.rerun()
