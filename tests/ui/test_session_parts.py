"""What a session keeps: parts by kind, frozen, under one key, there in the next run and in no other session."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from dataclasses import dataclass, field

import pytest
from streamlit.testing.v1 import AppTest

import ui
from ui import session

SCRIPT = """
import streamlit as st
from tests.ui.test_session_parts import Counted, Named
from ui import session

def count():
    session.change(Counted, count=session.read(Counted).count + 1, seen=(*session.read(Counted).seen, "clicked"))

@st.fragment
def part():
    st.button("Count", on_click=count)
    st.text(f"{session.read(Counted)} {session.read(Named).name}")

if session.read(Named).name == "":
    session.change(Named, name="first run")
part()
"""


@dataclass(frozen=True, kw_only=True)
class Counted:
    count: int = 0
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Named:
    name: str = ""
    others: dict[str, int] = field(default_factory=dict)


def test_parts_live_from_run_to_run_under_one_key() -> None:
    app = AppTest.from_string(SCRIPT, default_timeout=60).run()
    before = app.text[0].value
    app.button[0].click().run()
    app.button[0].click().run()
    assert not app.exception
    assert before == "Counted(count=0, seen=()) first run"
    assert app.text[0].value == "Counted(count=2, seen=('clicked', 'clicked')) first run"
    assert {kind.__name__ for kind in app.session_state["session"]} == {"Counted", "Named"}
    assert AppTest.from_string(SCRIPT, default_timeout=60).run().text[0].value == before


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="another"):
        session.change(Counted, another=1)  # type: ignore[call-arg]


def find_parts() -> list[type]:
    """The dataclasses of ui/ whose instances a session may keep: those that take no argument by its place."""
    found = {}
    for module in pkgutil.walk_packages(ui.__path__, "ui."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            ours = kind.__module__.startswith("ui.") and dataclasses.is_dataclass(kind)
            if ours and all(each.kw_only for each in dataclasses.fields(kind)):
                found[name, kind.__module__] = kind
    return list(found.values())


def test_what_is_kept_is_frozen_and_there_from_the_start() -> None:
    parts = find_parts()
    assert len(parts) > 25
    for kind in parts:
        assert kind.__dataclass_params__.frozen, kind
        assert kind() == kind()
        mutable = [
            each.name for each in dataclasses.fields(kind) if isinstance(getattr(kind(), each.name), (list, set))
        ]
        assert not mutable, (kind, mutable)
