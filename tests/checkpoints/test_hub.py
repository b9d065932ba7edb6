"""A hub that is played here: what is fetched, told, cancelled, taken up again and refused."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from huggingface_hub import close_session, constants, file_download

from explorer.checkpoints.resolve import Checkpoint, resolve_checkpoint
from explorer.checkpoints.spec import ModelSpec
from explorer.errors import Cancelled, ModelError
from explorer.model.loading import load
from explorer.storage.store import Store
from tests.support.tiny_models import FAMILIES, load_folder, make_model, save

NAME, COMMIT = "someone/tiny-llama", "c0ffee" * 6 + "cafe"
INFO, TREE, FILE = f"/api/models/{NAME}/revision/main", f"/api/models/{NAME}/tree/", f"/{NAME}/resolve/{COMMIT}/"
CODES = {401: "GatedRepo", 403: "GatedRepo", 404: "RepoNotFound"}
MB, CHUNK, PIECE, WAIT = 10**6, 2**20, 2**16, 30


class Hub(ThreadingHTTPServer):
    """Serves one repository; its largest file when all others are in the client's cache."""

    daemon_threads, handle_error = True, Mock()

    def __init__(self, folder: Path, store: Store, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.find = partial(resolve_checkpoint, NAME, store, root)
        self.fetch = lambda: self.find().digest(store)
        self.published = Checkpoint("", folder).digest(store)
        self.files = files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.largest = max(files, key=lambda name: len(files[name]))
        self.cache, self.others = root / "hub", len(files) - 1
        self.refusal = ("nothing", 0)  # part of the path, status
        self.asked: list[tuple[str, int]] = []  # file and start of each GET
        self.sent: Counter[str] = Counter()
        self.pace: Callable[[int], Any] = lambda position: None  # called before each piece of the largest file
        self.closing = threading.Event()

    def wait(self, name: str, position: int) -> None:
        if name == self.largest:
            while len(list(self.cache.glob("models--*/snapshots/*/*"))) < self.others:
                assert not self.closing.wait(0.01)
            self.pace(position)


class Handler(BaseHTTPRequestHandler):
    protocol_version, log_message = "HTTP/1.1", Mock()

    def do_GET(self) -> None:
        hub, path, get = self.server, self.path.partition("?")[0], self.command == "GET"
        tree = [{"type": "file", "path": name, "size": len(c), "oid": name} for name, c in hub.files.items()]
        pages = {INFO: {"id": NAME, "sha": COMMIT}, TREE + COMMIT: tree}
        status, start, name = 200, 0, path.removeprefix(FILE)
        if hub.refusal[0] in path:
            status, content = hub.refusal[1], b""
            headers = {"X-Error-Code": CODES.get(status, "")}
        elif path in pages:
            content, headers = json.dumps(pages[path]).encode(), {}
        else:
            content, start = hub.files[name], int(self.headers.get("Range", "bytes=0-")[6:-1])
            headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            hub.asked += [(name, start)] * get
            if start:
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(status)
        for key, value in {"Content-Length": len(content) - start, **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        for position in range(start, len(content) * get, PIECE):
            hub.wait(name, position)
            self.wfile.write(piece := content[position : position + PIECE])
            hub.sent[name] += len(piece)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in several shards, the largest of several megabytes."""
    config = FAMILIES["llama"]()
    config.vocab_size, config.tie_word_embeddings = 2**16, True
    return save(make_model(config), tmp_path_factory.mktemp("published"), max_shard_size="60KB")


@pytest.fixture
def hub(folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(folder, store, tmp_path) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{made.server_port}"
        places = {"ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}"}
        options = {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_TELEMETRY": True, "DOWNLOAD_CHUNK_SIZE": CHUNK}
        for name, value in {**places, **options, "HF_HUB_CACHE": made.cache}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(file_download, "time", Mock())
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        close_session()
        yield made
        made.closing.set()
        made.shutdown()
        close_session()


def _refused(hub: Hub, match: str) -> None:
    with pytest.raises(ModelError, match=rf"\A.*{match}.*\Z"):
        hub.find()


def _cancel(hub: Hub) -> None:
    """Cancel a download at three megabytes, of a hub that sends five and waits."""

    def progress(done: int, total: int, what: str) -> None:
        if done >= 3:
            raise Cancelled

    hub.pace = lambda position: hub.closing.wait(WAIT if position > 5 * MB else 0)
    with pytest.raises(Cancelled):
        hub.find(progress=progress)
    assert 3 * MB < hub.sent[hub.largest] < 6 * MB
    hub.pace = lambda position: None


def test_fetched_model_is_the_one_that_was_published(hub: Hub, folder: Path, store: Store, tmp_path: Path) -> None:
    hub.files |= {"README.md": b"# It"}
    published = dict(hub.files)
    hub.files |= {"modeling_own.py": b"1 / 0", "pytorch_model.bin": b"a pickle"}
    loaded = load(ModelSpec(NAME, "float32", "cpu"), store, tmp_path)
    assert {path.name: path.read_bytes() for path in loaded.checkpoint.folder.iterdir()} == published
    assert loaded.digest == load_folder(folder).digest == hub.published
    assert len(loaded.checkpoint.weights) > 3
    assert sorted(hub.asked) == [(name, 0) for name in sorted(published)]


def test_progress_grows_up_to_its_total(hub: Hub) -> None:
    told: list[tuple[int, int]] = []
    hub.find(progress=lambda done, total, what: told.append((done, total)) if what.endswith("MB") else None)
    size = sum(map(len, hub.files.values())) // MB
    assert told == sorted(told)
    assert {done for done, _ in told} == set(range(size + 1))
    assert told[-1] == (size, size)


def test_cancelled_download_ends_at_once_and_files_it_finished_are_not_fetched_again(hub: Hub) -> None:
    _cancel(hub)
    assert sorted(hub.asked) == [(name, 0) for name in sorted(hub.files)]
    hub.asked.clear()
    assert hub.fetch() == hub.published
    assert [name for name, _ in hub.asked] == [hub.largest]


@pytest.mark.parametrize("lasting", [False, True])
def test_broken_connection_is_taken_up_where_it_broke_or_refused(hub: Hub, lasting: bool) -> None:
    breaks = iter(range(100 if lasting else 1))

    def pace(position: int) -> None:
        if position > 5 * MB and next(breaks, None) is not None:
            raise ConnectionError

    hub.pace = pace
    if lasting:
        _refused(hub, NAME)
    else:
        assert hub.fetch() == hub.published
    assert [start for name, start in hub.asked if name == hub.largest][:2] == [0, 4 * CHUNK]


@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        (INFO, 404, "no such repository, or a private one.*HF_TOKEN"),
        (INFO, 401, "HF_TOKEN"),
        (INFO, 503, "503"),
        (TREE, 403, "gated.*HF_TOKEN"),
        (FILE, 401, "HF_TOKEN"),
        (FILE, 403, "gated.*HF_TOKEN"),
    ],
)
def test_repository_that_is_withheld_is_refused(hub: Hub, place: str, status: int, said: str) -> None:
    hub.refusal = place, status
    _refused(hub, f"{NAME}.*{said}")


def test_progress_of_two_large_files_never_goes_back(hub: Hub) -> None:
    hub.files = {"config.json": b"{}", "model.safetensors": bytes(3 * CHUNK), "b.safetensors": bytes(3 * CHUNK + 1)}
    hub.largest, told = "", []
    hub.find(progress=lambda done, total, what: told.append((done, total)) if what.endswith("MB") else None)
    assert told == sorted(told)
    assert told[-1] == (6, 6)


def test_pickled_repository_is_refused_without_fetching_the_pickle(hub: Hub) -> None:
    hub.files = {name: content for name, content in hub.files.items() if "safetensors" not in name}
    hub.files["pytorch_model.bin"] = b"a pickle"
    _refused(hub, "(no weights|pickled)")
    assert {name for name, _ in hub.asked} == set(hub.files) - {"pytorch_model.bin"}


def test_without_the_hub_a_fetched_model_loads_and_half_of_one_does_not(hub: Hub, store: Store, tmp_path: Path) -> None:
    _cancel(hub)
    with pytest.MonkeyPatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        _refused(hub, NAME)
    assert hub.fetch() == hub.published
    hub.shutdown()
    hub.server_close()
    close_session()
    assert load(ModelSpec(NAME, "float32", "cpu"), store, tmp_path).digest == hub.published
