"""Pages that lie in a folder, each complete in itself: what `gs-ssd view` shows."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response

from gs_ssd.studio.entry import Entry
from gs_ssd.studio.guard import Guard

POLICY = {"Content-Security-Policy": "frame-ancestors 'self'"}
"""The pages say themselves what they may load; here only that no other site may frame them."""


def create_app(folder: Path, host: str) -> Entry:
    """The application over the pages right in `folder`; `/` is its index.html.

    Args:
        host: what the server listens on.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def page(name: str = "index.html") -> Response:
        # asked for by its name among those that are there, so that no path leads anywhere else
        for path in folder.iterdir():
            if path.name == name and path.is_file():
                return FileResponse(path, headers=POLICY)
        return PlainTextResponse("there is no such page\n", status_code=404)

    for address in ("/", "/{name}"):
        app.add_api_route(address, page, methods=["GET", "HEAD"], include_in_schema=False)
    return Entry(app, Guard(host), token=None)
