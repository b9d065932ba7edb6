"""Fixtures: tiny random models of every family, and the real default model."""

from __future__ import annotations

import os
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has what it starts ignore it
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

#: Each process's share of the processors, also of those that tests start: of two that want the same ones both wait.
THREADS = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest
import torch
from playwright.sync_api import Browser, Page

from tests.support.shapes import check_on_import

check_on_import("explorer")  # before any of it is imported

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.model.loading import LoadedModel, load
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.browser import open_browser, open_page, serve
from tests.support.tiny_models import FAMILIES, REPOSITORY, WINDOW, Tiny

torch.set_num_threads(1)  # tiny models lose more to threads than they gain

#: Of a sweep over families, the one that stays in `make test-fast`.
_FIRST_FAMILY = next(iter(FAMILIES))

#: Files of sweeps over families that this program does not list, and files that take long.
SWEEPS = ("evaluation/test_families.py", "export/test_layers_in_configs.py", "model/test_every_family.py")
SLOW = (
    "benchmarks/test_harness.py",
    "cli/test_cli.py",
    "cli/test_evaluate.py",
    "cli/test_hostile.py",
    "cli/test_verbs.py",
    "execution/test_inside.py",
    "execution/test_ray.py",
    "execution/test_survival.py",
    "export/test_export_gguf.py",
    "export/test_export_gguf_variants.py",
    "export/test_export_killed.py",
    "export/test_export_recipes.py",
    "export/test_export_sites.py",
    "export/test_export_sources.py",
    "export/test_export_stand_ins.py",
    "export/test_export_variants.py",
    "measures/test_measure.py",
    "model/test_config_only.py",
    "model/test_placement.py",
    "plans/test_search.py",
    "storage/test_interrupted.py",
    "storage/test_store_errors.py",
    "test_interrupts.py",
    "text/test_corpus.py",
)


def _params(item: pytest.Item) -> dict[str, object]:
    return getattr(getattr(item, "callspec", None), "params", {})


def _marks(item: pytest.Item) -> Iterator[str]:
    """The marks of a test, by where it lies and what it asks for."""
    path = item.path.relative_to(REPOSITORY / "tests").as_posix()
    names = set(getattr(item, "fixturenames", ()))
    if path.startswith("browser/") or names & {"browser", "url"}:
        yield "browser"
    if names & {"real", "reals"}:
        yield "real_model"
    of_family = "family" in names and _params(item).get("family") != _FIRST_FAMILY
    if of_family or path in SWEEPS:
        yield "families"
    if path in SLOW:
        yield "slow"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-fast` leaves out, beside the marks that tests give themselves.

    A test of the browser that fails is run once more, and pytest counts it: a click hits what was there a moment ago.
    """
    for item in items:
        for mark in _marks(item):
            item.add_marker(mark)
            if mark == "browser":
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Give `__main__` back: Streamlit puts its script there, and processes that are started later would run it."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def small(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a file's own with a tiny Llama in it, which nothing is known of."""
    return copytree(tiny.folder("llama"), tmp_path_factory.mktemp("small") / "llama")


@pytest.fixture(scope="session", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def loaded(tiny: Tiny, family: str) -> LoadedModel:
    """A tiny model of each family."""
    return tiny.load(family)


@pytest.fixture
def llama(tiny: Tiny) -> LoadedModel:
    return tiny.load("llama")


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(None)
    yield made
    made.close()


@pytest.fixture
def corpus(loaded: LoadedModel) -> Corpus:
    """Five windows a split for each family."""
    return loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)


@pytest.fixture
def llama_corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW)


class Real:
    """The default model in the dtypes asked for, each loaded once."""

    def __init__(self) -> None:
        self.cache = Path(os.environ.get("EXPLORER_CACHE", REPOSITORY / "cache"))
        self._loaded: dict[str, LoadedModel] = {}

    def load(self, dtype: str) -> LoadedModel:
        if dtype not in self._loaded:
            self._loaded[dtype] = load(ModelSpec(DEFAULT_MODEL, dtype, "cpu"), Store(None), self.cache)
        return self._loaded[dtype]


@pytest.fixture(scope="session")
def reals() -> Real:
    return Real()


@pytest.fixture(params=["float32", "bfloat16"])
def real(reals: Real, request: pytest.FixtureRequest) -> Iterator[LoadedModel]:
    """The default model; parametrise indirectly for one dtype."""
    torch.set_num_threads(THREADS)
    yield reals.load(request.param)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's exports go."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def url(exports: Path) -> Iterator[str]:
    with serve(EXPLORER_EXPORTS=str(exports)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as chromium:
        yield chromium


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    failures: list[str] = []
    with open_page(browser) as page:
        page.on("pageerror", lambda error: failures.append(str(error)))
        yield page
    assert not failures
