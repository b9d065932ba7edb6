"""What a tab is told of the jobs that its page shows: what, when, and that nothing is lost or told for another page."""

from __future__ import annotations

from typing import Any

from explorer.execution.job import Job
from ui.live.tab import LATER, PACE, POLLS, STREAMS, Painting, Tab, Watch
from ui.live.tab_stream import tell
from ui.live.tabs import Tabs


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[Tab, Clock, Job]:
    clock = Clock()
    return Tab(clock), clock, Job("key", "title", lambda job: None)


def begin(tab: Tab, panel: str) -> tuple[int, int]:
    """Begin a panel; return its number, and that of its run."""
    numbers = tab.begin_panel(panel)
    return numbers["panel"], numbers["run"]


def test_a_panel_runs_when_a_job_ends_and_not_as_it_gets_on() -> None:
    tab, _, job = make()
    numbers = begin(tab, "header")
    tab.watch("header", job, Watch())
    tab.changed(job, False)
    assert tab.wait_for() is None
    job.state = "done"
    tab.changed(job, True)
    assert tab.wait_for() == 0
    assert tab.take().panels == [numbers]
    assert tab.take().panels == []


def test_a_panel_runs_when_a_job_begins_only_if_it_says_so() -> None:
    tab, clock, job = make()
    number, _ = (begin(tab, "bar"), begin(tab, "header"))
    tab.watch("header", job, Watch())
    tab.watch("bar", job, Watch())
    tab.watch("bar", job, Watch(begins=True))
    for state in ("running", "paused", "running"):
        clock.now += PACE
        job.state = state
        tab.changed(job, True)
        assert tab.take().panels == [number]


def test_a_panel_whose_components_paint_a_result_runs_only_if_there_is_none() -> None:
    tab, _, job = make()
    number = begin(tab, "instrument")
    tab.watch("instrument", job, Watch(result=False))
    job.state = "done"
    tab.changed(job, True)
    assert tab.take().panels == []
    for state in ("failed", "cancelled"):
        job.state = state
        tab.changed(job, True)
        assert tab.take().panels == [number]
    tab.watch("instrument", job, Watch())
    job.state = "done"
    tab.changed(job, True)
    assert tab.take().panels == [number], "another part of the panel wants the result"


def test_a_panel_that_shows_what_there_is_so_far_runs_at_its_pace() -> None:
    tab, clock, job = make()
    number = begin(tab, "curve")
    tab.watch("curve", job, Watch(PACE))
    tab.changed(job, False)
    assert tab.take().panels == [number]
    tab.changed(job, False)
    assert tab.take().panels == []
    assert tab.wait_for() == PACE
    clock.now += PACE
    assert tab.take().panels == [number]
    tab.changed(job, False)
    job.state = "done"
    tab.changed(job, True)
    assert tab.take().panels == [number], "its end does not wait"


def test_a_panel_drawn_anew_forgets_what_it_showed_and_keeps_its_number() -> None:
    tab, _, job = make()
    before = tab.begin_panel("header")
    tab.watch("header", job, Watch(PACE))
    tab.paint("bar", Painting("header", frozenset({job}), dict, 0.0))
    tab.changed(job, False)
    after = tab.begin_panel("header")
    assert (before["panel"], before["run"] < after["run"]) == (after["panel"], True)
    tab.changed(job, True)
    assert tab.wait_for() is None


def test_what_a_callback_has_run_waits_for_the_panel_of_its_widget() -> None:
    tab, clock, _ = make()
    header, strip = (begin(tab, name) for name in ("header", "strip"))
    tab.rerun(["header", "strip"], following=True)
    assert tab.take().panels == []
    begun = tab.begin_panel("strip")["run"]
    news = tab.take()
    assert (news.panels, news.runs) == ([header], [header, (strip[0], begun)])
    tab.rerun(["header"], following=True)
    clock.now += LATER
    assert tab.take().panels == [header], "a callback that no panel follows"
    assert strip[1] < begun


def test_a_dialog_holds_back_all_other_panels() -> None:
    tab, _, job = make()
    tab.begin_panel("header")
    number = begin(tab, "facts")
    for panel in ("header", "facts"):
        tab.watch(panel, job, Watch(PACE))
    tab.open_dialog(["facts"])
    tab.changed(job, True)
    assert tab.take().panels == [number]


def test_a_painting_tells_only_what_has_changed() -> None:
    tab, _, job = make()
    shown: dict[str, Any] = {"words": "a", "values": [1.0, 2.0]}
    painting = Painting("", frozenset({job}), lambda: dict(shown), 0.0)
    assert tab.paint("strip", painting) == shown
    tab.changed(job, False)
    assert tell(tab)["paint"] == {}
    shown["words"] = "b"
    tab.changed(job, False)
    assert tell(tab)["paint"] == {"strip": [painting.serial, {"words": "b"}]}
    tab.changed(Job("other", "title", lambda job: None), True)
    assert tab.wait_for() is None


def test_a_page_has_all_of_a_painting_and_what_changes_meanwhile_is_told_after_it() -> None:
    tab, _, job = make()
    words = ["a", "b"]

    def describe() -> dict[str, Any]:
        said = {"words": words[0], "values": [1.0]}
        if len(words) == 2:
            words.pop(0)
            tab.changed(job, True)
            assert tell(tab)["paint"] == {}, "before the page has it"
        return said

    painting = Painting("", frozenset({job}), describe, 0.0)
    assert tab.paint("strip", painting) == {"words": "a", "values": [1.0]}
    assert tell(tab)["paint"] == {"strip": [painting.serial, {"words": "b"}]}


def test_a_painting_of_all_jobs_keeps_its_pace_whatever_begins_or_ends() -> None:
    tab, clock, job = make()
    count = iter(range(9))
    tab.paint("work", Painting("", None, lambda: {"looks": next(count)}, 1.0))
    tab.changed(job, True)
    assert tell(tab)["paint"]
    tab.changed(job, True)
    assert tab.wait_for() == 1.0
    clock.now += 1.0
    assert tell(tab)["paint"]


def test_what_was_told_and_perhaps_not_heard_is_told_again() -> None:
    tab, _, _ = make()
    number = begin(tab, "header")
    painting = Painting("header", None, lambda: {"words": "a"}, 0.0)
    tab.paint("work", painting)
    tab.catch_up()
    assert tell(tab) == {"run": [number], "paint": {"work": [painting.serial, {"words": "a"}]}, "ran": [number]}


def test_what_a_stream_would_take_that_is_not_heard_any_more_is_left_for_the_next() -> None:
    tab, _, _ = make()
    number = begin(tab, "header")
    former, stream = tab.begin_stream(), tab.begin_stream()
    tab.catch_up()
    nothing = {"run": [], "paint": {}, "ran": []}
    assert tell(tab, former) == tell(tab) == nothing
    assert tell(tab, stream)["run"] == [number]
    tab.end_stream(former)
    tab.catch_up()
    assert tell(tab) == nothing
    tab.end_stream(stream)
    assert tell(tab)["run"] == [number]


def test_a_painting_that_breaks_has_its_panel_run() -> None:
    tab, _, job = make()
    number = begin(tab, "header")
    divisors = iter([1, 0])
    tab.paint("strip", Painting("header", None, lambda: {"words": 1 // next(divisors)}, 0.0))
    tab.changed(job, True)
    assert tell(tab) == {"run": [], "paint": {}, "ran": [number]}
    assert tab.take().panels == [number]


def test_a_new_page_is_told_nothing_of_the_one_before() -> None:
    tab, _, job = make()
    before = tab.begin_panel("header")
    tab.watch("header", job, Watch(PACE))
    tab.changed(job, True)
    page = tab.begin_page()
    tab.changed(job, True)
    assert not (told := tell(tab))["run"]
    assert not told["paint"]
    assert tab.begin_panel("header")["page"] == page["page"] > before["page"] == 0
    assert page == {"panel": 0, "run": page["page"], "page": page["page"]}


def test_a_tab_is_there_while_it_listens_and_for_a_while_after() -> None:
    clock = Clock()
    tabs = Tabs(lambda: Tab(clock))
    name = tabs.enter()
    tab = tabs.find(name)
    assert tab is not None
    older, stream = tab.begin_stream(), tab.begin_stream()
    tab.end_stream(older)  # its browser listens to another by now
    clock.now += 10_000
    assert tabs.is_there(name)
    tab.end_stream(stream)
    clock.now += STREAMS - 1
    assert tabs.is_there(name)
    clock.now += 2
    assert not tabs.is_there(name)
    tab.hear()  # it asks without a stream
    clock.now += POLLS - 1
    assert tabs.is_there(name)
    clock.now += 10_000
    tabs.enter()
    assert tabs.find(name) is None
    assert tabs.find("unknown") is None
