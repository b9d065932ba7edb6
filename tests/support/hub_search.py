"""A hub that is played here, as far as a search asks for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NAMES = ("lab/small-llama", "lab/large-llama", "lab/<b>gpt</b>")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        words, known = query["search"], query["filter"] == "text-generation" and query["sort"] == "downloads"
        found = [{"id": name} for name in NAMES if words in name and known][: int(query["limit"])]
        status, body = (503, "down") if words == "down" else (200, "{" if words == "torn" else json.dumps(found))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def play_hub() -> Iterator[str]:
    """Serve a hub that can be searched; give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
