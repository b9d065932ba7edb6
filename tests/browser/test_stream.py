"""The page hears of jobs by a stream: past a proxy that holds it back, when it was cut, when the server began anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, expect

from tests.support.browser import serve, settle
from tests.support.proxy import stand_between
from tests.support.tiny_models import WINDOW, Tiny
from ui.browser import read


def write_link(tiny: Tiny, windows: int) -> str:
    how = {"model": str(tiny.folder("llama")), "tokens": str(windows * WINDOW), "window": str(WINDOW)}
    return urlencode({**how, "dtype": "float32", "device": "cpu"})


def see_measured(page: Page) -> None:
    expect(page.locator("[data-part=tag]").first).to_have_text("measured")


def test_a_toggle_is_answered_by_the_stream_alone(tiny: Tiny, tmp_path: Path, page: Page) -> None:
    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/api/tabs/" in request.url else None)
        page.goto(f"{url}/?{write_link(tiny, 10)}")
        see_measured(page)
        page.get_by_role("switch", name="attention of layer 2", exact=True).click()
        expect(page.locator(".st-key-frame")).to_contain_text("a2")
        see_measured(page)
        expect(page.locator(".st-key-work")).to_have_text("Work: none")
        assert len(asked) == 1


def test_a_proxy_that_holds_the_stream_back_is_got_around_and_named(tiny: Tiny, tmp_path: Path, page: Page) -> None:
    with serve(EXPLORER_CACHE=str(tmp_path)) as url, stand_between(url) as (proxy, address):
        proxy.holding = True
        page.goto(f"{address}/?{write_link(tiny, 10)}")
        see_measured(page)
        expect(page.locator(".st-key-work")).to_contain_text("Numbers come once a second")
        expect(page.locator(".st-key-work")).to_contain_text("Work: none")


def test_a_stream_that_is_cut_in_mid_job_is_taken_up(tiny: Tiny, tmp_path: Path, page: Page) -> None:
    with serve(EXPLORER_CACHE=str(tmp_path)) as url, stand_between(url) as (proxy, address):
        page.goto(f"{address}/?{write_link(tiny, 2000)}")
        expect(page.locator(".st-key-work")).to_contain_text("Perplexity")
        proxy.cut()
        see_measured(page)
        expect(page.locator(".st-key-work")).to_have_text("Work: none")
        assert proxy.streams > 1


def test_a_reload_in_mid_job_finds_the_job(tiny: Tiny, tmp_path: Path, page: Page) -> None:
    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        page.goto(f"{url}/?{write_link(tiny, 2000)}")
        expect(page.locator(".st-key-work")).to_contain_text("Perplexity")
        page.reload()
        see_measured(page)
        expect(page.locator(".st-key-work")).to_have_text("Work: none")


def test_a_server_that_is_begun_anew_in_mid_sweep_goes_on_for_the_page_that_is_open(
    tiny: Tiny, tmp_path: Path, page: Page
) -> None:
    with serve(EXPLORER_CACHE=str(tmp_path)) as url, stand_between(url) as (proxy, address):
        page.goto(f"{address}/?{write_link(tiny, 2000)}")
        expect(page.locator(".st-key-work")).to_contain_text("Perplexity")
        with serve(EXPLORER_CACHE=str(tmp_path)) as another:
            proxy.lead_to(another)
            proxy.cut(streams_only=False)
            see_measured(page)
            expect(page.locator(".st-key-work")).to_have_text("Work: none")


@contextmanager
def lose_session(page: Page, tiny: Tiny, address: str) -> Iterator[None]:
    """Open a page that rests, and see it go on in another session after what is done meanwhile."""
    for _ in range(2):  # all that the second page shows is there already: nothing of it runs again by itself
        page.goto(f"{address}/?{write_link(tiny, 10)}")
        see_measured(page)
        expect(page.locator(".st-key-work")).to_have_text("Work: none")
    settle(page)
    name = page.evaluate("layerExplorerTab.name")
    yield
    page.wait_for_function("name => layerExplorerTab.name !== name", arg=name)
    settle(page)
    page.get_by_role("switch", name="attention of layer 2", exact=True).click()
    expect(page.locator(".st-key-frame")).to_contain_text("a2")
    see_measured(page)


def test_a_page_at_rest_goes_on_with_a_server_that_is_begun_anew(tiny: Tiny, tmp_path: Path, page: Page) -> None:
    with ExitStack() as servers:
        url = servers.enter_context(serve(EXPLORER_CACHE=str(tmp_path)))
        proxy, address = servers.enter_context(stand_between(url))
        with lose_session(page, tiny, address):
            proxy.lead_to(servers.enter_context(serve(EXPLORER_CACHE=str(tmp_path))))
            proxy.cut(streams_only=False)


def test_a_page_at_rest_goes_on_when_its_session_was_given_up(tiny: Tiny, tmp_path: Path, page: Page) -> None:
    hasty = {"STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": "1"}
    with (
        serve(EXPLORER_CACHE=str(tmp_path), **hasty) as url,
        stand_between(url) as (proxy, address),
        lose_session(page, tiny, address),
    ):
        proxy.refusing = True
        proxy.cut(streams_only=False)
        page.wait_for_timeout(3000)
        proxy.refusing = False


def test_what_another_server_counted_does_not_hide_what_this_one_tells(page: Page) -> None:
    silent = "window.EventSource = class { close() {} }; window.explorerAddress = 'http://127.0.0.1/';"
    told = """
      const drawn = [], parentElement = document.body;
      const draw = live(({ data }) => drawn.push(data.value));
      const send = (tab, serial, value) =>
        draw({ data: { painting: { tab, key: "strip", serial }, value }, parentElement });
      send("first", 900, "of the first");
      joinTab("second");
      hearNews(TAB, { paint: { strip: [7, { value: "measured" }] } }); // before the page has the component
      send("second", 7, "measuring");
      send("first", 901, "left over");
      hearNews(TAB, { paint: { strip: [7, { value: "measured again" }] } });
      return [...drawn, TAB.name];"""
    drawn = page.evaluate(f"() => {{ {silent}\n{read('tab.js')}\n{told} }}")
    assert drawn == ["of the first", "measured", "left over", "measured again", "second"]


FAKES = """
  const opened = [], asked = [];
  window.EventSource = class {
    constructor() { this.open = true; opened.push(this); }
    close() { this.open = false; }
  };
  window.explorerAddress = 'http://127.0.0.1/';
  window.told = { opened, asked, status: 200 };
  window.fetch = async (url) => {
    asked.push(url);
    return { ok: told.status === 200, status: told.status, json: async () => ({}) };
  };"""

BELLS = """
  window.rung = [];
  const see = (panel, run) =>
    answerBell(TAB, { panel, run, page: 1 }, { root: document.body, ring: () => rung.push(panel) });
  see(0, 3); see(1, 4); see(2, 5);"""


def run_tab(page: Page, script: str = "") -> None:
    """Put a tab onto an empty page, with streams that say what the test has them say, and a clock that it turns."""
    page.clock.install()
    page.goto("about:blank")
    page.add_script_tag(content=f"{FAKES}\n{read('tab.js')}\njoinTab('first');\n{script}")


def count_open(page: Page) -> list[bool]:
    return page.evaluate("told.opened.map((stream) => stream.open)")


def test_a_stream_that_was_left_says_nothing_of_the_next(page: Page) -> None:
    run_tab(page)
    page.clock.run_for(5000)
    page.evaluate("joinTab('second'); told.opened[1].onmessage({ data: '{}' })")
    page.clock.run_for(60_000)
    assert (count_open(page), page.evaluate("TAB.held")) == ([False, True], False)


def test_where_the_stream_is_held_back_it_is_tried_again_until_it_comes_through(page: Page) -> None:
    run_tab(page)
    page.clock.run_for(7000)
    assert (count_open(page), page.evaluate("TAB.held")) == ([False], True)
    page.clock.run_for(20_000)
    page.evaluate("told.opened[1].onerror()")
    page.clock.run_for(30_000)
    assert len(count_open(page)) == 3
    polls = page.evaluate("told.asked.length")
    page.clock.run_for(10_000)
    assert page.evaluate("told.asked.length") - polls in {9, 10, 11}, "it asks once a second, not twice"
    page.clock.run_for(10_000)
    page.evaluate("told.opened.at(-1).onmessage({ data: '{}' })")
    page.clock.run_for(60_000)
    assert (count_open(page)[-1], page.evaluate("TAB.held")) == (True, False)


def test_a_panel_whose_run_was_not_seen_runs_again(page: Page) -> None:
    run_tab(page, BELLS)
    page.evaluate("hearNews(TAB, { ran: [[1, 6], [2, 5]] })")
    page.clock.run_for(2900)
    assert page.evaluate("rung") == []
    page.clock.run_for(200)
    assert page.evaluate("rung") == [1]
    page.evaluate("see(1, 7); hearNews(TAB, { ran: [[1, 7], [2, 5]] })")
    page.clock.run_for(60_000)
    assert page.evaluate("rung") == [1]


def test_no_panel_runs_right_after_somebody_did_something(page: Page) -> None:
    run_tab(page, BELLS)
    page.mouse.click(10, 10)
    page.evaluate("hearNews(TAB, { run: [[1, 4]] })")
    page.clock.run_for(250)
    assert page.evaluate("rung") == []
    page.clock.run_for(100)
    assert page.evaluate("rung") == [1]


def test_the_page_runs_where_the_server_knows_its_tab_no_more(page: Page) -> None:
    run_tab(page, BELLS)
    page.evaluate("told.status = 410; told.opened[0].onerror()")
    page.clock.run_for(3500)
    assert page.evaluate("rung") == [0], "and is asked for once until it may not have been heard"
    page.clock.run_for(3000)
    assert page.evaluate("rung") == [0, 0]
    page.evaluate("see(0, 8); told.status = 200")
    page.clock.run_for(2000)
    assert count_open(page) == [False, True]
    page.clock.run_for(60_000)
    assert page.evaluate("rung") == [0, 0]


def test_an_address_at_which_nobody_knows_of_tabs_has_nothing_run(page: Page) -> None:
    run_tab(page, BELLS)
    page.evaluate("told.status = 404; told.opened[0].onerror()")
    page.clock.run_for(60_000)
    assert page.evaluate("rung") == []


def test_the_page_runs_where_nobody_hears_its_panels(page: Page) -> None:
    run_tab(page, BELLS)
    page.evaluate("hearNews(TAB, { run: [[1, 4]] })")
    page.clock.run_for(7000)
    page.evaluate("see(1, 6); hearNews(TAB, { run: [[2, 5]] })")
    page.clock.run_for(14_000)
    assert page.evaluate("rung") == [1, 1, 1, 2, 2, 2, 2, 0]
    page.evaluate("see(0, 7)")
    page.clock.run_for(60_000)
    assert page.evaluate("rung") == [1, 1, 1, 2, 2, 2, 2, 0]
