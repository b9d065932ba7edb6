"""Write what is left of the model for whoever is to load it, and see it proven equal to what was measured."""

import hashlib
import shutil
from pathlib import Path

import streamlit as st

from explorer.deltas import write_modifiers
from explorer.errors import ExportError
from explorer.execution import ExportPreview, View
from explorer.export import WRITTEN_AS_TEXT
from ui import session
from ui.explore import name_modifiers
from ui.export import OFFERED, Started, choose_target, draw_exported, draw_target, get_exports, place_export
from ui.frame import framed, require_summary
from ui.live import get_engine, get_owner, ready
from ui.parts import define, escape_markdown


def main(view: View) -> None:
    engine, owner = get_engine(), get_owner()
    _say_what(view)
    planned = engine.preview(owner, view, OFFERED)
    if not ready(planned):
        return
    outlooks: dict[str, ExportPreview] = planned.result
    if all(preview.refused for preview in outlooks.values()):
        st.warning("Nothing is left to export: every layer is off.")
        return
    chosen = choose_target(outlooks)
    folder = _choose_folder(view, chosen)
    draw_target(chosen, outlooks[chosen], _free_bytes())
    overwrite = st.checkbox("Replace a checkpoint that is there")
    benchmark = st.checkbox("Time it beside the whole model", disabled=chosen in WRITTEN_AS_TEXT)
    refused = bool(outlooks[chosen].refused)
    if st.button("Export", type="primary", disabled=refused or folder is None) and folder is not None:
        engine.worker.forget_failed()
        session.change(Started, job=engine.export(owner, view, chosen, folder, overwrite, benchmark))
    job = session.read(Started).job or engine.find_export(owner, view)
    if job is not None and ready(job, again=False):
        draw_exported(job.result)


def _say_what(view: View) -> None:
    """Say that it is the recovered model that is written, and by what text it is fitted."""
    if view.recovers:
        text, tokens = view.calibration or view.text, view.calibration_tokens or view.tokens
        words = f"Exports the recovered model: {name_modifiers(view)}, fitted on {tokens:,} tokens of {text}. "
        st.caption(escape_markdown(words + define("recovered", "modifier")))


def _choose_folder(view: View, format: str) -> Path | None:
    """Let the user name the export; None, with a word on why, where the name is none."""
    label = escape_markdown(f"Name, below {get_exports()}/")
    of = repr((view.model, str(view.mask), write_modifiers(view.modify), format))
    key = hashlib.sha256(of.encode(errors="backslashreplace")).hexdigest()[:16]
    name = st.text_input(label, _suggest_name(view, format), key=f"name {key}")
    try:
        return place_export(name, get_exports())
    except ExportError as error:
        st.error(escape_markdown(str(error)))
        return None


def _suggest_name(view: View, format: str) -> str:
    suffix = f"-without-{view.mask}".replace(",", "_") if view.mask else "-whole"
    if view.recovers:
        suffix += f"-{write_modifiers(view.modify)}".replace(",", "_")
    model = Path(view.model).name.lstrip(".") or "model"
    return f"{model}{suffix}"[:120] + f"-{format}"


def _free_bytes() -> int:
    """Free bytes where exports go."""
    path = get_exports().absolute()
    try:
        return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free
    except (OSError, ValueError):
        return 0


with framed("export") as frame:
    require_summary(frame)
    with st.container(key="export"):
        main(frame.view)
