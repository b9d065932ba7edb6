"""An export as one file to download: a ZIP without compression, made while it is sent. Imports no Streamlit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from zipfile import ZipFile, ZipInfo

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from explorer.errors import ExportError
from explorer.export import RECIPE
from ui.export.export_folder import get_exports, place_export

_PIECE = 1 << 20  # bytes


def make_archive_routes() -> list[Route]:
    """Return the route of archives."""
    return [Route("/api/exports/{name:path}.zip", send_archive, methods=["GET"])]


def link_archive(out: Path) -> str | None:
    """Return the address of an export's archive, as seen from a page; None for one that lies elsewhere."""
    exports = get_exports().resolve()
    if not out.resolve().is_relative_to(exports):
        return None
    return f"api/exports/{quote(out.resolve().relative_to(exports).as_posix())}.zip"


def send_archive(asked: Request) -> Response:
    """Answer with the archive of an export below the exports' folder, and of nothing else."""
    try:
        folder = place_export(asked.path_params["name"], get_exports())
    except ExportError as error:
        return JSONResponse({"error": str(error)}, 404)
    if not (folder / RECIPE).is_file():
        return JSONResponse({"error": f"No such export: {asked.path_params['name'][:64]!r}. Export it first."}, 404)
    named = f"attachment; filename*=UTF-8''{quote(folder.name)}.zip"
    return StreamingResponse(
        stream_archive(folder), media_type="application/zip", headers={"Content-Disposition": named}
    )


def stream_archive(folder: Path) -> Iterator[bytes]:
    """Yield a ZIP of a folder piece by piece; of a file no more is in memory than is sent at once."""
    sink = _Sink()
    with ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # it asks for no more than this
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.is_symlink():
                continue
            entry = ZipInfo.from_file(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
            with path.open("rb") as file, archive.open(entry, "w", force_zip64=True) as target:
                while piece := file.read(_PIECE):
                    target.write(piece)
                    yield sink.take()
    yield sink.take()


class _Sink:
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        """Keep a piece."""
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Do nothing: all of it is taken in time."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken
