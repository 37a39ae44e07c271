"""Where a server listens, and who may ask: what `studio`, `serve` and `train --viewer` share."""

import logging
import socket
from typing import Any

import uvicorn

from gs_ssd.errors import UserError
from gs_ssd.studio import entry
from gs_ssd.studio.queue import Queue
from gs_ssd.viewer.guard import is_loopback

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
    """Serves an application; `queue.closing` is set before it waits for connections, so that those
    that stream events end themselves."""

    def __init__(self, app: Any, queue: Queue) -> None:
        super().__init__(_settings(app))
        self._queue = queue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin the end."""
        self._queue.say_goodbye()
        await super().shutdown(sockets)


def _settings(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_S,
        ws="none",
        limit_concurrency=256,
    )
