"""The dashboard's entry: for `streamlit run` the guarded application, for a session the pages in the flow's order."""

import streamlit as st

from ui.live import draw_uncaught, get_engine
from ui.serving import serving


def draw() -> None:
    st.set_page_config(page_title="Layer Redundancy Explorer", layout="wide")
    st.session_state.in_app = True
    pages = {
        "overview": st.Page("pages/overview.py", title="Overview", default=True),
        "redundancy": st.Page("pages/redundancy.py", title="Redundancy"),
        "prune": st.Page("pages/prune.py", title="Prune"),
        "plans": st.Page("pages/plans.py", title="Plans"),
        "heal": st.Page("pages/heal.py", title="Heal"),
        "sparsity": st.Page("pages/sparsity.py", title="Sparsity"),
        "evaluate": st.Page("pages/evaluate.py", title="Evaluate"),
        "compare": st.Page("pages/compare.py", title="Compare"),
        "export": st.Page("pages/export.py", title="Export"),
    }
    page = st.navigation(list(pages.values()), position="top")
    if name := st.session_state.pop("go_to", None):
        st.switch_page(pages[name], query_params=dict(st.query_params))
    page.run()


if __name__ == "__main__":
    draw()
else:
    app = st.App(__file__, on_script_error=draw_uncaught, **serving(get_engine, lambda: get_engine().health()))
