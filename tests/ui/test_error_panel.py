"""What a panel, a page or a callback raises: one line in its place, a way on, the log, and nothing else harmed."""

from __future__ import annotations

import runpy

import pytest
from streamlit.testing.v1 import AppTest

from ui.live.error_panel import draw_uncaught

SCRIPT = """
import streamlit as st
from explorer.errors import TextError
from ui.live import error_panel
from ui.live.panels import panel

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
    assert [each.value for each in app.caption] == ["to pages/explore.py"]
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
    try:
        raise ZeroDivisionError("of a callback")
    except ZeroDivisionError as error:  # what `st.App` does with what a callback raises
        assert error_panel.draw_uncaught(error)

if st.button("Fail"):
    fail()
st.text("drawn")
"""


def test_what_a_callback_raises_is_said_in_our_words() -> None:
    app = AppTest.from_string(CALLBACK, default_timeout=60).run()
    app.button[0].click().run()
    assert not app.exception
    (said,) = app.error
    assert "ZeroDivisionError: of a callback" in said.value.replace("\\", "")
    assert [each.label for each in app.button][-1] == "Try again"
    app.button[-1].click().run()
    assert texts(app) == ["drawn"]


def test_showing_an_error_is_no_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: BaseException, name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("ui.live.error_panel.draw_broken", fail)
    assert draw_uncaught(ZeroDivisionError())


def test_the_served_application_shows_what_a_callback_raises_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr("streamlit.App", lambda script, **options: given.update(options))
    runpy.run_path("app.py", run_name="app")
    assert given["on_script_error"] is draw_uncaught
