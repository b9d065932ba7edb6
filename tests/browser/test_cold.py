"""The first visit to a server that has just started: every page, all by two visitors at once, shows no error."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.support.browser import serve
from tests.support.many_users import TEXT
from tests.support.tiny_models import REPOSITORY, Tiny
from tests.support.visitors import Visitor

PAGES = ("plans", "evaluate", "analyse", "heal", "sparsity", "", "compare", "export")  # the empty one is Explore


async def visit_all(url: str, model: str, pages: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Open pages at the same moment; return what each shows as an error."""
    visitors = [Visitor(url, model=model, **TEXT) for _ in pages]
    for visitor in visitors:
        await visitor.__aenter__()
    await asyncio.gather(*(visitor.visit(page) for visitor, page in zip(visitors, pages, strict=True)))
    for visitor in visitors:
        await visitor.__aexit__()
    return [(page, visitor.errors) for page, visitor in zip(pages, visitors, strict=True)]


def test_a_cold_server_shows_every_page_as_the_first_one(tiny: Tiny, tmp_path: Path) -> None:
    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        found = asyncio.run(visit_all(url, str(tiny.folder("llama")), (*PAGES, *PAGES)))
    assert found == [(page, []) for page in (*PAGES, *PAGES)]


_SLOW = """
import sys, threading, time

class Slow:
    '''Lets other threads on while pandas is imported in part.'''
    def find_spec(self, name, path=None, target=None):
        if name.startswith("pandas.core.") and threading.current_thread() is not threading.main_thread():
            time.sleep(0.002)

sys.meta_path.insert(0, Slow())
failed = []

def go(work):
    try:
        work()
    except BaseException as error:
        failed.append(f"{type(error).__name__}: {error}")

def draw():
    import ui.parts.plots
    import plotly.graph_objects
    for _ in range(200):
        plotly.graph_objects.Scatter(x=[1.0, 2.0], y=(3.0, 4.0))
        time.sleep(0.001)

def tabulate():
    import ui.parts.markdown
    import pandas
    pandas.DataFrame({"a": [1]})

threads = [threading.Thread(target=go, args=(work,)) for work in (draw, tabulate, draw, tabulate)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("failed:", failed)
"""


def test_threads_that_draw_while_another_still_imports_find_whole_modules() -> None:
    done = subprocess.run([sys.executable, "-c", _SLOW], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "failed: []"
