"""Write what is left of the model for whoever is to load it, and see it proven equal to what was measured."""

import shutil
from pathlib import Path

import streamlit as st

from explorer.paths import expand
from ui.engine import Outlook, View
from ui.frame import framed, require_facts
from ui.session import get_engine, get_owner
from ui.targets import OFFERED, choose_target, draw_exported, draw_target
from ui.waiting import ready


def main(view: View) -> None:
    engine, owner = get_engine(), get_owner()
    planned = engine.outlook(owner, view, OFFERED)
    if not ready(planned):
        return
    outlooks: dict[str, Outlook] = planned.result
    if all(outlook.refused for outlook in outlooks.values()):
        st.warning("Nothing is left to export: every layer is off.")
        return
    chosen = choose_target(outlooks)
    target = st.text_input(
        "Target folder", _suggest_target(view, chosen), key=f"target {view.model} {view.mask} {chosen}"
    )
    draw_target(chosen, outlooks[chosen], _free_bytes(target))
    overwrite = st.checkbox("Replace a checkpoint that is there")
    refused = bool(outlooks[chosen].refused)
    if st.button("Export", type="primary", disabled=refused or not target.strip()):
        engine.worker.forget_failed()
        st.session_state.export_job = engine.export(owner, view, chosen, Path(target.strip()), overwrite)
    job = st.session_state.get("export_job") or engine.find_export(owner, view)
    if job is not None and ready(job, again=False):
        draw_exported(job.result)


def _suggest_target(view: View, format: str) -> str:
    suffix = f"-without-{view.mask}".replace(",", "_") if view.mask else "-whole"
    return str(Path("exports") / f"{Path(view.model).name}{suffix}"[:120]) + f"-{format}"


def _free_bytes(target: str) -> int:
    """Free bytes where a folder is to be, as far as it is there."""
    path = expand(target.strip()).absolute()
    try:
        return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free
    except (OSError, ValueError):
        return 0


with framed("export") as frame:
    require_facts(frame)
    with st.container(key="export"):
        main(frame.view)
