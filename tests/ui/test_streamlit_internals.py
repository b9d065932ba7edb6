"""Streamlit's streamlit_internals, corrected: they end whole, and a page that was left stays left."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit import runtime
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.runtime import Runtime
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests, ScriptRequestType

from ui.live import streamlit_internals


def test_a_run_ends_when_the_loop_has_heard_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, heard = asyncio.new_event_loop(), []
    serving = threading.Thread(target=loop.run_forever)
    serving.start()
    session = SimpleNamespace(_event_loop=loop)
    monkeypatch.setattr(runtime, "exists", lambda: True)
    monkeypatch.setattr(runtime, "get_instance", lambda: SimpleNamespace(get_app_session=lambda name: session))

    def draw(runner: Any, data: Any) -> None:
        loop.call_soon_threadsafe(time.sleep, 0.3)  # a server that is busy
        loop.call_soon_threadsafe(heard.append, "all")

    streamlit_internals.end_whole(draw)(SimpleNamespace(_session_id="one"), None)  # type: ignore[arg-type]
    assert heard == ["all"]
    loop.call_soon_threadsafe(loop.stop)
    serving.join()
    loop.close()


def test_a_run_that_was_given_up_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    session, began = AppSession.__new__(AppSession), []
    monkeypatch.setattr(AppSession, "__del__", lambda self: None)
    first, second = (SimpleNamespace(_session_id="one") for _ in range(2))
    session._scriptrunner = second  # type: ignore[assignment]
    session._event_loop = SimpleNamespace(call_soon_threadsafe=lambda work: work())  # type: ignore[assignment]
    monkeypatch.setattr(runtime, "exists", lambda: True)
    monkeypatch.setattr(runtime, "get_instance", lambda: SimpleNamespace(get_app_session=lambda name: session))
    run = streamlit_internals.end_whole(lambda runner, data: began.append(runner))
    for runner in (first, second):
        run(runner, None)  # type: ignore[arg-type]
    assert began == [second]


def test_what_a_page_says_goes_to_the_browser_that_is_there_now() -> None:
    session = SimpleNamespace(id="one")
    lost, back = (SimpleNamespace(session=session, client=name) for name in ("lost", "back"))
    known = {"one": back}
    server = SimpleNamespace(_session_mgr=SimpleNamespace(get_active_session_info=known.get))
    sent: list[tuple[str, str]] = []
    send = streamlit_internals.send_to_present(lambda server, found, message: sent.append((found.client, message)))
    send(server, lost, "a")  # type: ignore[arg-type]
    known.clear()
    send(server, lost, "b")  # type: ignore[arg-type]
    assert sent == [("back", "a"), ("lost", "b")]


def test_a_click_in_a_fragment_that_is_gone_runs_the_whole_page() -> None:
    session, taken = SimpleNamespace(has_fragment=lambda name: name == "there", _scriptrunner=None), []
    request = streamlit_internals.take_every_click(lambda session, asked: taken.append(asked and asked.fragment_id))
    asked = [
        ClientState(fragment_id="there"),
        ClientState(fragment_id="gone"),
        ClientState(fragment_id="gone", is_auto_rerun=True),
        None,
    ]
    for each in asked:
        request(session, each)  # type: ignore[arg-type]
    assert taken == ["there", "", "gone", None]
    assert asked[1] is not None
    assert asked[1].fragment_id == "gone"


@pytest.mark.parametrize("waits", [True, False])
def test_a_click_for_a_run_that_did_not_begin_is_told_to_the_run_in_its_place(waits: bool) -> None:
    clicked = WidgetStates(widgets=[WidgetState(id="button", trigger_value=True), WidgetState(id="on", int_value=1)])
    runner = SimpleNamespace(_requests=ScriptRequests())
    runner._requests.request_rerun(RerunData(widget_states=clicked))
    if not waits:
        runner._requests.on_scriptrunner_ready()
    session, taken = SimpleNamespace(_scriptrunner=runner), []
    request = streamlit_internals.take_every_click(lambda session, asked: taken.append(asked))
    request(session, ClientState(widget_states=WidgetStates(widgets=[WidgetState(id="on", int_value=2)])))  # type: ignore[arg-type]
    told = {each.id: each.trigger_value or each.int_value for each in taken[0].widget_states.widgets}
    assert told == ({"on": 2, "button": True} if waits else {"on": 2})
    assert (runner._requests.on_scriptrunner_ready().type == ScriptRequestType.STOP) or not waits


def test_what_is_asked_of_a_page_that_was_left_is_ignored() -> None:
    main = SimpleNamespace(main_script_hash="app")
    session = SimpleNamespace(_client_state=ClientState(page_script_hash="app"), _pages_manager=main)
    taken: list[tuple[str, str]] = []

    def take(session: Any, asked: ClientState | None) -> None:
        taken.append((asked.page_script_hash, asked.fragment_id) if asked else ("", ""))

    request = streamlit_internals.stay_on_page(take)
    request(session, ClientState(page_script_hash="export", fragment_id="first"))  # type: ignore[arg-type]
    for page, fragment in [("export", ""), ("export", "a"), ("prune", ""), ("export", "a"), ("prune", "b"), ("", "")]:
        request(session, ClientState(page_script_hash=page, fragment_id=fragment))  # type: ignore[arg-type]
    request(session, None)  # type: ignore[arg-type]
    asked = [("export", "first"), ("export", ""), ("export", "a"), ("prune", ""), ("prune", "b"), ("", ""), ("", "")]
    assert taken == asked


def test_the_corrections_are_made_once() -> None:
    streamlit_internals.correct_runs()
    once = ScriptRunner._run_script, AppSession.request_rerun, Runtime._send_message
    streamlit_internals.correct_runs()
    assert (ScriptRunner._run_script, AppSession.request_rerun, Runtime._send_message) == once
