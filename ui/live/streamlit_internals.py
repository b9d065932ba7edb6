"""Runs of a session's script: started from outside, ended whole, and never of a page that was left.

Streamlit has no public calls for that; all that leans on its private parts is here. Its version is pinned, and
`tests/browser/test_live_panels.py` and `tests/ui/test_streamlit_internals.py` hold what this relies on.
"""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from streamlit import runtime
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime import Runtime
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import (
    RerunData,
    ScriptRequests,
    ScriptRequestType,
    _coalesce_widget_states,
)
from streamlit.runtime.scriptrunner_utils.script_run_context import get_script_run_ctx

_PATIENCE = 5.0  # seconds that a run waits for the event loop at most, should the server be going down


class Session:
    """A session of this server, if it is still there."""

    def __init__(self, name: str) -> None:
        self._found: Any = runtime.get_instance().get_app_session(name)

    @property
    def gone(self) -> bool:
        """Whether its browser has left for good."""
        return self._found is None

    @property
    def loop(self) -> AbstractEventLoop:
        """The server's event loop."""
        return self._found._event_loop

    @property
    def idle(self) -> bool:
        """Whether it runs nothing and all that it drew is on its way.

        Streamlit takes unsent deltas of a panel back when the panel runs again.
        """
        return self._found._scriptrunner is None and self._found._browser_queue.is_empty()

    def has_replaced(self, runner: ScriptRunner) -> bool:
        """Tell whether another run was started in the place of a runner's."""
        return isinstance(self._found, AppSession) and self._found._scriptrunner is not runner

    def run_page(self) -> None:
        """Run the page of an idle session. Only on the event loop, as the session itself does for its browser."""
        self._run([])

    def run_panels(self, panels: list[str]) -> None:
        """Run fragments of an idle session, all in one run: a second one would drop what the first sends."""
        if panels := [panel for panel in panels if self._found.has_fragment(panel)]:
            self._run(panels)

    def _run(self, panels: list[str]) -> None:
        last = self._found._client_state
        self._found._create_scriptrunner(
            RerunData(
                query_string=last.query_string,
                page_script_hash=last.page_script_hash,
                fragment_id_queue=panels,
                is_auto_rerun=True,
                context_info=last.context_info if last.HasField("context_info") else None,
            )
        )


def came_through_history() -> bool:
    """Tell whether the browser asked for this run by going back or forward."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def correct_runs() -> None:
    """Correct what a run draws, and where a session stays; once is enough."""
    if not hasattr(ScriptRunner, "corrected"):
        ScriptRunner.corrected = True  # type: ignore[attr-defined]
        ScriptRunner._run_script = end_whole(ScriptRunner._run_script)  # type: ignore[assignment, method-assign]
        AppSession.request_rerun = stay_on_page(  # type: ignore[method-assign]
            take_every_click(AppSession.request_rerun)  # type: ignore[assignment]
        )
        Runtime._send_message = send_to_present(Runtime._send_message)  # type: ignore[assignment, method-assign]


def end_whole(run_script: Callable[[ScriptRunner, RerunData], None]) -> Callable[[ScriptRunner, RerunData], None]:
    """Let a run end only when all that it drew has reached the event loop; do not begin one that was given up.

    A run that was given up before it began would still set the session's page, perhaps after the run in its place.

    A fragment that a browser asks for just when a run has ended gets a runner of its own, and Streamlit then ignores
    what the runner before has said but the loop has not heard: the page would stay drawn in part.
    """

    def run_whole(runner: ScriptRunner, data: RerunData) -> None:
        if runtime.exists() and Session(runner._session_id).has_replaced(runner):
            return
        run_script(runner, data)
        if runtime.exists() and not (session := Session(runner._session_id)).gone:
            heard = threading.Event()
            session.loop.call_soon_threadsafe(heard.set)
            heard.wait(_PATIENCE)

    return run_whole


def send_to_present(send: Callable[[Runtime, Any, Any], None]) -> Callable[[Runtime, Any, Any], None]:
    """Send what a session says to the browser that it has now.

    Streamlit goes over all sessions and the connections that they had when it began: what a page drew meanwhile for a
    browser that came back would be sent to the connection that was lost.
    """

    def send_message(server: Runtime, found: Any, message: Any) -> None:
        send(server, server._session_mgr.get_active_session_info(found.session.id) or found, message)

    return send_message


def take_every_click(request: Callable[[AppSession, Any], None]) -> Callable[[AppSession, Any], None]:
    """Take what Streamlit lets fall of what was clicked in a hurry.

    A run that is given up before it began takes the clicks that were to be told to it along; the run in its place is
    told them. For a click in a fragment that is no longer there, as its browser has not heard yet, the page is run.
    """

    def request_rerun(session: AppSession, asked: ClientState | None) -> None:
        if asked and asked.fragment_id and not asked.is_auto_rerun and not session.has_fragment(asked.fragment_id):
            asked = _copy(asked)
            asked.ClearField("fragment_id")
        if asked and not asked.fragment_id and session._scriptrunner:
            asked = _take_over(session._scriptrunner._requests, asked)
        request(session, asked)

    return request_rerun


def _take_over(waiting: ScriptRequests, asked: ClientState) -> ClientState:
    """Give up what a runner has not begun; return what is asked together with what was to be told there."""
    with waiting._lock:  # told once: either it has begun, or it never will
        if waiting._state != ScriptRequestType.RERUN:
            return asked
        waiting._state = ScriptRequestType.STOP
        told = _coalesce_widget_states(waiting._rerun_data.widget_states, asked.widget_states)
    asked = _copy(asked)
    asked.widget_states.CopyFrom(told or WidgetStates())
    return asked


def _copy(asked: ClientState) -> ClientState:
    copied = ClientState()
    copied.CopyFrom(asked)
    return copied


def stay_on_page(request: Callable[[AppSession, Any], None]) -> Callable[[AppSession, Any], None]:
    """Ignore what a browser still asks for on a page after it has asked for another one.

    Until it hears from the new page it names the old one, and Streamlit would lead the session back there. A page that
    was opened by its address goes by the name of the main script until its first run is through.
    """

    def request_rerun(session: AppSession, asked: ClientState | None) -> None:
        page = asked.page_script_hash if asked else ""
        if asked and page and not asked.fragment_id:
            session._client_state.page_script_hash = page
        here = (page, session._pages_manager.main_script_hash)
        if asked and page and session._client_state.page_script_hash not in here:
            return
        request(session, asked)

    return request_rerun
