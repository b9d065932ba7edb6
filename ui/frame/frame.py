"""The frame of every page: which model, on what, what is removed, the perplexity, a link; below, the work."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import streamlit as st

from explorer.deltas import write_modifiers
from explorer.execution import Job, ModelSummary, View
from explorer.masks import Mask
from ui import session
from ui.browser import read_scripts
from ui.live import begin_page, draw_broken, draw_work, get_engine, get_owner, paint, panel, ready, watch
from ui.model_choice import draw_choice, draw_model_button, open_choice
from ui.parts import define, describe_score, draw_skeleton, escape_markdown
from ui.session import Shown
from ui.view import (
    Messages,
    Navigation,
    copy_link,
    draw_address,
    draw_arrival,
    draw_loading_view,
    draw_question,
    follow_link,
    get_question,
    get_view,
    notify,
    read_notices,
    set_view,
    write_url,
)

_value = st.components.v2.component(
    "value", html='<span class="value"></span>', js=read_scripts("tab", "value"), isolate_styles=False
)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The view that loaded last, to go back to."""

    view: View | None = None


@dataclass(frozen=True)
class Frame:
    """What a page gets: its name, its view, and the facts, which may still be on their way."""

    page: str
    view: View
    facts_job: Job

    @property
    def summary(self) -> ModelSummary:
        """The facts, for a page that called `require_summary`."""
        return self.facts_job.result


def enter(page: str) -> None:
    """Begin a page that may have nothing to do with a model.

    A cold link runs the page's file without app.py; then app.py is run first and comes back here.
    """
    if not session.read(Navigation).in_app:
        session.change(Navigation, go_to=page)
        st.switch_page("app.py", query_params=dict(st.query_params))
    session.change(Navigation, page=page)
    begin_page()
    st.html(_STYLE)


@contextmanager
def framed(page: str) -> Iterator[Frame]:
    """Draw the frame around a page's content."""
    enter(page)
    draw_address(page, follow_link)
    view = get_view()
    if (question := get_question()) is not None:
        draw_question(question)
        st.stop()
    write_url(view)
    engine, owner = get_engine(), get_owner()
    engine.worker.begin_page(owner, page)
    facts_job = engine.summary(owner, view)
    if facts_job.state == "done":
        view = _fit_mask(view, facts_job.result)
        session.change(Loaded, view=view)
    draw_loading_view()
    frame = Frame(page, view, facts_job)
    draw_choice(facts_job)
    panel("header", lambda: _draw_header(page, facts_job))
    try:
        yield frame
    except Exception as error:
        draw_broken(error, page)
    _end_page(facts_job)


def _end_page(facts_job: Job) -> None:
    """Let go of what another page asked for, but for an export; draw the work."""
    get_engine().worker.end_page(get_owner(), frozenset({"export"}))
    with st.container(key="work"):
        draw_work()
    draw_arrival(drawn=not facts_job.active)


def require_summary(frame: Frame) -> ModelSummary:
    """Return the facts, or draw how far the loading is and end the page here."""
    if not ready(frame.facts_job):
        if frame.facts_job.state == "failed":
            _offer_way_back()
            st.button("Load another model or text", on_click=open_choice)
        elif frame.facts_job.active:
            draw_skeleton(frame.page)
        _end_page(frame.facts_job)
        st.stop()
    return frame.summary


def _offer_way_back() -> None:
    """Offer the last view that loaded."""
    before = session.read(Loaded).view
    if before is not None and st.button(escape_markdown(f"Back to {before.model}, {before.text}")):
        session.change(Shown, view=before)
        st.rerun()


def _fit_mask(view: View, summary: ModelSummary) -> View:
    """Skip a link's mask that names layers which the model lacks, and say so."""
    beyond = [site for site in view.mask.sites if site.layer >= summary.n_layers]
    if not beyond:
        return view
    fitted = replace(view, mask=Mask(view.mask.sites - set(beyond)))
    said = f"The link's mask names layers beyond the model's 0 to {summary.n_layers - 1}; they were skipped."
    notices = [*session.read(Messages).notices, said]
    set_view(fitted)
    write_url(fitted)
    notify(notices)
    return fitted


_STYLE = """<style>
/* The content begins where the navigation does. */
.stMainBlockContainer { padding: 4.5rem 1rem 2rem; }
/* What is on its way replaces what is there; until then nothing fades. */
.stMain [data-stale="true"] { opacity: 1 !important; transition: none !important; }
/* Streamlit's captions are too faint to read by the common measure of contrast. */
:is(.stMain, .stDialog, [data-testid="stPopoverBody"]) [data-testid="stCaptionContainer"] {
  color: inherit; opacity: .8; }
/* Nor can white be read on the dark theme's bright buttons. */
:is(.stMain, .stDialog) [data-testid^="stBaseButton-primary"], .stMain [data-tag] { color: light-dark(#fff, #0e1117); }
/* What is not seen takes no room. */
:is([class*="st-key-bell"], .st-key-address, .st-key-arrival) { display: none; }
.st-key-mask_field { padding-top: 1px; row-gap: 5px; }
.stMain .st-key-mask_field [data-testid="stCaptionContainer"] { opacity: 1; }
/* Controls beside each other are of one height. On a narrow screen choices go on in the next line, rows stand closer,
and figures keep a width at which they can be read, and scroll. */
.stMain [data-testid="stButtonGroup"] > div button { min-height: 2.5rem; }
@media (max-width: 640px) {
  .stMain [data-testid="stButtonGroup"] > div { flex-wrap: wrap; max-width: calc(100vw - 2rem); }
  .stMain [data-testid="stHorizontalBlock"] { row-gap: .75rem; }
  .stMain [class*="st-key-plot-"] { overflow-x: auto; }
  .stMain [class*="st-key-plot-"] > div { min-width: 40rem; }
}
.skeleton > div { display: flex; gap: 1rem; margin-bottom: 1rem; }
.skeleton span { flex: 1; display: grid; place-items: center; border-radius: .5rem; font-size: .875rem; opacity: .75;
  background: color-mix(in srgb, currentColor 6%, transparent); }
/* Values may change, the places where they stand do not; what is too long has its whole text in a title. */
.st-key-frame { font-variant-numeric: tabular-nums; row-gap: .25rem; }
.st-key-frame .value { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.st-key-model_button { width: 14rem; max-width: 100%; }
.st-key-model_button button, .st-key-model_button button > div { max-width: 100%; min-height: 0; padding: 0; }
.st-key-model_button button p { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: 1rem; }
.st-key-at_hand { max-height: 30rem; overflow-y: auto; }
@media (max-width: 640px) { .st-key-at_hand { max-height: 10rem; } }
.st-key-at_hand button { padding: 0; min-height: 0; max-width: 100%; }
.st-key-at_hand button p { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
</style>"""


#: Pixels that the header keeps for each value.
_WIDTHS = {"Precision": 125, "Text": 125, "Removed": 150, "Perplexity": 110, "Recovered by": 130}


def _draw_header(page: str, facts_job: Job) -> None:
    view, summary = get_view(), watch(facts_job).result
    score = get_engine().score(get_owner(), view)
    with st.container(key="frame", horizontal=True, vertical_alignment="center", gap="medium"):
        draw_model_button(view)
        _draw_entry("Precision", f"{summary.precision} on {summary.device}" if summary else "loading")
        _draw_entry("Text", view.text)
        _draw_entry("Removed", str(view.mask))
        with _place_entry("Perplexity", define("perplexity")):
            _value(key="perplexity", data=paint("perplexity", [score], lambda: {"words": _describe_score(score)}))
        _draw_entry("Recovered by", write_modifiers(view.modify) or "nothing", define("recovered", "modifier"))
        copy_link()
    for notice in read_notices(page):
        st.warning(escape_markdown(notice))


@contextmanager
def _place_entry(label: str, meaning: str | None) -> Iterator[None]:
    with st.container(width=_WIDTHS[label], gap=None):
        st.caption(label, help=meaning)
        yield


def _draw_entry(label: str, value: str, meaning: str | None = None) -> None:
    with _place_entry(label, meaning):
        shown = html.escape(value.encode(errors="replace").decode())
        st.html(f'<span class="value" title="{shown}">{shown}</span>')


def _describe_score(job: Job) -> str:
    if job.state == "done":
        return describe_score(job.result)
    return "measuring" if job.active else "–"
