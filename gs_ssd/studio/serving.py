"""Where a server listens, and for how long: what `studio`, `serve`, `view` and `train --viewer`
share."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from gs_ssd import interrupts
from gs_ssd.errors import UserError
from gs_ssd.studio import entry
from gs_ssd.studio.connections import Connection
from gs_ssd.studio.guard import is_loopback

LAST_S = 5
"""For connections that are open when the server ends."""
SHORTEST_TOKEN = 16


def token_for(host: str, asked: str | None) -> str | None:
    """The token that requests must show; None: none is needed.

    Raises:
        UserError: one that could be guessed.
    """
    if asked is not None and len(asked) < SHORTEST_TOKEN:
        raise UserError(f"--token: use at least {SHORTEST_TOKEN} characters")
    return asked or (None if is_loopback(host) else entry.new_token())


def listening(host: str, port: int, options: str = "--host, --port") -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"there is no port {port}; choose one within 0..65535 with {options}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(
            f"cannot listen on {host}, port {port} ({error}); choose another with {options}"
        ) from error


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return entry.address(name, port, token)


class Server(uvicorn.Server):
    """Serves an application. `begin_shutdown` is called before it waits for connections, so that
    those that stream events end themselves."""

    def __init__(self, app: Any, begin_shutdown: Callable[[], None] = lambda: None) -> None:
        super().__init__(_settings(app))
        self._begin_shutdown = begin_shutdown

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin the end."""
        self._begin_shutdown()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to whoever runs the server."""
        yield


def serve_until_interrupted(
    app: Any,
    listening: socket.socket,
    begin_shutdown: Callable[[], None] = lambda: None,
    *,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve in this thread until Ctrl-C, which is how it is meant to end.

    `ready` is called once Ctrl-C ends it well: the place to say the address.

    Raises:
        Terminated: at SIGTERM or SIGHUP, once what was under way has ended.
    """
    server = Server(app, begin_shutdown)
    with interrupts.collected(lambda: setattr(server, "should_exit", True)) as received:
        ready()
        asyncio.run(server.serve(sockets=[listening]))
    if received and received[0] != signal.SIGINT:
        raise interrupts.Terminated(received[0])
    print()


def _settings(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level=logging.ERROR,  # what clients do wrong is answered, and nobody here's concern
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_S,
    )
