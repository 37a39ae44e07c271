"""The studio's page over a training in this very process: `gs-ssd train --viewer`.

The server runs in a thread of its own; the training tells it what happens, and asks between two
steps what is wished.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gs_ssd.events import Event, Stepped
from gs_ssd.studio import serving
from gs_ssd.studio.app import create_app
from gs_ssd.studio.guard import Guard
from gs_ssd.studio.queue import Queue
from gs_ssd.studio.runs import RunsFolder
from gs_ssd.studio.worker import Reporter, Steering
from gs_ssd.trainer import Trainer

GRACE_S = 1.0
"""For pages to learn that the run is over."""


class _ThisProcess:
    """What a queue takes for a worker: the training in this process."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    def send(self, **wish: Any) -> None:
        self._steering.take(wish)

    def kill(self) -> None:
        self._steering.take({"stop": True})


class _QueueChannel:
    """What a reporter takes for its channel: the queue on the server's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: Queue, name: str) -> None:
        self._loop, self._queue, self._name = loop, queue, name

    def send(self, message: Mapping[str, Any], data: bytes = b"") -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._queue.receive, self._name, dict(message), data)


@contextlib.contextmanager
def shown(trainer: Trainer, host: str, port: int) -> Iterator[tuple[str, Callable[[Event], None]]]:
    """Serve the page while the training runs. Yields its address, and what is to be told every
    event.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    folder = trainer.folder.resolve()
    runs, token = RunsFolder(folder.parent), serving.token_for(host, None)
    with serving.listening(host, port, "--viewer-host, --viewer-port") as sock:
        address = serving.address(host, sock.getsockname()[1], token)
        server = _Server(runs, folder.name, host, token, sock)
        try:
            yield f"{address}#/run/{folder.name}", server.begin(trainer)
        finally:
            server.end()


class _Server:
    """A thread with a loop with the application."""

    def __init__(
        self, runs: RunsFolder, name: str, host: str, token: str | None, sock: socket.socket
    ) -> None:
        self.runs, self.name, self.host, self.token, self.sock = runs, name, host, token, sock
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def begin(self, trainer: Trainer) -> Callable[[Event], None]:
        """Start it; returns what is told every event."""
        self._thread.start()
        self._ready.wait()
        steering = Steering()
        channel: Any = _QueueChannel(self.loop, self.queue, self.name)
        reporter, here = Reporter(channel, steering, trainer), _ThisProcess(steering)
        steps = trainer.config.num_steps
        self.loop.call_soon_threadsafe(self.queue.attach, self.name, here, steps, trainer.completed)

        def tell(event: Event) -> None:
            reporter.tell(event)
            if isinstance(event, Stepped):
                reporter.between_steps()
            if steering.stopping:
                trainer.stop()

        return tell

    def end(self) -> None:
        """Say that the run is over, and end the server."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.queue.detach, self.name)
            self.loop.call_soon_threadsafe(
                self.loop.call_later, GRACE_S, setattr, self.server, "should_exit", True
            )
        self._thread.join(GRACE_S + 2 * serving.LAST_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self.queue = Queue(self.runs, at_once=0, spare=False)
        app = create_app(self.queue, Guard(self.host), token=self.token, makes=False)
        self.server = serving.Server(app, self.queue.begin_shutdown)
        self._ready.set()
        await self.server.serve(sockets=[self.sock])
