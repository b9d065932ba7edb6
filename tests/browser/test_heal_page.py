"""The Heal page: a training runs live, is stopped, goes on, and is kept for the pages after it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import find_plot, serve, settle
from tests.support.tiny_models import WINDOW

WAIT = 60_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


@pytest.fixture(scope="module")
def small(small: Path) -> Path:
    (small / "other.txt").write_text(" ".join(str(number * number) for number in range(900)))
    return small


def visit(page: Page, url: str, small: Path, mask: str = "2") -> None:
    """Open the page; what was started on a mask is there for every browser, so that each test has its own."""
    named = {"model": str(small), "tokens": str(5 * WINDOW), "window": str(WINDOW), "mask": mask}
    page.goto(f"{url}/heal?{urlencode(named)}")
    expect(page.get_by_role("button", name="Heal this")).to_be_visible(timeout=WAIT)


def set_steps(page: Page, steps: int) -> None:
    page.get_by_role("spinbutton", name="Steps").fill(str(steps))
    page.get_by_role("spinbutton", name="Steps").press("Enter")


def test_a_training_is_live_stopped_gone_on_with_and_kept(page: Page, url: str, small: Path) -> None:
    visit(page, url, small)
    page.get_by_role("textbox", name="Judged on another text, too").fill(str(small / "other.txt"))
    page.get_by_role("textbox", name="Judged on another text, too").press("Enter")
    set_steps(page, 300)
    page.get_by_role("button", name="Heal this").click()
    runs = page.locator(".st-key-heal")
    expect(runs.get_by_text("tokens a second")).to_be_visible(timeout=WAIT)
    expect(runs.locator(".js-plotly-plot").first).to_be_visible(timeout=WAIT)
    page.reload()  # a browser that comes back finds it
    page.get_by_role("button", name=re.compile("^Stop$")).first.click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Keep it")).to_be_visible(timeout=2 * WAIT)
    expect(runs.get_by_text("won back in")).to_be_visible()
    page.reload()
    expect(runs.get_by_text("won back in")).to_be_visible()
    expect(find_plot(page, "healing").locator(".y3title")).to_contain_text("other.txt")
    sides = page.get_by_label("Sample 1").get_by_role("heading", level=4)
    expect(sides).to_have_text(["Original", "Pruned", "Best checkpoint", "Last checkpoint"])
    page.get_by_role("button", name="Keep it").click()
    expect(page).to_have_url(re.compile("modify=lora"))


def test_it_says_how_many_steps_fit_and_takes_them(page: Page, url: str, small: Path) -> None:
    visit(page, url, small, "1")
    page.get_by_role("button", name="How many steps fit?").click()
    expect(page.get_by_text(re.compile(r"A step takes .*: [\d,]+ fit"))).to_be_visible(timeout=WAIT)
    take = page.get_by_role("button", name=re.compile(r"Take [\d,]+ steps"))
    steps = re.sub(r"\D", "", take.inner_text())
    take.click()
    expect(page.get_by_role("spinbutton", name="Steps", exact=True)).to_have_value(steps)
    expect(take).to_be_visible()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)


def test_options_show_where_they_mean_something_and_a_preset_shows_its_numbers(
    page: Page, url: str, small: Path
) -> None:
    visit(page, url, small, "0")
    rate = page.get_by_role("textbox", name="Learning rate")
    expect(rate).to_have_value("1e-3")
    choose(page, "Preset", "gromov")
    expect(rate).to_have_value("3e-4")
    page.get_by_text("More options").click()
    expect(page.get_by_role("textbox", name="Rank")).to_have_value("64")
    expect(page.get_by_role("textbox", name="Teacher")).to_have_count(0)
    choose(page, "Loss", "unpruned predictions")
    page.get_by_role("textbox", name="Teacher").fill("top8")
    page.get_by_role("textbox", name="Teacher").press("Enter")
    settle(page)
    choose(page, "Text", "its own writing")
    expect(page.get_by_role("textbox", name="Share")).to_have_value("1")
    set_steps(page, 4)
    page.get_by_role("button", name="Heal this").click()
    expect(page.get_by_role("button", name="Keep it")).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Keep it").click()
    expect(page).to_have_url(re.compile("loss%3Dkl%2Cpreset%3Dgromov%2Csteps%3D4%2Cteacher%3Dtop8%2Ctext%3Dself"))
    page.get_by_role("textbox", name="Rank").fill("many")
    page.get_by_role("textbox", name="Rank").press("Enter")
    expect(page.get_by_text("rank has no such value: many")).to_be_visible()
    expect(page.get_by_role("button", name="Heal this")).to_be_disabled()
