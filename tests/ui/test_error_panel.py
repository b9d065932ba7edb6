"""What a panel, a page or a callback raises: one line in its place, a way on, the log, and nothing else harmed."""

from __future__ import annotations

import pytest
from streamlit import error_util
from streamlit.testing.v1 import AppTest

from ui.live import streamlit_internals

SCRIPT = """
import streamlit as st
from explorer.errors import TextError
from ui.live import error_panel
from ui.live import live_panels
from ui.live.live_panels import panel

live_panels.get_watchers = lambda: type("Nobody", (), {"begin": lambda *_: None})()
error_panel.st.page_link = lambda page, label: st.caption(f"to {page}")
state = st.session_state
state.setdefault("runs", 0)
state.runs += 1

def first():
    st.text("whole")
    if state.get("raise") == "known":
        raise TextError("It broke", "a *reason*", "Mend it")
    if state.get("raise") == "unknown":
        raise KeyError("secret <b>")
    st.text("to the end")

panel("first", first)
panel("second", lambda: st.text("the other"))
if st.checkbox("stop"):
    panel("third", st.stop)
st.text("behind")
"""


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_string(SCRIPT, default_timeout=60)


def texts(app: AppTest) -> list[str]:
    return [each.value for each in app.text]


def test_a_panel_that_breaks_leaves_the_others_alone(app: AppTest, capsys: pytest.CaptureFixture[str]) -> None:
    app.session_state["raise"] = "known"
    app.run()
    assert texts(app) == ["whole", "the other", "behind"]
    (said,) = app.error
    assert said.value.replace("\\", "") == "It broke: a *reason*. Mend it."
    assert [each.value for each in app.caption] == ["to pages/overview.py"]
    assert "first: It broke" in capsys.readouterr().err
    assert not app.exception


def test_what_nobody_foresaw_is_one_line_and_logged_whole(app: AppTest, capsys: pytest.CaptureFixture[str]) -> None:
    app.session_state["raise"] = "unknown"
    app.run()
    (said,) = app.error
    assert "KeyError" in said.value
    assert "<b>" not in said.value, "not as markup"
    assert "The server's log has more" in said.value.replace("\\", "")
    assert "Traceback" in capsys.readouterr().err
    assert not app.exception


def test_trying_again_draws_what_works_by_then(app: AppTest) -> None:
    app.session_state["raise"] = "known"
    app.run()
    app.session_state["raise"] = ""
    app.button[0].click().run()
    assert texts(app) == ["whole", "to the end", "the other", "behind"]
    assert not app.error


def test_stopping_is_no_error(app: AppTest) -> None:
    app.run()
    app.checkbox[0].check().run()
    assert not app.error
    assert "behind" not in texts(app)


CALLBACK = """
import streamlit as st
from ui.live import error_panel
error_panel.st.page_link = lambda page, label: st.caption(f"to {page}")

def fail():
    raise ZeroDivisionError("of a callback")

st.button("Fail", on_click=fail)
st.text("drawn")
"""


def test_what_a_callback_raises_is_said_in_our_words() -> None:
    streamlit_internals.correct_runs()
    assert error_util.show_uncaught_app_exception is streamlit_internals.draw_uncaught  # type: ignore[comparison-overlap]
    app = AppTest.from_string(CALLBACK, default_timeout=60).run()
    app.button[0].click().run()
    assert not app.exception
    (said,) = app.error
    assert "ZeroDivisionError: of a callback" in said.value.replace("\\", "")
    assert [each.label for each in app.button][-1] == "Try again"
    app.button[-1].click().run()
    assert texts(app) == ["drawn"]
