"""The HTTP interface, and the page over it.

`create_app` is an ASGI application (FastAPI). Mistakes that the client can fix are answered with
400 and `{"error": sentence}`, names of what is not there with 404 and the same.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import gs_ssd
from gs_ssd.errors import UserError
from gs_ssd.studio import routes_events, routes_runs, routes_uploads
from gs_ssd.studio.entry import Entry
from gs_ssd.studio.guard import Guard
from gs_ssd.studio.queue import Queue
from gs_ssd.viewer.page import read_resource

log = logging.getLogger(__name__)

PAGE = resources.files("gs_ssd.studio") / "page"
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
VIEWER_PARTS = ("sort.js", "renderer.js", "orbit.js")
VIEWER_EXPORTS = "export { Renderer, Orbit, attachPointer, startSorter };"


class Mistake(BaseModel):
    """What a request that cannot be answered is answered with."""

    error: str


def create_app(
    queue: Queue,
    guard: Guard,
    *,
    token: str | None = None,
    page: bool = True,
    makes: bool = True,
) -> Entry:
    """The application over a queue.

    Args:
        guard: whose requests are answered.
        token: what every request must show; None: nothing.
        page: serve the page too, not only the interface.
        makes: take wishes for runs; else only those that there are can be looked at and steered.
    """
    app = FastAPI(
        title="GS-SSD",
        version=gs_ssd.__version__,
        lifespan=lambda _: _running(queue, warm=page and makes),
        docs_url=None,  # those pages load scripts of another site
        redoc_url=None,
        responses={"4XX": {"model": Mistake, "description": "a mistake that the client can fix"}},
    )
    app.state.queue = queue
    app.state.open_to_others = token is not None
    app.state.makes = makes
    app.add_exception_handler(UserError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_form)
    app.add_exception_handler(HTTPException, _refuse_request)
    app.add_exception_handler(OSError, _refuse_of_the_disk)
    for routes in (routes_runs, routes_events, routes_uploads):
        app.include_router(routes.router)
    if page:
        app.add_api_route("/", _file_of_the_page("index.html"), include_in_schema=False)
        app.add_api_route("/viewer.js", _viewer, include_in_schema=False)
        app.add_api_route("/page/{name}", _page_file, include_in_schema=False)
    return Entry(app, guard, token)


@contextlib.asynccontextmanager
async def _running(queue: Queue, *, warm: bool) -> AsyncIterator[None]:
    working = asyncio.create_task(queue.serve())
    if warm:  # the first who opens the page does not wait for its form
        asyncio.get_running_loop().run_in_executor(None, routes_runs.describe_form)
    try:
        yield
    finally:
        await queue.close()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    del request
    text = str(error)
    missing = text.startswith("there is no ") or " has no file " in text
    return _mistake(text, 404 if missing else 400)


async def _refuse_form(request: Request, error: Exception) -> JSONResponse:
    """What a body or a query lacks or has too much, without what was sent: JSON cannot say NaN."""
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _mistake(f"the body is no JSON: {first['ctx']['error']}")
    where = ".".join(str(part) for part in first["loc"][1:]) or f"the {first['loc'][0]}"
    return _mistake(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}")


async def _refuse_request(request: Request, error: Exception) -> JSONResponse:
    """An address or a method that there is not."""
    del request
    assert isinstance(error, HTTPException)
    return _mistake(str(error.detail), error.status_code, error.headers)


async def _refuse_of_the_disk(request: Request, error: Exception) -> JSONResponse:
    """A file or folder that cannot be read or written: not the client's mistake, but told."""
    del request
    assert isinstance(error, OSError)
    if error.filename is None:
        raise error  # about no file: a connection, say
    log.warning("%s: %s", error.filename, error.strerror)
    return _mistake(f"{error.filename}: {error.strerror}; see to it on the server's disk", 500)


def _mistake(
    text: str, status: int = 400, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(Mistake(error=text).model_dump(), status, headers)


def _file_of_the_page(name: str) -> Any:
    async def answer() -> Response:
        return _served(name)

    return answer


async def _page_file(name: str) -> Response:
    return _served(name)


async def _viewer() -> Response:
    """The drawing code of the pages that runs leave, as one module."""
    text = "\n".join([*map(read_resource, VIEWER_PARTS), VIEWER_EXPORTS])
    return Response(text, media_type=KINDS[".js"])


def _served(name: str) -> Response:
    kind = KINDS.get(Path(name).suffix)
    known = {part.name for part in PAGE.iterdir()}
    if kind is None or name not in known:
        return PlainTextResponse("there is no such page\n", status_code=404)
    return Response((PAGE / name).read_text(encoding="utf-8"), media_type=kind)
