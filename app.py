"""The dashboard's entry: for `streamlit run` the guarded application, for a session the pages in the flow's order."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from ui import session
from ui.api import make_routes, take_up
from ui.export import make_archive_routes
from ui.live import draw_uncaught, get_engine, make_tab_routes
from ui.serving import serving
from ui.view import Navigation, read_address

#: The name of the program as a picture, in a grey that can be read on light and on dark.
NAME = """<svg xmlns="http://www.w3.org/2000/svg" width="205" height="20" role="img">
<title>Layer Redundancy Explorer</title>
<text y="15" font-family="Helvetica, Arial, sans-serif" font-size="14.5" font-weight="600"
fill="#727a85">Layer Redundancy Explorer</text></svg>"""


def draw() -> None:
    st.set_page_config(page_title="Layer Redundancy Explorer", layout="wide")
    st.logo(NAME, size="small")
    session.change(Navigation, in_app=True)
    pages = {
        "explore": st.Page("pages/explore.py", title="Explore", default=True),
        "analyse": st.Page("pages/analyse.py", title="Analyse"),
        "plans": st.Page("pages/plans.py", title="Plans"),
        "heal": st.Page("pages/heal.py", title="Heal"),
        "sparsity": st.Page("pages/sparsity.py", title="Sparsity"),
        "evaluate": st.Page("pages/evaluate.py", title="Evaluate"),
        "compare": st.Page("pages/compare.py", title="Compare"),
        "export": st.Page("pages/export.py", title="Export"),
        "docs": st.Page("pages/docs.py", title="Docs"),
    }
    page = st.navigation([*pages.values(), *_list_former()], position="top")
    if name := session.read(Navigation).go_to:
        session.change(Navigation, go_to=None)
        st.switch_page(pages[name], query_params=read_address())
    page.run()


def _list_former() -> list[Any]:
    """List the addresses that links of earlier versions have; each leads to what is there now."""

    def lead(to: str) -> Callable[[], None]:
        def go() -> None:
            session.change(Navigation, go_to=to)
            st.rerun()

        return go

    former = {"prune": "explore", "overview": "explore", "redundancy": "analyse"}
    return [st.Page(lead(to), title=name, url_path=name, visibility="hidden") for name, to in former.items()]


if __name__ == "__main__":
    draw()
else:
    app = st.App(
        __file__,
        on_script_error=draw_uncaught,
        **serving(
            take_up,
            lambda: get_engine().health(),
            lambda stopping: [*make_routes(stopping), *make_tab_routes(stopping), *make_archive_routes()],
        ),
    )
