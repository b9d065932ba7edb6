"""The Evaluate page in a real browser: probes along plans, the figure and its numbers, questions that flip."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import find_plot, serve, wait_for_plot
from tests.support.tiny_models import REPOSITORY, Tiny

TOKENS = {"tokens": "2560", "window": "128", "dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


def _run(model: Path, *words: str) -> dict:
    options = [f"--{name}={value}" for name, value in {**TOKENS, "model": str(model)}.items()]
    command = [sys.executable, "-m", "explorer", *words, "--json", "--no-cache", *options]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout)


def test_probes_are_asked_along_plans(page: Page, url: str, tiny: Tiny, tmp_path: Path) -> None:
    model = tiny.folder("llama")
    page.goto(f"{url}/evaluate?{urlencode({**TOKENS, 'model': str(model)})}")
    page.get_by_role("button", name="Ask them").click()
    wait_for_plot(page, "abilities", "plot._fullData[0].x.length === 4")
    expect(page.locator(".st-key-work")).to_have_text("Work: none")
    drawn = wait_for_plot(page, "abilities", "plot._fullData[0].x.length === 4")
    lines = drawn.evaluate("p => p._fullData.map(t => [t.name, t.xaxis, [...t.customdata], [...t.y]])")
    masks, values = next((masks, y) for name, axis, masks, y in lines if (name, axis) == ("Deepest", "x"))
    plan = str(tmp_path / "plan.json")
    _run(model, "plan", "--method", "deepest", "--out", plan)
    told = _run(model, "evaluate", "--tasks", "probe:copying", "--limit", "50", "--plan", plan)["tasks"][
        "probe:copying"
    ]
    assert masks == [each["variant"] for each in told["results"]]
    assert values == pytest.approx([each["metrics"]["acc"]["value"] for each in told["results"]])
    flipped = round(told["results"][-1]["flips"] * 50)
    expect(page.get_by_text(f"{flipped} of 50 questions have another answer.")).to_be_visible()
    find_plot(page, "evaluate-perplexity")
    assert page.locator("[data-testid=stException]").count() == 0


def test_what_is_no_task_is_one_line(page: Page, url: str, tiny: Tiny) -> None:
    page.goto(f"{url}/evaluate?{urlencode({**TOKENS, 'model': str(tiny.folder('llama'))})}")
    page.get_by_role("textbox", name="Tasks").fill("/etc/task.yaml")
    page.keyboard.press("Enter")
    expect(page.get_by_text("/etc/task.yaml is not the name of a task.")).to_be_visible()


def test_texts_and_objectives_are_compared(page: Page, url: str, tiny: Tiny, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(" ".join(str(i * i) for i in range(2000)))
    page.goto(f"{url}/evaluate?{urlencode({**TOKENS, 'model': str(tiny.folder('llama'))})}")
    page.get_by_text("Text and objective", exact=True).click()
    page.get_by_role("textbox", name="Texts, one a line").fill(f"python-docs\n{other}")
    page.get_by_role("button", name="Compare them").click()
    wait_for_plot(page, "choices", "plot._fullData[0].z.length === 20")
    find_plot(page, "variance")
    assert page.locator("[data-testid=stException]").count() == 0
