"""Runs over HTTP: submit, look, steer, star, throw away, export, download."""

import asyncio
import contextlib
import functools
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.export.formats import read_splats
from gs_ssd.files import slug
from gs_ssd.guidance.estimators import ESTIMATORS
from gs_ssd.prior.described import OURS
from gs_ssd.studio import checks, form, presets, results, stream
from gs_ssd.studio.bodies import JsonRoute
from gs_ssd.studio.file_answer import FileAnswer
from gs_ssd.studio.queue import Queue
from gs_ssd.studio.runs import GROWING, PLY, TRASH

router = APIRouter(prefix="/api", route_class=JsonRoute)
SANDBOX = {"Content-Security-Policy": "sandbox allow-scripts allow-downloads"}
"""For pages that lie in a run's folder: they are no part of ours, and cannot act as ours."""


class Fork(BaseModel):
    """A checkpoint of another run to begin from."""

    model_config = ConfigDict(extra="forbid")
    run: str
    completed: int


class Wish(BaseModel):
    """What is to be made."""

    model_config = ConfigDict(extra="forbid")
    prompt: str
    preset: str | None = "quick"
    """A name of `/api/form`'s presets; null: the program's defaults."""
    settings: dict[str, Any] = {}
    """By dotted name, as `gs-ssd train` takes them."""
    name: str | None = None
    """Of the run's folder; by default made of the prompt."""
    anyway: bool = False
    """Try a prompt that the prior does not know."""
    fork: Fork | None = None
    """Begin from a checkpoint; its run's settings take the preset's place."""
    start: Annotated[str | None, Field(max_length=300)] = None
    """Begin from a splat: the name of an upload, or `run:NAME`."""

    @property
    def checkpoint(self) -> tuple[str, int] | None:
        """Run and steps of the checkpoint to begin from."""
        return None if self.fork is None else (self.fork.run, self.fork.completed)


def queue_of(request: Request) -> Queue:
    """The queue that the application serves."""
    return request.app.state.queue


def _maker(request: Request) -> Queue:
    """The queue, if it takes new work."""
    if not request.app.state.makes:
        raise UserError("this page shows a run of `gs-ssd train`; `gs-ssd studio` makes others")
    return queue_of(request)


def _composed(request: Request, wish: Wish) -> ExperimentConfig:
    queue = _maker(request)
    settings, base = dict(wish.settings), None
    if wish.fork is not None:
        base = queue.runs.facts(wish.fork.run).settings
    if wish.start is not None:
        file = _start_file(queue, wish.start)
        settings |= {"initialize.shape": "splat", "initialize.file": str(file)}
    config = checks.compose(wish.prompt, wish.preset, settings, base)
    if wish.fork is not None and config.num_steps <= wish.fork.completed:
        raise UserError(
            f"num_steps is {config.num_steps}, and the checkpoint has {wish.fork.completed} steps"
            " behind it; ask for more"
        )
    if request.app.state.open_to_others:
        checks.refuse_paths(config, queue.runs.root)
    return config


def _start_file(queue: Queue, start: str) -> Path:
    name = start.removeprefix("run:")
    if name == start:
        return checks.upload_path(queue.runs.root, start)
    path = queue.runs.folder(name) / PLY
    if not path.is_file():
        raise UserError(f"{name} is not finished; a run begins from a finished one")
    return path


@router.get("/form")
async def get_form() -> dict[str, Any]:
    """What the form offers: presets, estimators, all settings, the words that each model of ours
    knows."""
    return await asyncio.to_thread(describe_form)


@functools.cache
def describe_form() -> dict[str, Any]:
    """The same for as long as the program runs; a second's work."""
    return {
        "presets": presets.described(),
        "estimators": list(ESTIMATORS),
        "fields": form.fields(),
        "sections": form.sections(),
        "vocabularies": {model: checks.vocabulary(model) for model in OURS},
        "targets": results.targets(),
        "readable": results.READABLE,
    }


@router.post("/check")
async def check(request: Request, wish: Wish) -> dict[str, Any]:
    """Whether it can run, without running it: `error`, or `notes` about what would be ignored."""
    try:
        config = await asyncio.to_thread(_composed, request, wish)
        queue_of(request).check(wish.name, wish.checkpoint)
        notes = await asyncio.to_thread(checks.warnings_of, config, anyway=wish.anyway)
    except UserError as error:
        text, mark, _ = str(error).partition(" (--anyway ")
        return {"error": text, "notes": [], "num_steps": None, "may_try": bool(mark)}
    return {
        "error": None,
        "notes": notes,
        "num_steps": config.num_steps,
        "estimator": config.guidance.estimator,
        "model": config.prior.model,
    }


@router.post("/runs", status_code=201)
async def submit(request: Request, wish: Wish) -> dict[str, Any]:
    """Put a run at the end of the queue."""
    queue = queue_of(request)
    config = await asyncio.to_thread(_composed, request, wish)
    await asyncio.to_thread(checks.warnings_of, config, anyway=wish.anyway)
    name = queue.submit(config, name=wish.name, anyway=wish.anyway, fork=wish.checkpoint)
    return _described(queue, name)


@router.get("/runs")
async def list_runs(request: Request) -> list[dict[str, Any]]:
    """All runs: those that run, those that wait in their order, then the newest first."""
    queue = queue_of(request)
    described = (queue.describe(name) for name in queue.names())
    return [run for run in described if run is not None]


@router.get("/runs/{name}")
async def get_run(request: Request, name: str) -> dict[str, Any]:
    """One run's state."""
    return _described(queue_of(request), name)


@router.get("/runs/{name}/settings")
async def get_settings(request: Request, name: str) -> dict[str, Any]:
    """The settings that a run was made with."""
    return queue_of(request).runs.facts(name).settings


@router.post("/runs/{name}/stop")
async def stop(request: Request, name: str) -> dict[str, Any]:
    """Save a run and end it, or take one that waits out of the queue."""
    queue_of(request).stop(name)
    return _described(queue_of(request), name)


@router.post("/runs/{name}/continue")
async def resume(request: Request, name: str) -> dict[str, Any]:
    """Continue a paused run at once, any other from its newest checkpoint when it is its turn."""
    queue = queue_of(request)
    if _described(queue, name)["state"] == "paused":
        queue.pause(name, on=False)
    else:
        _maker(request).resume(name)
    return _described(queue, name)


@router.post("/runs/{name}/pause")
async def pause(request: Request, name: str) -> dict[str, Any]:
    """Hold a run between two steps."""
    queue_of(request).pause(name, on=True)
    return _described(queue_of(request), name)


@router.put("/runs/{name}/star")
async def star(request: Request, name: str) -> dict[str, Any]:
    """Mark a run."""
    queue_of(request).star(name, on=True)
    return _described(queue_of(request), name)


@router.delete("/runs/{name}/star")
async def unstar(request: Request, name: str) -> dict[str, Any]:
    """Take the mark away."""
    queue_of(request).star(name, on=False)
    return _described(queue_of(request), name)


@router.delete("/runs/{name}")
async def discard(request: Request, name: str) -> dict[str, str]:
    """Move a run to the trash, a folder; its name there leads back."""
    return {"trashed": queue_of(request).discard(name), "folder": TRASH}


@router.get("/trash")
async def list_trash(request: Request) -> list[str]:
    """What lies in the trash, newest first."""
    return queue_of(request).runs.trash()


@router.post("/trash/{trashed}/restore")
async def restore(request: Request, trashed: str) -> dict[str, Any]:
    """Take a run out of the trash."""
    queue = queue_of(request)
    return _described(queue, queue.restore(trashed))


@router.get("/runs/{name}/splats")
async def get_splats(request: Request, name: str, completed: int | None = None) -> Response:
    """What there is of a run, for the page: the finished splat, or a checkpoint's."""
    runs = queue_of(request).runs

    def read() -> bytes:
        splats = results.splats_of(runs, name, completed)
        return stream.to_bytes(splats, about={"completed": completed})

    return Response(await asyncio.to_thread(read), media_type=stream.MEDIA_TYPE)


@router.get("/runs/{name}/picture")
async def get_picture(request: Request, name: str) -> Response:
    """A small picture (WebP); 204 while there is none."""
    folder = queue_of(request).runs.folder(name)
    picture = await asyncio.to_thread(results.picture_of, folder)
    return Response(picture, 204 if picture is None else 200, media_type="image/webp")


@router.post("/runs/{name}/exports/{target}")
async def export(request: Request, name: str, target: str) -> dict[str, str]:
    """Write a run for some engine or viewer, as it is now; returns the file's address and how to
    import it."""
    queue = queue_of(request)
    snapshot = await queue.snapshot(name)
    described = _described(queue, name)
    title, folder = described["prompt"], queue.runs.folder(name) / "exports"

    def write() -> results.Written:
        stem = slug(title, "splat")
        if described["state"] != "done":  # the finished splat's export bears another name
            stem = f"{stem}.step_{described['completed']:06d}"
        if snapshot is not None:
            with contextlib.suppress(UserError):  # over by now: its checkpoint has as much
                return results.write_for(target, read_splats(snapshot), title, folder, stem)
        return results.write_for(target, results.splats_of(queue.runs, name), title, folder, stem)

    written = await asyncio.to_thread(write)
    url = f"/api/runs/{name}/files/exports/{written.path.name}"
    size = written.path.stat().st_size
    return {"url": url, "file": written.path.name, "hint": written.hint, "bytes": str(size)}


@router.get("/runs/{name}/files/{inside:path}")
async def get_file(request: Request, name: str, inside: str, download: bool = False) -> Response:
    """One of a run's files."""
    path, kind = queue_of(request).runs.file(name, inside)
    as_file = download or inside.startswith("exports/")
    headers = SANDBOX if kind == "text/html" or path.suffix == ".html" else {}
    answer = FileAnswer(
        path,
        media_type=kind,
        filename=f"{name}-{path.name}" if download else path.name,
        content_disposition_type="attachment" if as_file else "inline",
        headers=headers,
    )
    if inside not in GROWING:
        return answer
    # A file's answer says a length, then sends what is there: more by now, which ends in an error.
    lines = await asyncio.to_thread(path.read_bytes)
    place = answer.headers["content-disposition"]
    return Response(
        lines[: lines.rfind(b"\n") + 1], media_type=kind, headers={"content-disposition": place}
    )


def _described(queue: Queue, name: str) -> dict[str, Any]:
    described = queue.describe(name)
    if described is None:
        raise UserError(f"there is no run {name!r}")
    return described
