"""The dashboard as a person uses it: every page, toggles, links, an export, in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import open_choice, serve

READOUT = ".instrument .value"
MEASURED = re.compile(r"^[0-9.,]+$")  # an estimate begins with a sign of its own


def readout(page: Page) -> float:
    value = page.locator(READOUT)
    expect(value).to_have_text(MEASURED)
    return float(value.inner_text().replace(",", ""))


def removed(page: Page, mask: str) -> None:
    expect(page.locator(".st-key-frame")).to_contain_text(mask)


def run_cli(*words: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "explorer", *words, "--json"], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_explore_shows_the_model_and_its_perplexity(page: Page, url: str) -> None:
    page.goto(url)
    assert 5 < readout(page) < 100
    expect(page.locator("[data-part=bits]")).to_have_text(
        re.compile(r"^1\.\d{4} bits per byte, 2,040 held-out tokens$")
    )
    expect(page).to_have_url(re.compile(r"model=SmolLM2-135M-Instruct&text=python-docs&mask=none"))


def test_redundancy_draws_the_heatmap(page: Page, url: str) -> None:
    page.goto(f"{url}/analyse")
    expect(page.locator(".st-key-heatmap .js-plotly-plot")).to_be_visible()
    shape = "z => [z.length, z[0].length, z[29].filter(v => v > 0).length]"
    drawn = "document.querySelector('.st-key-heatmap .js-plotly-plot').calcdata"
    assert page.evaluate(f"({shape})({drawn}[0][0].z)") == [30, 30, 1]
    assert page.evaluate(f"{drawn}[1][0].z.length") == 3
    page.get_by_text("Mean over tokens", exact=True).click()
    expect(page.locator(".st-key-heatmap .js-plotly-plot")).to_be_visible()


def test_a_toggle_changes_the_readout_to_what_the_command_line_says(page: Page, url: str) -> None:
    page.goto(f"{url}")
    before = readout(page)
    page.get_by_role("switch", name="layer 10", exact=True).click()
    removed(page, "10")
    page.get_by_role("switch", name="MLP of layer 4", exact=True).click()
    removed(page, "10,m4")
    page.get_by_role("switch", name="attention of layer 3", exact=True).click()
    removed(page, "10,a3,m4")
    value = page.locator(READOUT)
    expect(value).to_have_text(MEASURED)
    expect(page.locator(".readout").first).to_contain_text("against 19")
    expect(page.locator(".st-key-frame")).to_contain_text(value.inner_text())
    expected = run_cli("score", "--mask", "10,a3,m4")["scores"]
    expect(value).to_have_text(f"{expected[1]['perplexity']:,.2f}")
    assert before == pytest.approx(expected[0]["perplexity"], abs=0.006)
    page.get_by_text("Keep everything").click()
    expect(value).to_have_text(f"{expected[0]['perplexity']:,.2f}")


def test_the_keyboard_toggles_and_drag_paints(page: Page, url: str) -> None:
    page.goto(f"{url}")
    readout(page)
    page.get_by_role("switch", name="attention of layer 0", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    removed(page, "a1")
    start = page.get_by_role("switch", name="MLP of layer 20", exact=True).bounding_box()
    end = page.get_by_role("switch", name="MLP of layer 23", exact=True).bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 5, start["y"] + 5)
    page.mouse.down()
    page.mouse.move(end["x"] + 5, end["y"] + 5, steps=12)
    page.mouse.up()
    removed(page, "a1,m20-23")


def test_samples_stand_side_by_side(page: Page, url: str) -> None:
    page.goto(f"{url}/?mask=10-12")
    samples = page.locator(".st-key-samples")
    expect(samples.get_by_text("Original").first).to_be_visible()
    expect(samples.get_by_text("Paris.")).to_be_visible()
    expect(samples.get_by_text(re.compile(r"\((waiting|writing)\)"))).to_have_count(0)


def test_a_cold_link_restores_page_and_mask(browser: Browser, page: Page) -> None:
    with serve() as cold:
        page.goto(f"{cold}/?model=SmolLM2-135M-Instruct&text=python-docs&mask=a5,2")
        removed(page, "2,a5")
        readout(page)
        switch = page.get_by_role("switch", name="layer 2", exact=True)
        expect(switch).to_have_attribute("aria-checked", "false")
        page.get_by_role("link", name="Export", exact=True).click()
        removed(page, "2,a5")
        expect(page).to_have_url(re.compile(r"/export\?.*mask=2%2Ca5"))


def test_the_invalid_parts_of_a_link_are_reported_and_skipped(page: Page, url: str) -> None:
    page.goto(f"{url}/?mask=nonsense&window=x")
    expect(page.get_by_text("The link's mask was skipped")).to_be_visible()
    page.goto(f"{url}/?mask=3,99")
    expect(page.get_by_text("beyond the model's 0 to 29")).to_be_visible()
    removed(page, "3")


def test_a_model_that_does_not_exist_is_one_line_and_loses_nothing(page: Page, url: str) -> None:
    page.goto(f"{url}/?mask=4")
    readout(page)
    choice = open_choice(page)
    choice.get_by_label("Model", exact=True).fill("./no/<b>such</b>/model")
    choice.get_by_role("button", name="Load", exact=True).click()
    expect(choice.get_by_text("No such model: ./no/<b>such</b>/model").first).to_be_visible()
    choice.get_by_role("button", name="Close").click()
    expect(choice).to_have_count(0)
    removed(page, "4")
    expect(page.locator(".st-key-work")).to_contain_text("Work")
    expect(page.locator(".st-key-work")).not_to_contain_text("such")  # nobody waits for it
    page.get_by_role("link", name="Explore", exact=True).click()
    removed(page, "4")
    readout(page)
    expect(page.get_by_text("No such model")).to_have_count(0)


def test_the_view_stays_until_another_has_loaded(page: Page, url: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1}
    (damaged / "config.json").write_text(json.dumps(config))
    (damaged / "model.safetensors").write_bytes(b"no tensors")
    page.goto(url)
    whole = readout(page)
    page.goto(f"{url}/?mask=4")
    removed(page, "4")
    before = readout(page)
    choice = open_choice(page)
    choice.get_by_label("Text", exact=True).fill("./none.txt")
    choice.get_by_label("Device", exact=True).fill("tpu")
    choice.get_by_label("Device", exact=True).press("Enter")
    expect(choice.get_by_text("No such text")).to_be_visible()
    expect(choice.get_by_text("Unknown device")).to_be_visible()
    choice.get_by_label("Text", exact=True).fill("python-docs")
    choice.get_by_label("Device", exact=True).fill("auto")
    choice.get_by_label("Model", exact=True).fill(str(damaged))
    choice.get_by_label("Model", exact=True).press("Enter")
    expect(choice.get_by_role("alert")).to_have_count(0)
    choice.get_by_role("button", name="Load", exact=True).click()
    expect(choice.get_by_role("alert")).to_be_visible()  # it could not be loaded after all
    expect(choice.get_by_label("Model", exact=True)).to_have_value(str(damaged))
    choice.get_by_role("button", name="Close").click()
    removed(page, "4")
    assert readout(page) == before
    expect(page).to_have_url(re.compile("model=SmolLM2-135M-Instruct"))
    page.goto(f"{url}/?model={damaged}&mask=4")
    page.get_by_role("button", name="Load another model or text").click()
    choice.get_by_role("button", name="SmolLM2-135M-Instruct", exact=True).click()
    expect(choice.get_by_label("Model", exact=True)).to_have_value("SmolLM2-135M-Instruct")
    choice.get_by_role("button", name="Load", exact=True).click()
    removed(page, "none")
    assert readout(page) == whole


def test_an_export_is_written_and_proven(page: Page, url: str, exports: Path) -> None:
    out = exports / "pruned"
    page.goto(f"{url}/export?mask=9-11,a20")
    export = page.locator(".st-key-export")
    expect(export.get_by_text("Weights on disk")).to_be_visible()
    expect(export.get_by_text("transformers: not for this mask")).to_be_visible()
    export.get_by_text("Load it anywhere").click()
    expect(export.get_by_text("1 zeroed")).to_be_visible()
    field = page.get_by_label("Name, below")
    field.fill("pruned")
    field.press("Enter")
    page.get_by_role("button", name="Export", exact=True).click()
    expect(export.get_by_text("Perplexity, reloaded")).to_be_visible()
    figures = export.locator("[data-testid=stMetricValue]").all_inner_texts()
    assert float(figures[-3]) == 0
    assert figures[-2] == figures[-1]
    config = json.loads((out / "config.json").read_text())
    assert config["num_hidden_layers"] == 27
    assert run_cli("info", "--model", str(out))["layers"] == 27


EXCEPTIONS = """
  window.exceptions = 0;
  new MutationObserver(() => { window.exceptions += document.querySelectorAll("[data-testid=stException]").length; })
    .observe(document, { subtree: true, childList: true });
"""


def test_a_change_of_page_while_all_wait_leaves_nothing_of_the_old_page(page: Page, tmp_path: Path) -> None:
    page.add_init_script(EXCEPTIONS)
    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        page.goto(f"{url}/?tokens=256&window=128")  # the default model is converted first: seconds
        cancel = page.get_by_role("button", name="Cancel")
        expect(cancel).to_be_visible(timeout=60_000)
        for name in ("Analyse", "Compare", "Plans", "Explore"):
            page.get_by_role("link", name=name, exact=True).first.click()
            page.wait_for_timeout(500)
            expect(page.locator(".skeleton")).to_be_visible()  # nothing is blank
        expect(page.locator(".instrument .tag")).to_have_text("measured")
        assert page.evaluate("window.exceptions") == 0
