"""The dashboard's entry: the pages, in the order of the flow."""

import streamlit as st

st.set_page_config(page_title="Layer Redundancy Explorer", layout="wide")
st.session_state.in_app = True

PAGES = {
    "overview": st.Page("pages/overview.py", title="Overview", default=True),
    "redundancy": st.Page("pages/redundancy.py", title="Redundancy"),
    "prune": st.Page("pages/prune.py", title="Prune"),
    "plans": st.Page("pages/plans.py", title="Plans"),
    "compare": st.Page("pages/compare.py", title="Compare"),
    "export": st.Page("pages/export.py", title="Export"),
}
page = st.navigation(list(PAGES.values()), position="top")
if name := st.session_state.pop("go_to", None):
    st.switch_page(PAGES[name], query_params=dict(st.query_params))
page.run()
