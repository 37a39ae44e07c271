"""Files that were dropped on the page: to look at, to convert, to begin a run from."""

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from gs_ssd.errors import UserError
from gs_ssd.export.clean import Cleaning, clean
from gs_ssd.export.formats import read_splats, suffix_of
from gs_ssd.export.splats import Splats
from gs_ssd.files import TEMPORARY, slug
from gs_ssd.studio import checks, results, stream
from gs_ssd.studio.runs import UPLOADS

router = APIRouter(prefix="/api")
MOST_BYTES = 512 << 20
"""Of one file."""
MOST_IN_ALL = 4 << 30
"""Of all that are kept; the oldest go."""


@router.post("/uploads", status_code=201)
async def upload(request: Request, name: str) -> Any:
    """Keep the body as a splat file named `name`, if it can be read; returns its name here."""
    suffix = results.check_readable(name)
    folder = _root(request) / UPLOADS
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=folder, prefix=TEMPORARY, suffix=suffix, delete=False
    ) as file:
        temporary, size, digest = Path(file.name), 0, hashlib.sha256()
        try:
            async for part in request.stream():
                size += len(part)
                if size > MOST_BYTES:
                    text = f"the file has more than {MOST_BYTES >> 20} MB"
                    return JSONResponse({"error": text}, status_code=413)
                digest.update(part)
                file.write(part)
            file.flush()
            splats = await asyncio.to_thread(_read, temporary, name)
            stem = slug(name[: -len(suffix)] or "splat")
            kept = f"{stem}-{digest.hexdigest()[:12]}{suffix}"
            shutil.move(temporary, folder / kept)
            _make_room(folder, kept)
        finally:
            temporary.unlink(missing_ok=True)
    return {"name": kept, "title": name, "bytes": size, "splats": len(splats)}


@router.get("/uploads/{name}/splats")
async def get_splats(request: Request, name: str) -> Response:
    """An upload for the page."""
    path = checks.upload_path(_root(request), name)
    data = await asyncio.to_thread(lambda: stream.to_bytes(_read(path, name)))
    return Response(data, media_type=stream.MEDIA_TYPE)


@router.post("/uploads/{name}/exports/{target}")
async def convert(request: Request, name: str, target: str) -> dict[str, str]:
    """Write an upload for some engine or viewer; returns the file's address and how to import
    it."""
    root = _root(request)
    path = checks.upload_path(root, name)
    title = name[: -len(suffix_of(name))].rpartition("-")[0] or "splat"
    folder = root / UPLOADS / "converted"
    written = await asyncio.to_thread(
        lambda: results.write_for(target, _read(path, name), title, folder)
    )
    url = f"/api/converted/{written.path.name}"
    size = written.path.stat().st_size
    return {"url": url, "file": written.path.name, "hint": written.hint, "bytes": str(size)}


@router.get("/converted/{name}")
async def get_converted(request: Request, name: str) -> Response:
    """A file that `convert` has written."""
    path = checks.upload_path(_root(request), f"{name}", inside="converted")
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


def _root(request: Request) -> Path:
    return request.app.state.queue.runs.root


def _read(path: Path, name: str) -> Splats:
    try:
        splats, _ = clean(read_splats(path), Cleaning())
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from error
    return splats


def _make_room(folder: Path, kept: str) -> None:
    """Delete the oldest while there is too much."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name != kept]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    total = (folder / kept).stat().st_size
    for path in files:
        total += path.stat().st_size
        if total > MOST_IN_ALL:
            with contextlib.suppress(OSError):
                path.unlink()
