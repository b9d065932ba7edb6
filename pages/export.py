"""Write the pruned checkpoint, and see it proven equal to what was measured."""

import shutil
from pathlib import Path

import streamlit as st

from explorer.export.checkpoint import Exported
from ui.engine import Outlook, View
from ui.figures import describe_bytes
from ui.frame import framed, require_facts
from ui.plain import plain
from ui.session import get_engine, get_owner
from ui.waiting import ready


def main(view: View) -> None:
    engine, owner = get_engine(), get_owner()
    outlook = engine.outlook(owner, view)
    if not ready(outlook):
        return
    _draw_outlook(outlook.result, view)
    target = st.text_input("Target folder", _suggest_target(view), key=f"target {view.model} {view.mask}")
    overwrite = st.checkbox("Replace a checkpoint that is there")
    if st.button("Export", type="primary", disabled=not target.strip()):
        run = st.session_state.get("export_run", 0) + 1
        st.session_state.export_run = run
        engine.worker.forget_failed()
        st.session_state.export_job = engine.export(owner, view, Path(target.strip()), overwrite, run)
    job = st.session_state.get("export_job")
    if job is not None and ready(job, again=False):
        _draw_exported(job.result)


def _draw_outlook(outlook: Outlook, view: View) -> None:
    free = shutil.disk_usage(Path.cwd()).free
    left, middle, right = st.columns(3)
    left.metric("Layers written", outlook.layers)
    middle.metric("Weights on disk", describe_bytes(outlook.bytes), help="In the checkpoint's own precision")
    right.metric("Disk free here", describe_bytes(free))
    st.text(f"Removed: {view.mask}")
    if outlook.zeroed:
        st.caption(
            f"Output projections set to zero: {outlook.zeroed}, for what is off in layers that stay. The function is "
            "the same and loads everywhere, but saves neither memory nor compute."
        )


def _suggest_target(view: View) -> str:
    suffix = f"-without-{view.mask}".replace(",", "_") if view.mask else "-whole"
    return str(Path("exports") / f"{Path(view.model).name}{suffix}"[:120])


def _draw_exported(made: Exported) -> None:
    proof = made.verification
    st.success(plain(f"Wrote {made.out}"))
    left, middle, right = st.columns(3)
    left.metric("Largest logit difference", f"{proof.max_abs_logit_difference:.3g}")
    middle.metric("Perplexity, reloaded", f"{proof.perplexity_reloaded:.4f}")
    right.metric("Perplexity, measured", f"{proof.perplexity_masked:.4f}")
    st.caption("Reloaded with plain transformers and compared with the masked model on the held-out windows.")
    st.code(
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(made.out)!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(made.out)!r})",
        language="python",
    )
    st.code(made.command, language="bash")


with framed("export") as frame:
    require_facts(frame)
    with st.container(key="export"):
        main(frame.view)
