"""Server-sent events: the state of the runs, and frames of a splat that forms.

Events tell states, not changes: each carries all there is to say of a run, and one that nobody took
in time is replaced by the next. So a slow listener costs no memory, and one that comes back has
missed nothing.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from gs_ssd.errors import UserError
from gs_ssd.studio import stream
from gs_ssd.studio.queue import Queue

router = APIRouter(prefix="/api")
PACE_S = 0.1  #: the least time between two events
HEARTBEAT_S = 15.0
LOOK_S = 5.0
"""Between two looks at the folder."""
OVER = ("done", "stopped", "failed", "interrupted")
KIND = "text/event-stream"


@router.get("/events")
async def all_events(request: Request) -> StreamingResponse:
    """`runs` with all runs, at first and whenever the list changes; `run` for each that changes."""
    return StreamingResponse(_all(request.app.state.queue), media_type=KIND)


@router.get("/runs/{name}/events")
async def run_events(request: Request, name: str) -> StreamingResponse:
    """`run` with the state of one run whenever it changes; ends when the run does."""
    queue: Queue = request.app.state.queue
    queue.runs.folder(name)
    return StreamingResponse(_one(queue, name), media_type=KIND)


@router.get("/runs/{name}/frame")
async def frame(request: Request, name: str, after: int = 0) -> Response:
    """The newest frame of a run as splats, once it is newer than `after`; 204: there is none within
    some seconds, or the run is over.

    A request that waits is a watcher: without one no frames are made.
    """
    queue: Queue = request.app.state.queue
    queue.runs.folder(name)
    live = queue.watching(name)
    for _ in range(int(HEARTBEAT_S / PACE_S)):
        if not live.worker or queue.closing or await request.is_disconnected():
            break
        if live.frame and live.frame_number > after:
            headers = {"X-Frame": str(live.frame_number)}
            return Response(live.frame, media_type=stream.MEDIA_TYPE, headers=headers)
        await asyncio.sleep(PACE_S)
    return Response(status_code=204)


class _Changes:
    """The names of what has changed since they were last taken."""

    def __init__(self, queue: Queue, only: str | None = None) -> None:
        self._names: dict[str, None] = {}
        self._there, self._only = asyncio.Event(), only
        self.end = queue.listen(self._note)

    def _note(self, name: str) -> None:
        if self._only in (None, name) or not name:
            self._names[name] = None
            self._there.set()

    async def take(self, patience_s: float = LOOK_S) -> list[str]:
        """Wait for some; nothing after so many seconds."""
        try:
            await asyncio.wait_for(self._there.wait(), patience_s)
        except TimeoutError:
            return []
        names, self._names = list(self._names), {}
        self._there.clear()
        return names


async def _all(queue: Queue) -> AsyncIterator[bytes]:
    changes, known, states = _Changes(queue), None, {}
    looked = 0.0
    try:
        while not queue.closing:
            if time.monotonic() > looked + LOOK_S:  # runs also come and go without the queue
                looked, names = time.monotonic(), queue.names()
                if names != known:
                    described = [run for name in names if (run := queue.describe(name))]
                    states = {run["name"]: run["state"] for run in described}
                    yield _event("runs", described)
                known = names
            changed = await changes.take()
            if not changed:
                yield b": still here\n\n"
            for name in filter(None, changed):
                run = queue.describe(name)
                if run is not None:
                    yield _event("run", run)
                if run is None or run["state"] != states.get(name):
                    looked = 0.0  # the order is another
            await asyncio.sleep(PACE_S)
    finally:
        changes.end()


async def _one(queue: Queue, name: str) -> AsyncIterator[bytes]:
    changes = _Changes(queue, name)
    try:
        while not queue.closing:
            run = queue.describe(name)
            if run is None:
                return
            yield _event("run", run)
            if run["state"] in OVER:
                return
            while not await changes.take(HEARTBEAT_S) and not queue.closing:
                yield b": still here\n\n"
            await asyncio.sleep(PACE_S)
    except UserError:  # thrown away meanwhile
        return
    finally:
        changes.end()


def _event(kind: str, data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
