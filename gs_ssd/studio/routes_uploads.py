"""Files that were dropped on the page: to look at, to convert, to begin a run from."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from gs_ssd.errors import UserError
from gs_ssd.export.clean import Cleaning, clean
from gs_ssd.export.formats import read_splats, suffix_of
from gs_ssd.export.splats import Splats
from gs_ssd.files import TEMPORARY, slug
from gs_ssd.locks import refuse_if_lost
from gs_ssd.studio import checks, results, stream
from gs_ssd.studio.file_answer import FileAnswer
from gs_ssd.studio.runs import MOVED, UPLOADS

router = APIRouter(prefix="/api")
MOST_BYTES = 512 << 20
"""Of one file."""
MOST_IN_ALL = 4 << 30
"""Of all that are kept, with what was made of them; the oldest go."""
CONVERTED = "converted"
"""The folder in that of the uploads with what was made of them: a folder for each, by its name."""


@router.post("/uploads", status_code=201)
async def upload(request: Request, name: str) -> Any:
    """Keep the body as a splat file named `name`, if it can be read; returns its name here."""
    suffix = results.check_readable(name)
    folder = _root(request) / UPLOADS
    refuse_if_lost(folder.parent, MOVED)
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{TEMPORARY}{os.getpid()}-"  # the next server sweeps it away if this one is killed
    with (
        _refusing_as(folder),
        tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, suffix=suffix, delete=False) as file,
    ):
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
    folder = root / UPLOADS / CONVERTED / name
    written = await asyncio.to_thread(
        lambda: results.write_for(target, _read(path, name), title, folder)
    )
    url = f"/api/converted/{name}/{written.path.name}"
    size = written.path.stat().st_size
    _make_room(root / UPLOADS, name)
    return {"url": url, "file": written.path.name, "hint": written.hint, "bytes": str(size)}


@router.get("/converted/{upload}/{name}")
async def get_converted(request: Request, upload: str, name: str) -> Response:
    """A file that `convert` has written of an upload."""
    root = _root(request)
    inside = f"{CONVERTED}/{checks.upload_path(root, upload).name}"
    path = checks.upload_path(root, name, inside=inside)
    return FileAnswer(path, media_type="application/octet-stream", filename=path.name)


def _root(request: Request) -> Path:
    return request.app.state.queue.runs.root


def _read(path: Path, name: str) -> Splats:
    try:
        splats, _ = clean(read_splats(path), Cleaning())
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from error
    return splats


@contextlib.contextmanager
def _refusing_as(folder: Path) -> Iterator[None]:
    """What the disk refuses names the folder: a write to an open file names nothing itself."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error


def _make_room(folder: Path, kept: str) -> None:
    """Delete the oldest while there is too much."""
    # Without what is arriving: another request's.
    files = [path for path in folder.iterdir() if not path.name.startswith(TEMPORARY)]
    files = [path for path in files if path.is_file() and path.name != kept]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in (folder / kept, *files):
        made = folder / CONVERTED / path.name
        total += path.stat().st_size + sum(_size(file) for file in made.glob("*"))
        if total > MOST_IN_ALL and path.name != kept:
            with contextlib.suppress(OSError):
                path.unlink()
            shutil.rmtree(made, ignore_errors=True)


def _size(path: Path) -> int:
    """In bytes; 0 for one that has been renamed since it was listed, as those are that are being
    written."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
