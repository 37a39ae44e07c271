"""`Guard` before a page server built on websockets that has no such check of its own: viser."""

import contextlib
import http
import inspect
import logging
import threading
from collections.abc import Iterator
from typing import Any

from gs_ssd.viewer.guard import Guard

_patching = threading.Lock()


class _OneLine(logging.Filter):
    """What goes wrong with one connection, in one line; handshakes that failed, in none."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(("opening handshake failed", "connection rejected")):
            return False
        if record.exc_info and record.exc_info[0] is not None:
            text = f"the live view ended a connection: {text} ({record.exc_info[0].__name__})"
            record.msg, record.args, record.exc_info = text, (), None
        return True


@contextlib.contextmanager
def guarded_websockets(guard: Guard) -> Iterator[threading.Event]:
    """Servers that websockets makes within, in whatever thread, first ask `guard`.

    A request that it refuses, for a file or a WebSocket, is answered with 403 and never reaches the
    server's own code. Yields an event that is set once a server was made: if it is not, the server
    must not be used, as it listens unguarded.
    """
    import websockets.asyncio.server as module

    original, called = module.serve, threading.Event()
    logger = logging.getLogger(f"{__name__}.connections")
    if not logger.filters:
        logger.addFilter(_OneLine())

    def serve(*args: Any, process_request: Any = None, **options: Any) -> Any:
        async def ask(connection: Any, request: Any) -> Any:
            refusal = guard.refusal(
                request.headers.get_all("Host"), request.headers.get_all("Origin")
            )
            if refusal is not None:
                return connection.respond(http.HTTPStatus.FORBIDDEN, f"{refusal}\n")
            answer = process_request(connection, request) if process_request is not None else None
            return await answer if inspect.isawaitable(answer) else answer

        called.set()
        options.setdefault("logger", logger)
        return original(*args, process_request=ask, **options)

    with _patching:
        module.serve = serve  # type: ignore[assignment]
        try:
            yield called
        finally:
            module.serve = original
