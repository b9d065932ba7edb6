"""What tells a page's browser where the server is."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from ui.serving.base_address import BaseAddress

HTML = "<html><head><title>x</title></head><body>" + "y" * 2000 + "</body></html>"
BROWSER = {"Accept": "text/html,*/*", "Accept-Encoding": "gzip"}


@pytest.fixture
def client() -> TestClient:
    async def page(request: Request) -> Response:
        return HTMLResponse(HTML)

    async def data(request: Request) -> Response:
        return JSONResponse({"head": "</head>"})

    routes = [Route("/data", data), Route("/{path:path}", page, methods=["GET", "HEAD", "POST"])]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(BaseAddress), Middleware(GZipMiddleware)]))


def test_a_page_knows_its_own_path(client: TestClient) -> None:
    answer = client.get("/heal?mask=3", headers=BROWSER)
    head, _, body = answer.text.partition("</head>")
    assert 'const page = "/heal"' in head
    assert body == HTML.partition("</head>")[2]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_what_is_no_page_is_sent_on_as_it_is(client: TestClient) -> None:
    assert client.get("/data", headers=BROWSER).json() == {"head": "</head>"}
    assert client.get("/heal", headers={"Accept": "*/*"}).text == HTML
    assert client.post("/heal", headers=BROWSER).text == HTML
    assert client.head("/heal", headers=BROWSER).text == ""


def test_a_path_ends_no_script(client: TestClient) -> None:
    found = client.get("/%3C/script%3E%3Cscript%3Ealert(1)%22", headers=BROWSER).text
    assert found.count("<script>") == 1
    assert found.count("</script>") == 1
